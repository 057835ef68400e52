// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Process is one particular process: not its PID, which the kernel gives to
// another one after its end.
type Process struct {
	pid  int
	proc *os.File // O_PATH directory of /proc/PID; dead once the process is
	fd   *os.File // pidfd

	done chan struct{}
	once sync.Once
}

// ErrExited means that the process has ended.
var ErrExited = errors.New("the process has ended")

// OpenProcess pins the process that has this PID now.
func OpenProcess(pid int) (*Process, error) {
	proc, err := os.OpenFile("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = ErrExited
		}
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		proc.Close()
		if err == unix.ESRCH {
			err = ErrExited
		}
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &Process{pid: pid, proc: proc, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	// If the process behind /proc/PID still lives now, its PID was not free when
	// the pidfd was opened: both mean the same process.
	if _, err := p.read("stat", 4096); err != nil {
		p.Close()
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	go p.watch()
	return p, nil
}

// PID is the process's number in the agent's PID namespace.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended, or Close was called.
func (p *Process) Done() <-chan struct{} { return p.done }

func (p *Process) watch() {
	defer close(p.done)
	rc, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	// A pidfd becomes readable when the process ends; the wait costs no thread.
	_ = rc.Read(func(fd uintptr) bool { return exited(int(fd)) })
}

func exited(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err != nil || n > 0
		}
	}
}

// Exited tells whether the process has ended.
func (p *Process) Exited() bool {
	rc, err := p.fd.SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	if err := rc.Control(func(fd uintptr) { ended = exited(int(fd)) }); err != nil {
		return true
	}
	return ended
}

// Close lets go of the process; it does not end it.
func (p *Process) Close() error {
	p.once.Do(func() {
		p.fd.Close()
		p.proc.Close()
	})
	return nil
}

// open opens a file below /proc/PID. Only names fixed in this package are used.
func (p *Process) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(fdOf(p.proc), name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ESRCH || (err == unix.ENOENT && p.Exited()) {
			err = ErrExited
		}
		return nil, fmt.Errorf("process %d: open %s: %w", p.pid, name, err)
	}
	return os.NewFile(uintptr(fd), "/proc/"+strconv.Itoa(p.pid)+"/"+name), nil
}

func (p *Process) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = ErrExited
		}
		return nil, fmt.Errorf("process %d: read %s: %w", p.pid, name, err)
	}
	return b, nil
}

// InPod tells whether the process is in a cgroup of that pod. A pod's processes
// have no means to leave it or to enter another one's.
func (p *Process) InPod(podUID string) (bool, error) {
	b, err := p.read("cgroup", 64<<10)
	if err != nil {
		return false, err
	}
	return cgroupsNamePod(string(b), podUID), nil
}

// Cgroups is the process's place in each hierarchy: its /proc/PID/cgroup file.
func (p *Process) Cgroups() ([]byte, error) { return p.read("cgroup", 64<<10) }

// NamesPod tells whether a directory of that name is the pod's cgroup.
func NamesPod(name, podUID string) bool {
	return podUID != "" && cgroupsNamePod("0::/kubepods/"+name, podUID)
}

// cgroupsNamePod looks for the pod in a /proc/PID/cgroup file. The kubelet calls
// a pod's cgroup "pod<uid>" with the cgroupfs driver and
// "kubepods[-<qos>]-pod<uid with _ for ->.slice" with systemd's. The first one
// on the way down counts: a container may be able to make cgroups below its own.
func cgroupsNamePod(file, podUID string) bool {
	if podUID == "" {
		return false
	}
	fsName := "pod" + podUID
	sdName := "-pod" + strings.ReplaceAll(podUID, "-", "_") + ".slice"
	for line := range strings.Lines(file) {
		// hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		under := false
		for el := range strings.SplitSeq(parts[2], "/") {
			if !under {
				under = el == "kubepods" || el == "kubepods.slice"
				continue
			}
			if isPodCgroup(el) {
				if el == fsName || (strings.HasPrefix(el, "kubepods") && strings.HasSuffix(el, sdName)) {
					return true
				}
				break
			}
		}
	}
	return false
}

func isPodCgroup(el string) bool {
	if strings.HasPrefix(el, "pod") {
		return true
	}
	return strings.HasPrefix(el, "kubepods") && strings.Contains(el, "-pod") && strings.HasSuffix(el, ".slice")
}

// NetNS opens the process's network namespace.
func (p *Process) NetNS() (*os.File, error) { return p.open("ns/net", unix.O_RDONLY) }

// OpenStdout opens the pipe that is the process's standard output for writing
// without blocking. Anything but a pipe is refused before it is opened.
//
// The result keeps the pipe open: whoever reads the other end sees no end of
// file while it lives.
func (p *Process) OpenStdout() (*os.File, error) {
	ref, err := p.open("fd/1", unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(ref), &st); err != nil {
		return nil, fmt.Errorf("process %d: standard output: %w", p.pid, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("process %d: standard output: %w", p.pid, &TypeError{Want: "FIFO", Got: typeName(st.Mode)})
	}
	// O_NONBLOCK belongs to this opening alone; the process's own is untouched.
	f, err := os.OpenFile(procFD(ref), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: standard output: %w", p.pid, unwrapPath(err))
	}
	return f, nil
}

// ReadInRoot reads a file of at most limit bytes as the process sees it: path is
// resolved with the process's root directory as "/", so that symbolic links of
// its image can't lead out.
func (p *Process) ReadInRoot(path string, limit int64) ([]byte, error) {
	f, err := p.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root := &Dir{f: f, name: f.Name(), resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	ref, err := root.openat2(strings.TrimPrefix(path, "/"), unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(ref), &st); err != nil {
		return nil, root.pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, root.pathError("open", path, &TypeError{Want: "regular file", Got: typeName(st.Mode)})
	}
	return root.readRef(path, ref, limit)
}

// HasDevice tells whether the process finds a character device at path, with its
// own root directory as "/". The device is not opened.
func (p *Process) HasDevice(path string) (bool, error) {
	f, err := p.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	root := &Dir{f: f, name: f.Name(), resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	ref, err := root.openat2(strings.TrimPrefix(path, "/"), unix.O_PATH, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer ref.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(ref), &st); err != nil {
		return false, root.pathError("stat", path, err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFCHR, nil
}
