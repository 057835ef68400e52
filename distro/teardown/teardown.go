// SPDX-License-Identifier: Apache-2.0

package teardown

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/distro/mounts"
)

// Target names all that belongs to one cluster.
type Target struct {
	// DataDir and RunDir are the cluster's directories; both are removed.
	DataDir, RunDir string
	// KubeletDirs are directories that every kubelet has at the same place,
	// whatever its root is. They are removed, and their parents if empty.
	KubeletDirs []string
	// SharedFiles are patterns (filepath.Match) of the cluster's files in
	// directories that it shares with others. The directories go if empty.
	SharedFiles []string
	// Bridge is the pods' bridge.
	Bridge string
	// CNIStateDir is where the node agent remembers to which networks it attached
	// pods by the plugins in CNIBinDir; empty: to none.
	CNIBinDir, CNIStateDir string
	// NFTables are the tables that kube-proxy, the CNI plugins and the cluster
	// make, as "family name".
	NFTables []string
	// CgroupRoot is the directory, relative to each hierarchy's root, below
	// which the kubelet keeps its pods ("/skerry", "/kubepods.slice").
	CgroupRoot string
	// Sysctls are restored to these values ("net/ipv4/ip_forward" → "0").
	Sysctls map[string]string
}

// Step reports what is being removed and what came of it.
type Step func(what string, err error)

// step is one kind of thing to take away.
type step struct {
	what string
	do   func(context.Context, Target) error
}

// running are the steps that end what runs; the data stays.
var running = []step{
	{"processes", killProcesses},
	{"network attachments", detachAll},
	{"mounts and network namespaces", unmountAll},
	{"links", removeLinks},
	{"nft tables", removeTables},
	{"cgroups", removeCgroups},
	{"sysctls", restoreSysctls},
}

// Stop ends all that runs and keeps the data, as a reboot would.
func Stop(ctx context.Context, t Target, report Step) error { return do(ctx, t, report, running) }

// Remove ends all that runs and removes the data.
func Remove(ctx context.Context, t Target, report Step) error {
	return do(ctx, t, report, append(slices.Clone(running), step{"files", removeFiles}))
}

// do goes on after a failed step, so that one busy mount does not keep the rest,
// and returns all errors joined.
func do(ctx context.Context, t Target, report Step, steps []step) error {
	if t.DataDir == "" || t.RunDir == "" || t.DataDir == "/" || t.RunDir == "/" {
		return fmt.Errorf("data directory %q and run directory %q must both be named", t.DataDir, t.RunDir)
	}
	var all error
	for _, s := range steps {
		err := s.do(ctx, t)
		report(s.what, err)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("remove %s: %w", s.what, err))
		}
	}
	return all
}

// killProcesses ends containerd, the shims and everything in the pods' cgroups,
// and waits until they are gone.
func killProcesses(ctx context.Context, t Target) error {
	for {
		pids, err := clusterProcesses(t)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v did not end: %w", pids, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Terminate asks the containers' processes to end (SIGTERM) and waits until they
// did or the context ends. containerd and the shims are left alone: they reap them.
func Terminate(ctx context.Context, t Target) error {
	asked := map[int]bool{}
	for {
		pids, err := processes(func(_, cgroups string) bool { return ownsCgroup(t, cgroups) })
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if asked[pid] {
				continue
			}
			asked[pid] = true
			if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("ask process %d to end: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes did not end when asked: %w", len(pids), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// clusterProcesses finds containerd and its shims by the run directory in their
// command lines, and the containers by their cgroups.
func clusterProcesses(t Target) ([]int, error) {
	return processes(func(cmdline, cgroups string) bool { return ownsCommand(t, cmdline) || ownsCgroup(t, cgroups) })
}

// processes lists those for which mine says yes to their command line and cgroups.
func processes(mine func(cmdline, cgroups string) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		cgroups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if mine(string(cmd), string(cgroups)) && !zombie(e.Name()) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ownsCommand tells containerd and its shims by their names and by an argument
// that lies in one of the cluster's directories.
func ownsCommand(t Target, cmdline string) bool {
	args := strings.Split(strings.TrimRight(cmdline, "\x00"), "\x00")
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd") {
		return false
	}
	for _, a := range args[1:] {
		if within(a, t.RunDir) || within(a, t.DataDir) {
			return true
		}
	}
	return false
}

// ownsCgroup reads the text of /proc/PID/cgroup.
func ownsCgroup(t Target, cgroups string) bool {
	if t.CgroupRoot == "" || t.CgroupRoot == "/" {
		return false
	}
	for _, l := range strings.Split(cgroups, "\n") {
		if f := strings.SplitN(l, ":", 3); len(f) == 3 && within(f[2], t.CgroupRoot) {
			return true
		}
	}
	return false
}

func zombie(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return true
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}

// within tells whether path is dir or lies below it.
func within(path, dir string) bool {
	dir = strings.TrimRight(dir, "/")
	return dir != "" && (path == dir || strings.HasPrefix(path, dir+"/"))
}

// unmountAll unmounts, deepest first, what is mounted in the cluster's directories.
func unmountAll(_ context.Context, t Target) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	points := mountsWithin(string(b), t.DataDir, t.RunDir)
	var all error
	for i := len(points) - 1; i >= 0; i-- {
		err := unix.Unmount(points[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			all = errors.Join(all, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return all
}

// mountsWithin picks the mount points below dirs out of /proc/self/mountinfo's
// text, in the order in which they were mounted. A directory that is a mount point
// itself (a disk of its own for the data) is not the cluster's to unmount.
func mountsWithin(mountinfo string, dirs ...string) []string {
	var found []string
	for _, l := range strings.Split(mountinfo, "\n") {
		f := strings.Fields(l)
		if len(f) < 5 {
			continue
		}
		// Blanks and the like are octal escapes there (proc(5)).
		point := mounts.Unescape(f[4])
		for _, d := range dirs {
			if within(point, d) && point != strings.TrimRight(d, "/") {
				found = append(found, point)
				break
			}
		}
	}
	return found
}

// removeCgroups removes the pods' cgroups, deepest first, in every hierarchy.
func removeCgroups(ctx context.Context, t Target) error {
	if t.CgroupRoot == "" || t.CgroupRoot == "/" {
		return nil
	}
	roots, err := mounts.CgroupHierarchies()
	if err != nil {
		return err
	}
	for _, r := range roots {
		top := filepath.Join(r, t.CgroupRoot)
		if err := removeCgroup(ctx, top); err != nil {
			return err
		}
	}
	return nil
}

func removeCgroup(ctx context.Context, top string) error {
	for {
		var dirs []string
		err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		if err != nil || len(dirs) == 0 {
			return err
		}
		var last error
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				last = fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
			}
		}
		if last == nil {
			return nil
		}
		// Killed processes leave their cgroup a moment later.
		select {
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func restoreSysctls(_ context.Context, t Target) error {
	var all error
	for name, value := range t.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

func removeFiles(_ context.Context, t Target) error {
	// A mount that could not be unmounted must not be emptied through.
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if left := mountsWithin(string(b), t.DataDir, t.RunDir); len(left) > 0 {
		return fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	all := errors.Join(removeTree(t.RunDir), removeTree(t.DataDir))
	for _, d := range t.KubeletDirs {
		all = errors.Join(all, os.RemoveAll(d))
		_ = os.Remove(filepath.Dir(d)) // only if it is empty
	}
	for _, pattern := range t.SharedFiles {
		files, err := filepath.Glob(pattern)
		all = errors.Join(all, err)
		for _, f := range files {
			all = errors.Join(all, os.RemoveAll(f))
		}
		dir := filepath.Dir(pattern)
		if os.Remove(dir) == nil { // likewise
			_ = os.Remove(filepath.Dir(dir))
		}
	}
	return all
}

// removeTree removes a directory; of one that is a mount point only what is in it.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, unix.EBUSY) {
		if left, readErr := os.ReadDir(dir); readErr == nil && len(left) == 0 {
			return nil
		}
	}
	return err
}
