// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/version"
)

// maxStart bounds the agent's answer in bytes.
const maxStart = 4096

// hello is the greeting. An image without a description of itself is a broken one.
func hello(c Config) (contract.Hello, error) {
	h := contract.Hello{Contract: contract.Version, Launcher: version.Version, NoDirect: withoutDirect(c)}
	b, err := os.ReadFile(c.ImageInfoFile)
	if err != nil {
		return h, fmt.Errorf("read the image's description: %w", err)
	}
	if err := json.Unmarshal(b, &h.Image); err != nil {
		return h, fmt.Errorf("read the image's description %s: %w", c.ImageInfoFile, err)
	}
	return h, nil
}

// waitForStart greets whoever connects and returns the connection on which the
// word to start came. Only one connection is kept: a new one takes the place of
// the old, whose agent may have died without the socket noticing.
func waitForStart(path string, hello contract.Hello) (int, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("remove stale socket %s: %w", path, err)
	}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(listener, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, fmt.Errorf("bind %s: %w", path, err)
	}
	if err := unix.Listen(listener, 4); err != nil {
		return -1, fmt.Errorf("listen on %s: %w", path, err)
	}
	conn := -1
	var line []byte
	drop := func() {
		if conn >= 0 {
			unix.Close(conn)
		}
		conn, line = -1, nil
	}
	for {
		// A negative descriptor is skipped by poll.
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}, {Fd: int32(conn), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return -1, fmt.Errorf("poll: %w", err)
		}
		if fds[1].Revents != 0 {
			start, done := readStart(conn, &line)
			if start {
				return conn, nil
			}
			if done {
				drop()
			}
		}
		if fds[0].Revents != 0 {
			next, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err != nil {
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
					continue
				}
				return -1, fmt.Errorf("accept: %w", err)
			}
			drop()
			conn = next
			if sendLine(conn, hello) != nil {
				drop()
			}
		}
	}
}

// readStart takes what has arrived: start is true when it is the word to start,
// done when the connection is of no use any more.
func readStart(conn int, line *[]byte) (start, done bool) {
	buf := make([]byte, maxStart)
	n, err := unix.Read(conn, buf)
	if err != nil {
		return false, !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
	if n == 0 {
		return false, true
	}
	*line = append(*line, buf[:n]...)
	text, _, complete := bytes.Cut(*line, []byte("\n"))
	if !complete {
		return false, len(*line) > maxStart
	}
	var s contract.Start
	if json.Unmarshal(text, &s) != nil || !s.Start {
		return false, true
	}
	return true, false
}

// sendLine writes one JSON line. It is far smaller than a socket's buffer, so a
// peer that does not read cannot hold the launcher up: the write fails instead.
func sendLine(conn int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	n, err := unix.SendmsgN(conn, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err == nil && n < len(b) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(b))
	}
	return err
}
