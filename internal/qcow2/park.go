// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"fmt"
	"os"
	"sort"
)

// parkInMemory is how many bytes are parked before a file is made for them.
const parkInMemory = 32 << 20

// park holds parts of a file by their offsets. Parts are added in order.
type park struct {
	dir  string
	max  int64
	have []span
	mem  []byte
	file *os.File // holds what came after mem was full
	size int64
}

// span is a part: n bytes of the file from host on, at offset at of the park.
type span struct{ host, at, n int64 }

// add parks b, which begins at offset host of the file. A beginning that is parked
// already is left out.
func (p *park) add(host int64, b []byte) error {
	if n := len(p.have); n > 0 {
		if over := p.have[n-1].host + p.have[n-1].n - host; over > 0 {
			if over >= int64(len(b)) {
				return nil
			}
			b, host = b[over:], host+over
		}
	}
	if p.size+int64(len(b)) > p.max {
		return fmt.Errorf("more than %d bytes of it come before the tables that say what they are; rewrite it with `qemu-img convert -O qcow2`", p.max)
	}
	if n := len(p.have); n > 0 && p.have[n-1].host+p.have[n-1].n == host && p.have[n-1].at+p.have[n-1].n == p.size {
		p.have[n-1].n += int64(len(b))
	} else {
		p.have = append(p.have, span{host, p.size, int64(len(b))})
	}
	at := p.size
	p.size += int64(len(b))
	if p.file == nil {
		if p.size <= parkInMemory {
			p.mem = append(p.mem, b...)
			return nil
		}
		f, err := os.CreateTemp(p.dir, "skerry-qcow2-*")
		if err != nil {
			return fmt.Errorf("park parts of the image: %w", err)
		}
		p.file = f
		// Without a name it is gone with the process, however that ends.
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	if _, err := p.file.WriteAt(b, at-int64(len(p.mem))); err != nil {
		return fmt.Errorf("park parts of the image: %w", err)
	}
	return nil
}

// read fills b with the file's bytes from host on, all of which must be parked;
// with short the last ones may be missing and read as zeroes.
func (p *park) read(b []byte, host int64, short bool) error {
	for len(b) > 0 {
		n := sort.Search(len(p.have), func(i int) bool { return p.have[i].host+p.have[i].n > host })
		if n == len(p.have) || p.have[n].host > host {
			if short && n == len(p.have) {
				clear(b)
				return nil
			}
			return fmt.Errorf("%w: offset %d", ErrOrder, host)
		}
		s := p.have[n]
		at := s.at + host - s.host
		m := min(int64(len(b)), s.host+s.n-host)
		if err := p.copy(b[:m], at); err != nil {
			return err
		}
		b, host = b[m:], host+m
	}
	return nil
}

func (p *park) copy(b []byte, at int64) error {
	if at < int64(len(p.mem)) {
		n := copy(b, p.mem[at:])
		b, at = b[n:], at+int64(n)
	}
	if len(b) == 0 {
		return nil
	}
	if _, err := p.file.ReadAt(b, at-int64(len(p.mem))); err != nil {
		return fmt.Errorf("read parked parts of the image: %w", err)
	}
	return nil
}

func (p *park) close() {
	if p.file != nil {
		p.file.Close()
	}
}
