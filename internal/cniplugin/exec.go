// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// pluginLimit is how long one plugin may take, its IPAM plugin included.
	pluginLimit = 30 * time.Second
	// maxOutput is what a plugin may print, in bytes.
	maxOutput = 1 << 20
)

// runner runs plugins for libcni.
type runner struct {
	version.PluginDecoder
	limit time.Duration
}

// FindInPath looks for a plugin in dirs. A name with a path in it is none.
func (*runner) FindInPath(plugin string, dirs []string) (string, error) {
	if plugin == "" || plugin != filepath.Base(plugin) || strings.HasPrefix(plugin, ".") {
		return "", fmt.Errorf("plugin %q: want a name without a path", plugin)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no CNI plugin %q in %s", plugin, strings.Join(dirs, ", "))
}

// ExecPlugin runs a plugin and ends it, with all that it started, when it takes
// too long.
func (r *runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("it did not end within %s", r.limit))
	defer cancel()
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	full := func() { enough(fmt.Errorf("it printed more than %d bytes", maxOutput)) }
	stdout, stderr := &limited{full: full}, &limited{full: full}
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range environ {
		if strings.HasPrefix(e, "CNI_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	name := filepath.Base(path)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("plugin %s: %w", name, context.Cause(ctx))
	case err == nil:
		return stdout.kept.Bytes(), nil
	}
	// A plugin that fails says so on its standard output.
	said := types.Error{}
	if json.Unmarshal(stdout.kept.Bytes(), &said) == nil && said.Msg != "" {
		text := said.Msg
		if said.Details != "" {
			text += "; " + said.Details
		}
		return nil, fmt.Errorf("plugin %s: %s", name, clip(text))
	}
	return nil, fmt.Errorf("plugin %s: %w: %s", name, err, clip(strings.TrimSpace(stderr.kept.String())))
}

// limited keeps the first maxOutput bytes, and says when there are more.
type limited struct {
	kept bytes.Buffer // not embedded: its ReadFrom would take all
	full func()
}

func (l *limited) Write(b []byte) (int, error) {
	if l.kept.Len()+len(b) > maxOutput {
		l.full()
		return 0, errors.New("too much output")
	}
	return l.kept.Write(b)
}

// clip keeps a plugin's text short in a message.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
