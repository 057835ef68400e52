// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, which Linux fixes at 100 for /proc on every architecture
// that Go runs on.
const ticks = 100

// statFields are the fields of /proc/PID/stat from the third on (proc(5)).
func statFields(pid string) ([]string, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return nil, fmt.Errorf("/proc/%s/stat: unexpected %q", pid, b)
	}
	return f, nil
}

// cpuSeconds is the process's user and system time.
func cpuSeconds(pid string) (float64, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	u, err1 := strconv.ParseFloat(f[11], 64)
	s, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%s/stat: times %q %q", pid, f[11], f[12])
	}
	return (u + s) / ticks, nil
}

// started is when the process began, to a hundredth of a second.
func started(pid string) (time.Time, error) {
	f, err := statFields(pid)
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(f[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var boot, real unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, err
	}
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &real); err != nil {
		return time.Time{}, err
	}
	return time.Unix(real.Unix()).Add(time.Duration(n)*time.Second/ticks - time.Duration(boot.Nano())), nil
}

// statusMiB are the memory lines of /proc/PID/status, in MiB.
func statusMiB(pid string) (map[string]float64, error) {
	return kibibytes("/proc/"+pid+"/status", "")
}

// pssMiB is the process's proportional memory, in MiB.
func pssMiB(pid string) (float64, error) {
	m, err := kibibytes("/proc/"+pid+"/smaps_rollup", "")
	return m["Pss"], err
}

// guestPSSMiB is that part of QEMU's proportional memory that is the guest's.
func guestPSSMiB(pid string) (float64, error) {
	m, err := kibibytes("/proc/"+pid+"/smaps", "/memfd:memory-backend")
	return m["Pss"], err
}

// kibibytes adds up the "Name: N kB" lines of a file; with a mapping given only
// those below headers that name it.
func kibibytes(file, mapping string) (map[string]float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m, in := map[string]float64{}, mapping == ""
	for _, l := range strings.Split(string(b), "\n") {
		f := strings.Fields(l)
		if len(f) == 3 && f[2] == "kB" {
			if v, err := strconv.ParseFloat(f[1], 64); err == nil && in {
				m[strings.TrimSuffix(f[0], ":")] += v / 1024
			}
		} else if mapping != "" && len(f) >= 5 && strings.Contains(f[0], "-") && !strings.HasSuffix(f[0], ":") {
			in = strings.Contains(l, mapping)
		}
	}
	return m, nil
}

// comm is the process's name.
func comm(pid string) string {
	b, _ := os.ReadFile("/proc/" + pid + "/comm")
	return strings.TrimSpace(string(b))
}
