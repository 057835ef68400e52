// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"strings"
	"testing"
)

func TestEncryptionKeyIsKept(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	path, err := c.ensureEncryption()
	if err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ensureEncryption(); err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != string(was) {
		t.Errorf("the second start changed it: %v", err)
	}
}

// A power cut on a disk that lies, or a hand that slipped: never another key, which
// would make every Secret unreadable, and always a word on what to do.
func TestDamagedEncryptionKeyIsRefused(t *testing.T) {
	t.Parallel()
	whole := encryptionConfig(make([]byte, encryptionKeyLen))
	for name, text := range map[string]string{
		"empty":         "",
		"half":          whole[:len(whole)/2],
		"half a key":    whole[:strings.Index(whole, "secret:")+20],
		"without end":   strings.TrimSuffix(whole, "  - identity: {}\n"),
		"zeroes":        strings.Repeat("\x00", len(whole)),
		"short key":     strings.Replace(whole, "AAAA", "", 1),
		"another thing": "apiVersion: v1\nkind: ConfigMap\n",
	} {
		c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
		if err := os.WriteFile(c.encryptionFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.ensureEncryption()
		if err == nil || !strings.Contains(err.Error(), "restore the file from a backup") {
			t.Errorf("%s: got %v", name, err)
		}
		if b, _ := os.ReadFile(c.encryptionFile()); string(b) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if err := checkEncryption([]byte(whole)); err != nil {
		t.Error(err)
	}
}

func TestLostEncryptionKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	if err := os.MkdirAll(c.data("etcd", "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ensureEncryption(); err == nil || !strings.Contains(err.Error(), "restore the file from a backup") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(c.encryptionFile()); err == nil {
		t.Error("a new key was made beside an old database")
	}
}

func TestDamagedConfigurationSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(savedFile(c.DataDir), 40); err != nil {
		t.Fatal(err)
	}
	if err := c.fits(); err == nil || !strings.Contains(err.Error(), "remove it and start with the same flags") {
		t.Errorf("got %v", err)
	}
}
