// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// open opens what is at name without side effects, and checks its type through
// the descriptor.
func (d *Dir) open(name string, want uint32) (*os.File, *unix.Stat_t, error) {
	if err := checkName(name); err != nil {
		return nil, nil, d.pathError("open", name, err)
	}
	flags := uint64(unix.O_PATH)
	if d.resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		flags |= unix.O_NOFOLLOW
	}
	f, err := d.openat2(name, flags, 0)
	if err != nil {
		return nil, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(f), &st); err != nil {
		f.Close()
		return nil, nil, d.pathError("stat", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case want:
		return f, &st, nil
	case unix.S_IFLNK:
		err = ErrSymlink
	default:
		err = &TypeError{Want: typeName(want), Got: typeName(st.Mode)}
	}
	f.Close()
	return nil, nil, d.pathError("open", name, err)
}

// OpenFile opens a regular file that has no second name. flags are the access
// mode and perhaps O_APPEND; nothing is created or truncated.
func (d *Dir) OpenFile(name string, flags int) (*os.File, error) {
	ref, st, err := d.open(name, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	if st.Nlink > 1 {
		return nil, d.pathError("open", name, ErrHardLink)
	}
	flags &= unix.O_ACCMODE | unix.O_APPEND
	f, err := os.OpenFile(procFD(ref), flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.pathError("open", name, unwrapPath(err))
	}
	return f, nil
}

// ReadFile reads a regular file of at most limit bytes.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	ref, st, err := d.open(name, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	if st.Nlink > 1 {
		return nil, d.pathError("open", name, ErrHardLink)
	}
	return d.readRef(name, ref, limit)
}

// readRef reads what an O_PATH descriptor of a regular file refers to.
func (d *Dir) readRef(name string, ref *os.File, limit int64) ([]byte, error) {
	f, err := os.OpenFile(procFD(ref), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.pathError("open", name, unwrapPath(err))
	}
	defer f.Close()
	// The size is not asked for: it may change, and a sparse file costs nothing.
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, d.pathError("read", name, unwrapPath(err))
	}
	if int64(len(b)) > limit {
		return nil, d.pathError("read", name, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit))
	}
	return b, nil
}

// Exists tells whether the name is taken, by whatever.
func (d *Dir) Exists(name string) (bool, error) {
	if err := checkName(name); err != nil {
		return false, d.pathError("stat", name, err)
	}
	var st unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	}
	return false, d.pathError("stat", name, err)
}

// Owner is who a new file belongs to, and its permissions.
type Owner struct {
	UID, GID int // -1 leaves the agent's own
	Mode     fs.FileMode
}

// WriteFile puts data at name, as a whole or not at all.
func (d *Dir) WriteFile(name string, data []byte, o Owner) error {
	return d.Write(name, o, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write puts at name what fill writes, as a whole or not at all. Whatever had
// that name before is replaced without being opened, unless it is a directory.
func (d *Dir) Write(name string, o Owner, fill func(io.Writer) error) (err error) {
	if err := checkName(name); err != nil {
		return d.pathError("write", name, err)
	}
	tmp, f, err := d.createTemp(name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = d.pathError("close", name, unwrapPath(cerr))
		}
		if err != nil {
			_ = unix.Unlinkat(d.fd(), tmp, 0)
		}
	}()
	if err := fill(f); err != nil {
		return d.pathError("write", name, unwrapPath(err))
	}
	if o.UID >= 0 || o.GID >= 0 {
		if err := f.Chown(o.UID, o.GID); err != nil {
			return d.pathError("chown", name, unwrapPath(err))
		}
	}
	if err := f.Chmod(o.Mode.Perm()); err != nil {
		return d.pathError("chmod", name, unwrapPath(err))
	}
	if err := unix.Renameat(d.fd(), tmp, d.fd(), name); err != nil {
		return d.pathError("rename", name, err)
	}
	return nil
}

func (d *Dir) createTemp(name string) (string, *os.File, error) {
	if len(name) > 200 {
		return "", nil, d.pathError("create", name, ErrBadName)
	}
	for range 8 {
		var r [8]byte
		if _, err := rand.Read(r[:]); err != nil {
			return "", nil, d.pathError("create", name, err)
		}
		tmp := "." + name + "." + hex.EncodeToString(r[:])
		f, err := d.openat2(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			return tmp, f, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", nil, err
		}
	}
	return "", nil, d.pathError("create", name, fs.ErrExist)
}
