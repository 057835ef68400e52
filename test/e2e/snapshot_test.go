// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// snapshot is what a machine has that a cluster could leave behind: one set of
// lines per kind of thing.
type snapshot map[string][]string

// takeSnapshot reads the machine's state. Processes are those that share this
// test's network namespace, which it has to itself.
func takeSnapshot() (snapshot, error) {
	s := snapshot{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for _, l := range strings.Split(strings.TrimSpace(string(mounts)), "\n") {
		f := strings.Fields(l)
		if len(f) > 4 {
			s["mounts"] = append(s["mounts"], f[4])
		}
	}
	if s["links"], err = lines(regexp.MustCompile(`^\d+: ([^:@]+)`), "ip", "-o", "link"); err != nil {
		return nil, err
	}
	if s["addresses"], err = lines(nil, "ip", "-o", "addr", "show", "scope", "global"); err != nil {
		return nil, err
	}
	if s["routes"], err = lines(nil, "ip", "route"); err != nil {
		return nil, err
	}
	if s["nft"], err = lines(nil, "nft", "list", "ruleset"); err != nil {
		return nil, err
	}
	if s["loop devices"], err = lines(nil, "losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"/run/netns", "/var/run/netns", "/dev/shm"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			s["namespaces"] = append(s["namespaces"], filepath.Join(dir, e.Name()))
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			s["cgroups"] = append(s["cgroups"], p)
		}
		return nil // a cgroup that goes while we walk is no error
	})
	if s["processes"], err = processesHere(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/skerry", "/run/skerry", "/etc/systemd/system/skerry.service"} {
		if _, err := os.Lstat(dir); err == nil {
			s["files"] = append(s["files"], dir)
		}
	}
	for k := range s {
		sort.Strings(s[k])
	}
	return s, nil
}

// lines runs a command and returns its lines, or the first group of re in each.
func lines(re *regexp.Regexp, name string, args ...string) ([]string, error) {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	var all []string
	for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if re != nil {
			m := re.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			l = m[1]
		}
		if l != "" {
			all = append(all, l)
		}
	}
	return all, nil
}

// processesHere lists the processes in our network namespace, without ourselves.
func processesHere() ([]string, error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, d := range dirs {
		ns, err := os.Readlink(filepath.Join(d, "ns/net"))
		if err != nil || ns != own || d == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		cmd, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || len(cmd) == 0 {
			continue
		}
		args := bytes.Split(bytes.TrimRight(cmd, "\x00"), []byte{0})
		name := filepath.Base(string(args[0]))
		// The test's own parents and children.
		if slices.Contains([]string{"go", "e2e.test", "bash", "sh", "make", "tee", "nsenter"}, name) {
			continue
		}
		all = append(all, filepath.Base(d)+" "+string(bytes.Join(args, []byte(" "))))
	}
	return all, nil
}

// leftBehind says what is there now that was not there before. What the kernel
// takes away a moment later (dying cgroups and namespaces) is waited for.
func leftBehind(before snapshot) string {
	end := time.Now().Add(time.Minute)
	for {
		after, err := takeSnapshot()
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for kind, now := range after {
			for _, l := range now {
				if !slices.Contains(before[kind], l) {
					fmt.Fprintf(&b, "  %s: %s\n", kind, l)
				}
			}
		}
		if b.Len() == 0 || time.Now().After(end) {
			return b.String()
		}
		time.Sleep(200 * time.Millisecond)
	}
}
