// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/distro/box"
)

// etcdAhead is how much of the disk is kept for what etcd's database may grow by
// while the disk is full, in bytes. Revisions are compacted every 5 minutes and
// their pages used again, so that this is hours' worth.
const etcdAhead = 32 << 20

func reserveFile(dataDir string) string { return filepath.Join(dataDir, "reserve") }

// Space looks at dir's file system.
func Space(dir string) (box.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return box.Space{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	unit := uint64(st.Bsize)
	return box.Space{Total: st.Blocks * unit, Free: st.Bavail * unit, Files: st.Files, FreeFiles: st.Ffree}, nil
}

// makeRoom gives the reserve back before a start on a full disk: the start writes
// some small files.
func makeRoom(dataDir string) error {
	s, err := Space(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there never was a start
	}
	if err == nil && s.Full() {
		_, err = giveBack(dataDir)
	}
	return err
}

// giveBack removes the reserve, if there is one.
func giveBack(dataDir string) (was bool, err error) {
	err = os.Remove(reserveFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// holdBack makes the reserve where there is none or one that was cut short.
func holdBack(dataDir string) error {
	path := reserveFile(dataDir)
	if st, err := os.Stat(path); err == nil && st.Size() == box.Reserve {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(allocate(f, 0, box.Reserve), f.Close())
}

// allocate gives a file blocks of its own. File systems that cannot do that are
// left alone.
func allocate(f *os.File, mode uint32, size int64) error {
	err := unix.Fallocate(int(f.Fd()), mode, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("allocate %d bytes of %s: %w", size, f.Name(), err)
	}
	return nil
}

// allocateAhead gives etcd's database blocks for what it will be written to next.
// etcd takes a failed write for the end of the world and ends the process; its log
// has its space in advance by itself, the database grows as a sparse file.
func allocateAhead(dataDir string) error {
	f, err := os.OpenFile(filepath.Join(dataDir, "etcd", "member", "snap", "db"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	// Half of it is enough to wait for: the file is looked at again all the time.
	if st.Blocks*512 >= st.Size+etcdAhead/2 {
		return nil
	}
	return allocate(f, unix.FALLOC_FL_KEEP_SIZE, st.Size+etcdAhead)
}

// lastSeen is the latest time that the clock has shown to a start, as far as there
// is a mark of it.
func lastSeen(lockFile string) time.Time {
	st, err := os.Stat(lockFile)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func readMemory() (box.Memory, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return box.Memory{}, err
	}
	return box.ParseMemory(string(b))
}

// readClock reads both clocks at one moment: once more if this process was held up
// in between.
func readClock() (box.Reading, error) {
	var r box.Reading
	var before, wall, after unix.Timespec
	for range 10 {
		err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &before), unix.ClockGettime(unix.CLOCK_REALTIME, &wall), unix.ClockGettime(unix.CLOCK_BOOTTIME, &after))
		if err != nil {
			return r, fmt.Errorf("read the clocks: %w", err)
		}
		r.Wall, r.Boot = time.Unix(wall.Unix()), time.Duration(after.Nano())
		if after.Nano()-before.Nano() < int64(time.Second) {
			break
		}
	}
	var state unix.Timex // no modes: only read
	if _, err := unix.Adjtimex(&state); err == nil {
		r.Synced = state.Status&unix.STA_UNSYNC == 0
	}
	return r, nil
}
