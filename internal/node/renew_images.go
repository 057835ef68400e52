// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcherimage"
	"github.com/skerry-dev/skerry/internal/renew"
)

// imageSource is the launcher image of the Skerry that runs now: the newest QEMU
// that this node has.
type imageSource interface {
	// Newest is what the image says of itself, and the name that it would have in
	// a pod's volume. It costs nothing after the first time.
	Newest() (name string, info contract.ImageInfo, err error)
	// Open has the image as files.
	Open() (*launcherimage.Image, error)
	// Try runs the image's QEMU without a machine.
	Try(ctx context.Context) (renew.Candidate, error)
}

// nodeImage is the image in an archive, or in a directory.
type nodeImage struct {
	archive string
	store   *launcherimage.Store
	dir     string

	mu     sync.Mutex
	opened *launcherimage.Image
	name   string
	info   contract.ImageInfo
	tried  *renew.Candidate
}

func (n *nodeImage) Newest() (string, contract.ImageInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.name == "" {
		if n.archive == "" {
			if err := n.open(); err != nil {
				return "", contract.ImageInfo{}, err
			}
		} else {
			digest, info, err := launcherimage.Peek(n.archive)
			if err != nil {
				return "", info, err
			}
			n.name, n.info = (&launcherimage.Image{Digest: digest}).Name(), info
		}
	}
	return n.name, n.info, nil
}

func (n *nodeImage) Open() (*launcherimage.Image, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.open(); err != nil {
		return nil, err
	}
	return n.opened, nil
}

func (n *nodeImage) open() error {
	if n.opened != nil {
		return nil
	}
	var img *launcherimage.Image
	var err error
	if n.archive != "" {
		img, err = n.store.Open(n.archive)
	} else {
		img, err = launcherimage.FromDir(n.dir)
	}
	if err != nil {
		return err
	}
	n.opened, n.name, n.info = img, img.Name(), img.Info
	return nil
}

// Limits of a QEMU that is only asked what it is.
const (
	tryLimit  = 20 * time.Second
	maxOutput = 256 << 10
)

// Try asks the new QEMU for its version and its machine types. It runs confined
// to the image's own files, as QEMU's user, without network, and sees no process
// and no machine.
func (n *nodeImage) Try(ctx context.Context) (renew.Candidate, error) {
	img, err := n.Open()
	if err != nil {
		return renew.Candidate{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tried != nil {
		return *n.tried, nil
	}
	said, err := ask(ctx, img.Root, "-version")
	if err != nil {
		return renew.Candidate{}, err
	}
	// "QEMU emulator version 11.1.3 (Debian …)"
	_, rest, _ := strings.Cut(said, "version ")
	fields := strings.Fields(rest)
	if len(fields) == 0 || fields[0] != img.Info.QEMUVersion {
		return renew.Candidate{}, fmt.Errorf("QEMU of launcher image %s says %.80q, the image says %s", img.Name(), said, img.Info.QEMUVersion)
	}
	c := renew.Candidate{Version: fields[0]}
	if said, err = ask(ctx, img.Root, "-machine", "help"); err != nil {
		return renew.Candidate{}, err
	}
	for line := range strings.Lines(said) {
		if f := strings.Fields(line); len(f) > 0 {
			c.Machines = append(c.Machines, f[0])
		}
	}
	n.tried = &c
	return c, nil
}

// ask runs QEMU of the image at root and returns what it prints.
func ask(ctx context.Context, root string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	var out, words limitedBuffer
	cmd := exec.CommandContext(ctx, contract.QEMU, args...)
	cmd.Path = contract.QEMU // in the new root
	cmd.Err = nil            // there may be none outside
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin", "HOME=/", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = &out, &words
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     root,
		Credential: &syscall.Credential{Uid: v1.QEMUUser, Gid: v1.QEMUUser},
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("run QEMU of the launcher image %s with %s: %w: %s", root, strings.Join(args, " "), err, printable(strings.TrimSpace(words.String())))
	}
	return out.String(), nil
}

// limitedBuffer keeps the beginning of what is written.
type limitedBuffer struct{ bytes.Buffer }

var errTooMuch = errors.New("QEMU prints too much")

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, errTooMuch
	}
	return b.Buffer.Write(p)
}

var _ io.Writer = (*limitedBuffer)(nil)

// newImageSource is the source that the configuration names, or nil.
func newImageSource(c Config) imageSource {
	switch {
	case c.LauncherArchive != "":
		return &nodeImage{archive: c.LauncherArchive, store: &launcherimage.Store{Dir: c.LauncherStore}}
	case c.LauncherDir != "":
		return &nodeImage{dir: c.LauncherDir}
	}
	return nil
}
