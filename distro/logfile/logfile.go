// SPDX-License-Identifier: Apache-2.0

// Package logfile writes logs to files of bounded size.
//
// It must never stop its writer: when the disk is full, lines are lost.
package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// File is an append-only log. When it grows beyond its limit it is renamed to
// <path>.1, which replaces an older one, and begun anew.
type File struct {
	path  string
	limit int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

// Open opens path for appending, with a limit in bytes.
func Open(path string, limit int64) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &File{path: path, limit: limit}
	return l, l.open()
}

// Path is the file's name.
func (l *File) Path() string { return l.path }

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size = f, st.Size()
	return nil
}

// Write appends p. It always claims success.
func (l *File) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > l.limit && l.size > 0 {
		if err := os.Rename(l.path, l.path+".1"); err == nil {
			old := l.f
			if err := l.open(); err == nil {
				old.Close()
			}
		}
	}
	n, _ := l.f.Write(p)
	l.size += int64(n)
	return len(p), nil
}

// Bound truncates a file that another process appends to (O_APPEND) once it is
// larger than limit, after copying its end to <path>.1.
func Bound(path string, limit int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() <= limit {
		return err
	}
	keep := make([]byte, limit/2)
	n, err := f.ReadAt(keep, st.Size()-int64(len(keep)))
	if err != nil {
		return fmt.Errorf("read the end of %s: %w", path, err)
	}
	if err := os.WriteFile(path+".1", keep[:n], 0o600); err != nil {
		return err
	}
	return f.Truncate(0)
}
