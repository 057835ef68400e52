// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/netattach"
)

// Pod is whom a network is for.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// record is what was begun.
type record struct {
	Pod       Pod    `json:"pod"`
	Interface string `json:"interface"`
	// Definition is namespace/name of the NetworkAttachmentDefinition.
	Definition string          `json:"definition"`
	Config     json.RawMessage `json:"config"`
	MAC        string          `json:"mac,omitempty"`
	IPs        []string        `json:"ips,omitempty"`
	// Result is there when all plugins have done their work.
	Result *netattach.Attachment `json:"result,omitempty"`
}

const maxRecord = 1 << 20

// plain names are those of files that lead nowhere else.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (r *Runner) podDir(uid string) string  { return filepath.Join(r.StateDir, "pods", uid) }
func (r *Runner) pinFile(uid string) string { return filepath.Join(r.StateDir, "netns", uid) }
func (r *Runner) bridgeDir() string         { return filepath.Join(r.StateDir, "bridges") }

// LeaseDir is where host-local is to keep its leases.
func LeaseDir(stateDir string) string { return filepath.Join(stateDir, "leases") }

func (r *Runner) recordFile(uid, link string) string {
	return filepath.Join(r.podDir(uid), link+".json")
}

// load returns nil when there is no record.
func (r *Runner) load(uid, link string) (*record, error) {
	file := r.recordFile(uid, link)
	fi, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxRecord {
		return nil, fmt.Errorf("record %s has %d bytes: remove it", file, fi.Size())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	rec := &record{}
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("record %s is damaged: %w", file, err)
	}
	return rec, nil
}

func (r *Runner) store(rec *record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if err := os.MkdirAll(r.podDir(rec.Pod.UID), 0o700); err != nil {
		return err
	}
	return writeFile(r.recordFile(rec.Pod.UID, rec.Interface), b)
}

// writeFile writes a file whole or not at all, and so that it outlives a power cut.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// links are the interfaces that a pod has records of.
func (r *Runner) links(uid string) ([]string, error) {
	entries, err := os.ReadDir(r.podDir(uid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if link, ok := strings.CutSuffix(e.Name(), ".json"); ok && plain.MatchString(link) {
			out = append(out, link)
		}
	}
	return out, nil
}

// Pods are the UIDs of the pods of which something is left to undo.
func (r *Runner) Pods() ([]string, error) {
	var out []string
	for _, dir := range []string{"pods", "netns"} {
		entries, err := os.ReadDir(filepath.Join(r.StateDir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if plain.MatchString(e.Name()) {
				out = append(out, e.Name())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// pin mounts the pod's network namespace, so that it is there for DEL.
func (r *Runner) pin(uid string, ns *os.File) error {
	file := r.pinFile(uid)
	if pinned(file) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the pod's network namespace at %s: %w", file, err)
	}
	return nil
}

// pinned tells whether a namespace is mounted there.
func pinned(file string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(file, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

func (r *Runner) unpin(uid string) error {
	file := r.pinFile(uid)
	for pinned(file) { // a mount that was made twice
		if err := unix.Unmount(file, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", file, err)
		}
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// noteBridge writes down that the bridge plugin is about to make a bridge.
func (r *Runner) noteBridge(name string) error {
	_, err := netlink.LinkByName(name)
	if err == nil {
		return nil // it is there: made by a plugin before, and noted, or somebody else's
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("look for bridge %s: %w", name, err)
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.bridgeDir(), 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(r.bridgeDir(), name), boot)
}

// MadeBridges are those that the bridge plugin made since the machine was booted.
func MadeBridges(stateDir string) ([]string, error) {
	r := &Runner{StateDir: stateDir}
	entries, err := os.ReadDir(r.bridgeDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := os.ReadFile(bootIDFile)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(r.bridgeDir(), e.Name())); err == nil && string(b) == string(now) && !strings.HasPrefix(e.Name(), ".new-") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
