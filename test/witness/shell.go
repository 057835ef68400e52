// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Shell is the tiny guest's shell on its serial console.
type Shell struct {
	to io.Writer
	n  int

	mu   sync.Mutex
	seen bytes.Buffer
	err  error // why no more is read
}

// NewShell talks to the shell over what connects to the console. It reads until
// that ends.
func NewShell(console io.ReadWriter) *Shell {
	s := &Shell{to: console}
	go func() {
		b := make([]byte, 32<<10)
		for {
			n, err := console.Read(b)
			s.mu.Lock()
			s.seen.Write(b[:n])
			s.err = err
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// Text is all that was printed so far, and why no more will come.
func (s *Shell) Text() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String(), s.err
}

// Run runs a command and returns what it printed. It is typed again until something
// comes back, since a guest that is still booting drops input.
func (s *Shell) Run(ctx context.Context, command string) (string, error) {
	s.n++
	// The shell joins the quoted halves: the echo of what was typed is no answer.
	begin, end := fmt.Sprintf("<<%d:", s.n), fmt.Sprintf(":%d>>", s.n)
	typed := fmt.Sprintf("\necho '<<''%d:'; %s; echo ':%d''>>'\n", s.n, command, s.n)
	var next time.Time
	for {
		text, err := s.Text()
		_, rest, begun := strings.Cut(text, begin)
		if answer, _, ok := strings.Cut(rest, end); ok {
			return strings.TrimSpace(strings.ReplaceAll(answer, "\r", "")), nil
		}
		if err == nil && !begun && time.Now().After(next) {
			_, err = io.WriteString(s.to, typed)
			next = time.Now().Add(10 * time.Second)
		}
		if err != nil {
			return "", fmt.Errorf("the guest's console, while %q runs: %w", command, err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the guest does not answer %q: %w; last: %q", command, ctx.Err(), text[max(0, len(text)-600):])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Report asks the witness for a report.
func (s *Shell) Report(ctx context.Context) (Report, error) { return s.report(ctx, "witness report") }

// Reset asks for a report and has the longest gap forgotten.
func (s *Shell) Reset(ctx context.Context) (Report, error) { return s.report(ctx, "witness reset") }

// Start starts the witness.
func (s *Shell) Start(ctx context.Context) (Report, error) { return s.report(ctx, "witness start") }

func (s *Shell) report(ctx context.Context, command string) (Report, error) {
	text, err := s.Run(ctx, command)
	if err != nil {
		return Report{}, err
	}
	return ParseReport(text)
}
