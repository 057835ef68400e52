// SPDX-License-Identifier: Apache-2.0

// Package mounts reads the kernel's lists of mounts. It must never change one.
package mounts

import (
	"os"
	"strconv"
	"strings"
)

// Unescape undoes the octal escapes of /proc/PID/mounts and mountinfo (proc(5)):
// a blank is \040 there.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// CgroupHierarchies are the mount points of all cgroup hierarchies: one with
// version 2, one for each group of controllers with version 1.
func CgroupHierarchies() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			points = append(points, Unescape(f[1]))
		}
	}
	return points, nil
}
