// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/contract"
)

// copyLog copies the serial log to the container's log until the process has
// ended and the rest is copied, or the agent lets go. It returns the end of what it
// has copied.
func (g *guest) copyLog(p process) []byte {
	d := &g.instance().Spec.Domain.Devices
	if isFalse(d.AutoattachSerialConsole) || isFalse(d.LogSerialConsole) {
		return nil
	}
	file, err := g.openLog(p)
	if file == nil {
		if err != nil {
			g.log.Warn("console log", "error", err)
		}
		return nil
	}
	defer file.Close()
	l := &console.Log{
		File: file, Open: p.Stdout, Exited: p.Done(),
		FirstByte: func(at time.Time) {
			g.observe(func(o observed) observed { return o.withStage(v1.StageFirstOutput, at) })
		},
	}
	if g.notify != nil {
		if w, err := g.notify.WatchFile(file); err == nil {
			defer w.Close()
			l.Grown = w.C
			l.Poll = 30 * time.Second // idle machines cost nothing
		}
	}
	if err := l.Copy(g.ctx); err != nil {
		g.log.Warn("console log", "error", err)
	}
	return l.Last
}

// openLog waits for QEMU to have made the file. Nil without an error means that
// there is nothing to wait for any more.
func (g *guest) openLog(p process) (*os.File, error) {
	wait := backoff{first: g.times.look[0], max: 5 * time.Second}
	for {
		dir, err := g.emptyDir(contract.LogVolume)
		if err == nil {
			var f *os.File
			f, err = dir.OpenFile(contract.ConsoleLog, unix.O_RDWR)
			dir.Close()
			if err == nil {
				return f, nil
			}
		}
		if !away(err) {
			return nil, err
		}
		select {
		case <-p.Done():
			return nil, nil
		case <-g.ctx.Done():
			return nil, nil
		case <-time.After(wait.next()):
		}
	}
}

func isFalse(b *bool) bool { return b != nil && !*b }
