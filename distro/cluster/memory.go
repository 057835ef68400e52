// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The garbage collector's targets (GOGC; Go's default is 100) until the cluster is
// ready and afterwards. What the start leaves behind stays for good, as it holds
// fragments of the heap that grew largest then: with 100 the start is a quarter of
// a second faster and 30 MiB are never given back. Idle the heap hardly grows, so
// that a small target costs little time. Whoever sets GOGC decides alone.
const (
	startGC = 50
	idleGC  = 30
)

func setGC(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// settle trades time for memory after the start.
func settle() {
	setGC(idleGC)
	debug.FreeOSMemory()
	if err := forgetStartCode(); err != nil {
		slog.Debug("unmap the binary's pages", "err", err)
	}
}

// forgetStartCode takes the binary's pages out of this process's page tables.
// What still runs comes back with a minor fault; what only ran at the start does
// not (30 MiB), and the kernel may now evict it like any file it has read.
func forgetStartCode() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for _, m := range constantMappings(f, exe) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

type mapping struct{ start, end uintptr }

// constantMappings finds the mappings of file that nobody can have written to,
// in the text of /proc/<pid>/maps, proc(5).
func constantMappings(maps io.Reader, file string) []mapping {
	var out []mapping
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 6 || f[5] != file || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			out = append(out, mapping{uintptr(start), uintptr(end)})
		}
	}
	return out
}
