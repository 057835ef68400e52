// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// strict is for directories that the pod can write.
	strict = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	// atomic is for volumes that the kubelet writes with its atomic writer: each
	// file is a symbolic link through "..data" into a directory of the volume.
	atomic = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV
	// kubelet is for the way from the kubelet's root to a volume: it leads over
	// mount points, and nobody but root can write it.
	kubelet = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// Dir is an open directory of a pod. Every name given to its methods is a single
// path element.
type Dir struct {
	f       *os.File // O_PATH
	name    string   // for errors
	resolve uint64
}

// Pod is the directory that a kubelet keeps for one pod.
type Pod struct {
	dir *Dir
	uid string
}

// OpenPod opens <kubelet root>/pods/<uid>. It fails with fs.ErrNotExist until the
// kubelet has made it. The root itself is trusted and may be a symbolic link.
func OpenPod(kubeletRoot, uid string) (*Pod, error) {
	if err := checkName(uid); err != nil {
		return nil, fmt.Errorf("pod UID: %w", err)
	}
	root, err := os.OpenFile(kubeletRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the kubelet's root directory: %w", err)
	}
	defer root.Close()
	d := &Dir{f: root, name: kubeletRoot, resolve: kubelet}
	pod, err := d.dir("pods/"+uid, kubelet)
	if err != nil {
		return nil, err
	}
	return &Pod{dir: pod, uid: uid}, nil
}

// EmptyDir opens the volume of that name, for as long as it must be an emptyDir.
// Open it anew after having waited: the kubelet mounts tmpfs over the directory.
func (p *Pod) EmptyDir(volume string) (*Dir, error) {
	return p.volume("kubernetes.io~empty-dir", volume, strict)
}

// Secret opens a Secret volume. Symbolic links within it are followed, as the
// kubelet writes them and the pod cannot.
func (p *Pod) Secret(volume string) (*Dir, error) {
	return p.volume("kubernetes.io~secret", volume, atomic)
}

func (p *Pod) volume(plugin, volume string, resolve uint64) (*Dir, error) {
	if err := checkName(volume); err != nil {
		return nil, fmt.Errorf("volume of pod %s: %w", p.uid, err)
	}
	return p.dir.dir("volumes/"+plugin+"/"+volume, resolve)
}

// UID is the pod's.
func (p *Pod) UID() string { return p.uid }

// Close closes the pod's directory; volumes opened from it stay open.
func (p *Pod) Close() error { return p.dir.Close() }

// OpenDir opens a directory that is trusted up to and including path, and whose
// content is not.
func OpenDir(path string) (*Dir, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f, name: path, resolve: strict}, nil
}

// dir opens a directory below d with d's rules; what is found in it is then
// subject to the rules given.
func (d *Dir) dir(path string, then uint64) (*Dir, error) {
	f, err := d.openat2(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f, name: d.name + "/" + path, resolve: then}, nil
}

// Sub opens a directory in this one.
func (d *Dir) Sub(name string) (*Dir, error) {
	if err := checkName(name); err != nil {
		return nil, d.pathError("open", name, err)
	}
	return d.dir(name, d.resolve)
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Name is the directory's path, for messages only.
func (d *Dir) Name() string { return d.name }

func (d *Dir) fd() int { return fdOf(d.f) }

// Names lists at most max entries, in no order.
func (d *Dir) Names(max int) ([]string, error) {
	f, err := os.OpenFile(procFD(d.f), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.pathError("list", "", unwrapPath(err))
	}
	defer f.Close()
	names, err := f.Readdirnames(max)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, d.pathError("list", "", unwrapPath(err))
	}
	return names, nil
}

// Remove removes a file, socket or symbolic link.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return d.pathError("remove", name, err)
	}
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil {
		return d.pathError("remove", name, err)
	}
	return nil
}

// openat2 retries where the kernel asks for it: on signals, and when a rename
// elsewhere in the tree made it unsure whether the path stayed beneath.
func (d *Dir) openat2(path string, flags, mode uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: d.resolve}
	var fd int
	var err error
	for range 128 {
		fd, err = unix.Openat2(d.fd(), path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	switch {
	case err == unix.ENOSYS:
		return nil, d.pathError("open", path, fmt.Errorf("%w (openat2 needs Linux 5.6, or a seccomp profile that allows it)", err))
	case err == unix.ELOOP:
		return nil, d.pathError("open", path, ErrSymlink)
	case err == unix.EXDEV:
		return nil, d.pathError("open", path, ErrOutside)
	case err != nil:
		return nil, d.pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), d.name+"/"+path), nil
}

func (d *Dir) pathError(op, name string, err error) error {
	p := d.name
	if name != "" {
		p += "/" + name
	}
	return &fs.PathError{Op: op, Path: p, Err: err}
}

// Why something in a pod's volume was refused.
var (
	ErrSymlink  = errors.New("refused: a symbolic link, which this pod has no reason to make")
	ErrOutside  = errors.New("refused: leads out of the volume")
	ErrHardLink = errors.New("refused: the file has more than one name")
	ErrTooLarge = errors.New("refused: too large")
	ErrBadName  = errors.New("not a single path element")
)

// TypeError says that something in a pod's volume is of another type than wanted.
type TypeError struct{ Want, Got string }

func (e *TypeError) Error() string { return "refused: a " + e.Got + " instead of a " + e.Want }

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		if len(name) > 64 {
			name = name[:64] + "…"
		}
		return fmt.Errorf("%q: %w", name, ErrBadName)
	}
	return nil
}

// procFD is a path that means exactly what f refers to.
func procFD(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(fdOf(f)) }

// fdOf is f.Fd without its side effect of making f blocking. The number is good
// while f is open.
func fdOf(f *os.File) int {
	fd := -1
	if rc, err := f.SyscallConn(); err == nil {
		_ = rc.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// unwrapPath takes the path out of an error that names /proc/self/fd/N.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "regular file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "file of unknown type"
}
