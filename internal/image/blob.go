// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Waits between attempts to go on with a blob.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

// blob reads one blob from its registry. A connection that breaks, or that brings
// nothing for as long as stall, is opened anew where it was (RFC 9110, section 14);
// after patience without a byte it gives up. At its end the digest holds or Read fails.
type blob struct {
	ctx      context.Context
	client   *http.Client
	url      string
	desc     v1.Descriptor
	what     func(error) *Error // classifies a refusal
	patience time.Duration
	stall    time.Duration
	fetched  *atomic.Int64

	hash    hash.Hash
	off     int64
	body    io.ReadCloser
	cancel  context.CancelFunc
	watch   *time.Timer
	blocked time.Time // since when nothing has come
	wait    time.Duration
	err     error
}

func (b *blob) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		b.err = err
		b.close()
	}
	return n, err
}

func (b *blob) read(p []byte) (int, error) {
	if b.hash == nil {
		var err error
		if b.hash, err = v1.Hasher(b.desc.Digest.Algorithm); err != nil {
			return 0, fail(NotDisk, err, "a digest of an unknown kind")
		}
		b.blocked = time.Now()
	}
	for {
		if b.off == b.desc.Size {
			if got := hex.EncodeToString(b.hash.Sum(nil)); got != b.desc.Digest.Hex {
				return 0, fail(Digest, nil, "the registry's blob %s has the digest %s:%s: it is damaged there, push it again", b.desc.Digest, b.desc.Digest.Algorithm, got)
			}
			return 0, io.EOF
		}
		if err := b.ctx.Err(); err != nil {
			return 0, context.Cause(b.ctx)
		}
		if b.body == nil {
			if err := b.open(); err != nil {
				if err := b.again(err); err != nil {
					return 0, err
				}
				continue
			}
		}
		b.watch.Reset(b.stall)
		n, err := b.body.Read(p[:min(int64(len(p)), b.desc.Size-b.off)])
		if n > 0 {
			b.hash.Write(p[:n])
			b.off += int64(n)
			b.fetched.Add(int64(n))
			b.wait, b.blocked = 0, time.Now()
			return n, nil
		}
		if err != nil {
			b.close()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err := b.again(err); err != nil {
				return 0, err
			}
		}
	}
}

func (b *blob) close() {
	if b.body != nil {
		b.watch.Stop()
		b.cancel()
		b.body.Close()
		b.body = nil
	}
}

// again waits before the next attempt, or says why there is none.
func (b *blob) again(err error) error {
	e := b.what(err)
	if e.Kind != Unreachable {
		return e
	}
	if since := time.Since(b.blocked); since >= b.patience {
		e.Text += fmt.Sprintf("; %d of %d bytes of %s had come, then nothing for %s", b.off, b.desc.Size, b.desc.Digest, since.Round(time.Second))
		return e
	}
	b.wait = min(max(firstWait, 2*b.wait), lastWait)
	t := time.NewTimer(b.wait)
	defer t.Stop()
	select {
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	case <-t.C:
		return nil
	}
}

// open asks for what is missing.
func (b *blob) open() error {
	ctx, cancel := context.WithCancel(b.ctx)
	watch := time.AfterFunc(b.stall, cancel)
	ok := false
	defer func() {
		if !ok {
			watch.Stop()
			cancel()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url, nil)
	if err != nil {
		return err
	}
	// Otherwise Go's client would ask for gzip and take it off again.
	req.Header.Set("Accept-Encoding", "identity")
	if b.off > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(b.off, 10)+"-")
	}
	res, err := b.client.Do(req)
	if err != nil {
		return err
	}
	skip, err := b.begin(res)
	if err == nil && skip > 0 {
		// It knows no ranges: what is here already comes again.
		_, err = io.CopyN(io.Discard, res.Body, skip)
	}
	if err != nil {
		res.Body.Close()
		return err
	}
	ok = true
	b.body, b.cancel, b.watch = res.Body, cancel, watch
	return nil
}

// begin judges the answer, and says how many of its first bytes are here already.
func (b *blob) begin(res *http.Response) (skip int64, err error) {
	cut := func(has int64) error {
		return fail(Truncated, nil, "the registry's blob %s has %d bytes and not %d: it is damaged there, push it again", b.desc.Digest, has, b.desc.Size)
	}
	switch res.StatusCode {
	case http.StatusOK:
		if res.ContentLength >= 0 && res.ContentLength < b.desc.Size {
			return 0, cut(res.ContentLength)
		}
		return b.off, nil
	case http.StatusPartialContent:
		from, size, ok := contentRange(res.Header.Get("Content-Range"))
		if !ok || from != b.off {
			return 0, fail(Unreachable, nil, "the registry was asked for the bytes from %d on and answered with the range %q", b.off, res.Header.Get("Content-Range"))
		}
		if size >= 0 && size < b.desc.Size {
			return 0, cut(size)
		}
		return 0, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, cut(b.off)
	}
	if err := transport.CheckError(res, http.StatusOK); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("unexpected status %s", res.Status)
}

// contentRange reads "bytes 5-9/10"; size is -1 where it is not told.
func contentRange(s string) (from, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(s, "/")
	first, _, ok3 := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	size = -1
	if total != "*" {
		var err2 error
		size, err2 = strconv.ParseInt(total, 10, 64)
		err = errors.Join(err, err2)
	}
	return from, size, ok && ok2 && ok3 && err == nil && from >= 0
}

// ahead reads r in a goroutine of its own, so that the network and the disk work at
// the same time. close ends it and waits for it.
func ahead(r io.Reader) (out io.Reader, end func()) {
	const depth = 16
	a := &readAhead{full: make(chan piece, depth), empty: make(chan []byte, depth+1), stop: make(chan struct{}), done: make(chan struct{})}
	for range depth + 1 {
		a.empty <- make([]byte, 256<<10)
	}
	go a.run(r)
	return a, func() {
		close(a.stop)
		<-a.done
	}
}

type piece struct {
	b   []byte
	err error
}

type readAhead struct {
	full       chan piece
	empty      chan []byte
	stop, done chan struct{}
	cur        piece
	rest       []byte
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.done)
	for {
		select {
		case <-a.stop:
			return
		case b := <-a.empty:
			n, err := r.Read(b[:cap(b)])
			select {
			case <-a.stop:
				return
			case a.full <- piece{b[:n], err}:
			}
			if err != nil {
				return
			}
		}
	}
}

func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.b != nil {
			a.empty <- a.cur.b
		}
		a.cur = <-a.full
		a.rest = a.cur.b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// httpClient goes through an authenticated round tripper.
func httpClient(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: checkRedirect}
}
