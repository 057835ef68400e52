// SPDX-License-Identifier: Apache-2.0

package stamp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Key collects what an output is made from.
type Key struct{ h hash.Hash }

// NewKey starts a key for the named recipe.
func NewKey(recipe string) *Key {
	k := &Key{sha256.New()}
	return k.Text(recipe)
}

// Text adds values.
func (k *Key) Text(values ...string) *Key {
	for _, v := range values {
		fmt.Fprintf(k.h, "%d:%s", len(v), v)
	}
	return k
}

// FS adds the names and contents of all files in fsys.
func (k *Key) FS(fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		k.Text(p, string(b))
		return nil
	})
}

// File adds the content of a file.
func (k *Key) File(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	k.Text(path, string(h.Sum(nil)))
	return nil
}

func (k *Key) String() string { return hex.EncodeToString(k.h.Sum(nil)) }

// stampFile is where the key of output is kept.
func stampFile(output string) string {
	return filepath.Join(filepath.Dir(output), "."+filepath.Base(output)+".stamp")
}

// content ties a key to the very file that was made: an output that was
// replaced or cut short since is not fresh.
func content(k *Key, output string) (string, error) {
	info, err := os.Stat(output)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d\n", k, info.Size(), info.ModTime().UnixNano()), nil
}

// Fresh says whether output was made from what k holds.
func Fresh(k *Key, output string) bool {
	want, err := content(k, output)
	if err != nil {
		return false
	}
	got, err := os.ReadFile(stampFile(output))
	return err == nil && string(got) == want
}

// Done records that output was made from what k holds.
func Done(k *Key, output string) error {
	s, err := content(k, output)
	if err != nil {
		return err
	}
	return os.WriteFile(stampFile(output), []byte(s), 0o644)
}
