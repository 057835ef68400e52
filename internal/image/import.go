// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skerry-dev/skerry/internal/qcow2"
)

// Info is what came of an import.
type Info struct {
	// Digest is what the reference stood for: of the index where there is one.
	Digest string
	// Format is what the disk was in the image; on the target it is raw.
	Format Format
	// VirtualSize is the disk's size in bytes, a multiple of 512.
	VirtualSize int64
	// BytesFetched came from the registry, BytesWritten went to the target.
	BytesFetched, BytesWritten int64
}

// Resolve says what digest an image's name stands for now.
func Resolve(ctx context.Context, ref string, o Options) (string, error) {
	r, err := parseRef(ref)
	if err != nil {
		return "", err
	}
	f, err := o.find(ctx, r)
	if err != nil {
		return "", named(ref, err)
	}
	f.idle()
	return f.digest.String(), nil
}

// Import writes the disk of the image ref to target as raw bytes, in one pass. A
// target that is a file is emptied (a block device: zeroed) first and synced at the
// end; any other must read as zeroes. The disk must have at most limit bytes.
//
// An error is an *Error where it is about the image or the registry. The target's
// content must not be used then.
func Import(ctx context.Context, ref string, o Options, target io.WriterAt, limit int64) (Info, error) {
	r, err := parseRef(ref)
	if err != nil {
		return Info{}, err
	}
	f, err := o.find(ctx, r)
	if err != nil {
		return Info{}, named(ref, err)
	}
	defer f.idle()
	p := &pull{o: o, ctx: ctx, found: f, sink: &sink{target: target}, limit: limit}
	stop := report(o.Progress, &p.fetched, &p.total)
	info, err := p.run()
	// A second pass is a new start for nearly all that can be wrong with the first,
	// with every byte kept.
	if errors.Is(err, qcow2.ErrOrder) && !p.keep {
		p.keep = true
		info, err = p.run()
	}
	stop()
	info.Digest, info.BytesFetched, info.BytesWritten = f.digest.String(), p.fetched.Load(), p.sink.written.Load()
	if err != nil {
		if ctx.Err() != nil {
			return info, context.Cause(ctx)
		}
		return info, named(ref, err)
	}
	return info, nil
}

// pull is one import.
type pull struct {
	o     Options
	ctx   context.Context
	found *found
	sink  *sink
	limit int64
	keep  bool // qcow2: every byte is kept

	fetched, total atomic.Int64
	got            *Info // the disk has been written
}

// run goes through the layers that may hold the disk.
func (p *pull) run() (Info, error) {
	p.got = nil
	layers, err := candidates(p.found.manifest, p.o.Path)
	if err != nil {
		return Info{}, err
	}
	for _, l := range layers {
		p.total.Store(p.fetched.Load() + l.Size)
		if err := p.layer(l); err != nil {
			return Info{}, err
		}
		if p.got != nil {
			break
		}
	}
	if p.got == nil {
		return Info{}, fail(NotDisk, nil, "there is no disk in it: a container disk has it as a file in /disk, an artifact as its blob")
	}
	if err := p.sink.end(p.got.VirtualSize); err != nil {
		return Info{}, fmt.Errorf("write the disk: %w", err)
	}
	return *p.got, nil
}

const titleAnnotation = "org.opencontainers.image.title"

// file says whether a layer is a file by itself, and not a file system's layer.
func file(l v1.Descriptor) bool {
	return l.Annotations[titleAnnotation] != "" && l.Annotations["io.deis.oras.content.unpack"] != "true"
}

// candidates are the layers in the order in which they are looked at: an artifact's
// one file, or a container image's layers from the top.
func candidates(m *v1.Manifest, wanted string) ([]v1.Descriptor, error) {
	var files, layers []v1.Descriptor
	for _, l := range m.Layers {
		if file(l) {
			files = append(files, l)
		} else {
			layers = append([]v1.Descriptor{l}, layers...)
		}
	}
	if len(files) == 0 {
		return layers, nil
	}
	var names, fit []string
	var one v1.Descriptor
	for _, f := range files {
		title := f.Annotations[titleAnnotation]
		names = append(names, title)
		if wanted != "" && path.Base(wanted) == path.Base(title) || wanted == "" && (len(files) == 1 || diskName(title)) {
			fit, one = append(fit, title), f
		}
	}
	switch {
	case len(fit) == 1:
		return []v1.Descriptor{one}, nil
	case len(fit) == 0 && len(layers) > 0:
		return layers, nil
	}
	return nil, fail(NotDisk, nil, "it has the files %s: name the one that is the disk", strings.Join(names, ", "))
}

// diskName tells whether a file is called like a disk.
func diskName(s string) bool {
	s = strings.ToLower(s)
	for _, c := range []string{".gz", ".xz", ".zst", ".zstd"} {
		s = strings.TrimSuffix(s, c)
	}
	switch path.Ext(s) {
	case ".img", ".raw", ".qcow2", ".qcow", ".vmdk", ".vdi", ".vhdx", ".iso":
		return true
	}
	return false
}

// layer reads one blob to its end.
func (p *pull) layer(l v1.Descriptor) (err error) {
	patience, stall := p.o.Patience, p.o.stall
	if patience == 0 {
		patience = 2 * time.Minute
	}
	if stall == 0 {
		stall = 30 * time.Second
	}
	src := p.found.source
	ctx, cancel := context.WithCancel(p.ctx)
	b := &blob{
		ctx: ctx, client: httpClient(src.rt), desc: l, patience: patience, stall: stall, fetched: &p.fetched,
		url: fmt.Sprintf("%s://%s/v2/%s/blobs/%s", src.repo.Scheme(), src.repo.RegistryStr(), src.repo.RepositoryStr(), l.Digest),
		what: func(err error) *Error {
			return classify(err, src.repo.RegistryStr(), src.user, "blob "+l.Digest.String())
		},
	}
	r, end := ahead(b)
	defer func() {
		cancel()
		end()
		b.close()
	}()
	err = p.content(bufio.NewReaderSize(r, 256<<10), l)
	var e *Error
	if err == nil || errors.As(err, &e) && (e.Kind == NotDisk || e.Kind == Truncated || e.Kind == OtherFile) {
		// What is behind the disk belongs to the digest too. And where the content
		// made no sense, the digest knows whether it is the registry's fault.
		if _, rest := io.Copy(io.Discard, r); rest != nil {
			err = rest
		}
	}
	return err
}

// content is a layer's: a tar archive with the disk somewhere in it, or a disk.
func (p *pull) content(r *bufio.Reader, l v1.Descriptor) error {
	in, closeIn, err := decompress(r)
	if err != nil {
		return err
	}
	defer closeIn()
	head, err := in.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	f := Sniff(head)
	// An empty archive is nothing but zeroes.
	empty := f == Raw && !bootable(head) && strings.Contains(string(l.MediaType), ".tar")
	if (f == tarred || empty) && !file(l) {
		return p.archive(in)
	}
	if !file(l) && len(p.found.manifest.Layers) > 1 {
		return nil // an image's layer that is no archive
	}
	return p.disk(in, -1)
}

// slack bounds what a layer may have beside the disk, in bytes.
const slack = 4 << 30

// archive looks for the disk in a layer: a regular file in /disk. No path of it is
// ever used.
func (p *pull) archive(r io.Reader) error {
	bounded := &limited{r: r, left: 2*p.limit + slack}
	t := tar.NewReader(bounded)
	first := ""
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			var e *Error
			if errors.As(err, &e) || p.ctx.Err() != nil {
				return err
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return fail(Truncated, err, "its layer ends early: build and push the image again")
			}
			return fail(NotDisk, err, "its layer is no readable tar archive")
		}
		entry := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, base := path.Split(entry)
		if dir != "disk/" && !(p.o.Path != "" && strings.HasPrefix(dir, "disk/")) || strings.HasPrefix(base, ".wh.") {
			continue
		}
		if p.o.Path != "" && strings.TrimPrefix(path.Clean("/"+p.o.Path), "/") != entry && path.Clean(p.o.Path) != strings.TrimPrefix(entry, "disk/") {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeDir:
			continue
		default:
			return fail(NotDisk, nil, "/%s is a link or device: the disk must be a plain file", entry)
		}
		if first != "" {
			return fail(NotDisk, nil, "/disk holds several files (/%s and /%s): leave one in it, or name the one that is the disk", first, entry)
		}
		first = entry
		in, closeIn, err := decompress(bufio.NewReaderSize(t, 256<<10))
		if err != nil {
			return err
		}
		err = p.disk(in, h.Size)
		closeIn()
		if err != nil {
			return err
		}
	}
}

// limited fails after so many bytes: what is behind was made to fill something up.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, fail(TooLarge, nil, "it unpacks to far more than the disk's limit")
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// disk writes the disk that in brings.
func (p *pull) disk(in *bufio.Reader, length int64) error {
	head, err := in.Peek(sniffBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var size int64
	f := Sniff(head)
	switch f {
	case Raw:
		size, err = p.raw(in, bootable(head))
	case QCOW2:
		size, err = p.qcow2(in)
	case VMDK, VDI, VHDX, VHD:
		return fail(NotDisk, nil, "its disk is in the format %s: convert it with `qemu-img convert -O qcow2` and push it again", f)
	default:
		return fail(NotDisk, nil, "what should be the disk is a %s file", f)
	}
	if err != nil {
		return err
	}
	p.got = &Info{Format: f, VirtualSize: size}
	return nil
}

func (p *pull) tooLarge(size int64) error {
	return fail(TooLarge, nil, "its disk has %d bytes (%.1f GiB) and the volume takes %d (%.1f GiB): ask for a larger volume", size, gib(size), p.limit, gib(p.limit))
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// raw copies a disk as it is.
func (p *pull) raw(in io.Reader, bootable bool) (int64, error) {
	if err := p.sink.begin(0, p.limit); err != nil {
		return 0, fmt.Errorf("empty the volume: %w", err)
	}
	buf := make([]byte, 1<<20)
	var off int64
	for {
		if err := p.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := fill(in, buf)
		if off+int64(n) > p.limit {
			return 0, fail(TooLarge, nil, "its disk has more than the %d bytes (%.1f GiB) that the volume takes: ask for a larger volume", p.limit, gib(p.limit))
		}
		if werr := p.sink.write(buf[:n], off); werr != nil {
			return 0, fmt.Errorf("write the disk: %w", werr)
		}
		off += int64(n)
		if err == io.EOF {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && !isError(err) {
			return 0, fail(Truncated, err, "its disk is cut short: build and push the image again")
		}
		if err != nil {
			return 0, err
		}
	}
	if off < 512 || off%512 != 0 && !bootable {
		return 0, fail(NotDisk, nil, "what should be the disk is a file of %d bytes that is neither a disk image nor whole sectors of 512 bytes", off)
	}
	return (off + 511) / 512 * 512, nil
}

// fill reads until b is full. Unlike io.ReadFull it tells the end of the stream
// (io.EOF, whatever came before it) from one that was cut short.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

func isError(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

// qcow2 unpacks one as it streams by.
func (p *pull) qcow2(in io.Reader) (int64, error) {
	most := p.limit + p.limit/8 + 1<<30
	r := bufio.NewReaderSize(&limited{r: in, left: 2*p.limit + slack}, 256<<10)
	size, err := qcow2.Stream(p.ctx, r, qcow2.StreamOptions{
		Begin: func(size int64) error {
			if size > p.limit {
				return p.tooLarge(size)
			}
			if err := p.sink.begin(size, p.limit); err != nil {
				return fmt.Errorf("empty the volume: %w", err)
			}
			return nil
		},
		Write: func(b []byte, off int64) error {
			if err := p.sink.write(b, off); err != nil {
				return writeError{err}
			}
			return nil
		},
		Dir: p.o.TempDir, MaxParked: most, Keep: p.keep,
	})
	var w writeError
	switch {
	case err == nil || isError(err) || p.ctx.Err() != nil || errors.Is(err, qcow2.ErrOrder) && !p.keep:
		return size, err
	case errors.As(err, &w):
		return size, fmt.Errorf("write the disk: %w", w.err)
	case errors.Is(err, qcow2.ErrOtherFile):
		return size, fail(OtherFile, err, "its disk is not whole by itself")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return size, fail(Truncated, err, "its qcow2 disk is cut short: build and push the image again")
	}
	return size, fail(NotDisk, err, "its qcow2 disk is damaged or cannot be read")
}

// writeError is the target's, not the image's.
type writeError struct{ err error }

func (w writeError) Error() string { return w.err.Error() }
func (w writeError) Unwrap() error { return w.err }

// report tells how far a transfer is, until stop.
func report(to func(Progress), done, total *atomic.Int64) (stop func()) {
	if to == nil {
		return func() {}
	}
	const every = 250 * time.Millisecond
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		last, at, rate := done.Load(), time.Now(), 0.0
		tell := func(now time.Time) {
			n := done.Load()
			if d := now.Sub(at).Seconds(); d > 0 {
				// Each second counts e times as much as the one three seconds before.
				r, w := float64(n-last)/d, min(1, d/3)
				if rate == 0 {
					w = 1
				}
				rate += w * (r - rate)
			}
			last, at = n, now
			to(Progress{Done: n, Total: total.Load(), Rate: rate})
		}
		for {
			select {
			case <-quit:
				tell(time.Now())
				return
			case now := <-tick.C:
				tell(now)
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
