// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// rehearsalPoll is how often a rehearsed QEMU is asked how far it is. The guest
// stands still meanwhile.
const rehearsalPoll = 2 * time.Millisecond

// maxLastWords bounds what is kept of a rehearsed QEMU's standard error, in bytes.
const maxLastWords = 2048

// Renew is what a QEMU execs that is replaced while its guest runs: the same
// process, with the guest's memory and QEMU's state in descriptors that it has
// inherited. It has the new QEMU take the state over once as a child that does
// not let the guest run, and becomes the new QEMU if that works, or else the old
// one, which does the same from the same state. It returns only if neither can
// be executed, and then the guest is lost.
//
// Descriptors keep their numbers: whatever is opened here is closed on exec, and
// everything inherited is not.
func Renew(c Config, args []string) error {
	// As the first process of its container it would die from a signal that
	// somebody sends right now; handlers end with the exec, ignoring would not.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE)
	r, err := contract.ParseRenewal(args)
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	failure := rehearse(c, r)
	// The agent tells the reason; it is only a hint, so a full volume is no matter.
	_ = c.writeResult(failure)
	// The thread that execs must have the process's no_new_privs, as all have.
	runtime.LockOSThread()
	if failure == nil {
		err = unix.Exec(r.New[0], r.New, environment(r.New[0]))
		failure = fmt.Errorf("exec %s: %w", r.New[0], err)
		_ = c.writeResult(failure)
	}
	fmt.Fprintln(os.Stderr, "skerry-launcher: the new QEMU is not used:", failure)
	err = unix.Exec(r.Old[0], r.Old, environment(r.Old[0]))
	return fmt.Errorf("exec %s: %w (after: %w)", r.Old[0], err, failure)
}

// environment is this process's with what QEMU at that path needs.
func environment(path string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, contract.ModuleDirEnv+"=") })
	return append(env, contract.ImageEnv(contract.NextOf(path))...)
}

func (c Config) writeResult(failure error) error {
	result := contract.Renewed{}
	if failure != nil {
		result.Error = failure.Error()
	}
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	path := filepath.Join(c.RunDir, contract.RenewResult)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// rehearse has the new QEMU load the state, and says why it could not.
func rehearse(c Config, r contract.Renewal) error {
	dir := filepath.Join(c.RunDir, contract.RehearsalDir)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	words, err := os.CreateTemp(dir, "stderr")
	if err != nil {
		return err
	}
	defer words.Close()
	// Not os/exec: a child whose output goes through a pipe could keep it open.
	child, err := os.StartProcess(r.Rehearsal[0], r.Rehearsal, &os.ProcAttr{
		Env: environment(r.Rehearsal[0]), Files: []*os.File{os.Stdin, os.Stdout, words},
	})
	if err != nil {
		return fmt.Errorf("start the new QEMU: %w", err)
	}
	ended := make(chan string, 1)
	go func() {
		state, err := child.Wait()
		if err != nil {
			ended <- err.Error()
			return
		}
		ended <- state.String()
	}()
	err = watchRehearsal(filepath.Join(dir, contract.RehearsalSocket), r.Limit, ended)
	// Killed before anything else may happen: it has the guest's memory and disks.
	_ = child.Kill()
	if how, ok := <-ended; ok && err != nil {
		err = fmt.Errorf("%w (%s)%s", err, how, lastWords(words))
	}
	return err
}

// watchRehearsal returns nil once the QEMU with that monitor has loaded the state.
// ended gets a value when it ends, and has one for the caller afterwards.
func watchRehearsal(socket string, limit time.Duration, ended chan string) error {
	deadline := time.Now().Add(limit)
	var mon *monitor
	defer func() {
		if mon != nil {
			mon.close()
		}
	}()
	last := errors.New("its monitor does not answer")
	for time.Now().Before(deadline) {
		select {
		case how := <-ended:
			ended <- how
			return errors.New("the new QEMU ended while it took the machine over")
		case <-time.After(rehearsalPoll):
		}
		if mon == nil {
			var err error
			if mon, err = dialMonitor(socket, max(time.Until(deadline), time.Millisecond)); err != nil {
				last, mon = err, nil
				continue
			}
		}
		status, err := mon.status(nil)
		switch {
		case err != nil:
			mon.close()
			last, mon = err, nil
		case status == "inmigrate":
			last = errors.New("it is still loading the machine's state")
		case status == "paused" || status == "postmigrate" || status == "prelaunch" || status == "running" || status == "suspended":
			return nil
		default:
			return fmt.Errorf("the new QEMU is %q after it took the machine over", status)
		}
	}
	return fmt.Errorf("the new QEMU did not take the machine over within %v: %w", limit, last)
}

// lastWords is the end of what a QEMU wrote to its standard error.
func lastWords(f *os.File) string {
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(0, st.Size()-maxLastWords)
	b := make([]byte, st.Size()-from)
	n, _ := f.ReadAt(b, from)
	if text := string(bytes.TrimSpace(b[:n])); text != "" {
		return ": " + text
	}
	return ""
}
