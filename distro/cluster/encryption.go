// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/distro/pki"
)

// encryptionFile is the API server's encryption configuration.
func (c *Config) encryptionFile() string { return c.data("encryption.yaml") }

// ensureEncryption returns the path of the API server's encryption
// configuration: Secrets are encrypted with a random key of this node. A lost key
// means lost Secrets, so a file that exists is never touched, and where a database
// exists none is made: with another key every Secret would be unreadable, which
// nobody would notice before it is needed.
func (c *Config) ensureEncryption() (string, error) {
	path := c.encryptionFile()
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := checkEncryption(b); err != nil {
			return "", fmt.Errorf("the key of the cluster's Secrets in %s cannot be read: restore the file from a backup: %w", path, err)
		}
		return path, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if _, err := os.Stat(c.data("etcd", "member")); !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(err, fmt.Errorf("%s, the key of the cluster's Secrets, is gone, but the database is there: restore the file from a backup "+
			"(without one the Secrets are lost: `skerry reset` and begin anew)", path))
	}
	key := make([]byte, encryptionKeyLen)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return path, pki.WriteFile(path, []byte(encryptionConfig(key)), 0o600)
}

// encryptionKeyLen is XSalsa20's, in bytes.
const encryptionKeyLen = 32

// checkEncryption tells whether a configuration, which may have been changed by
// hand, is whole: that it ends where this package's ends and all its keys decode.
func checkEncryption(b []byte) error {
	var conf struct {
		Kind      string `json:"kind"`
		Resources []struct {
			Providers []map[string]struct {
				Keys []struct {
					Name   string `json:"name"`
					Secret []byte `json:"secret"`
				} `json:"keys"`
			} `json:"providers"`
		} `json:"resources"`
	}
	if err := yaml.Unmarshal(b, &conf); err != nil {
		return err
	}
	if conf.Kind != "EncryptionConfiguration" || len(conf.Resources) == 0 {
		return errors.New("it is empty, or no EncryptionConfiguration")
	}
	for _, r := range conf.Resources {
		keys, identity := 0, false
		for _, p := range r.Providers {
			for name, what := range p {
				identity = identity || name == "identity"
				for _, k := range what.Keys {
					keys++
					if name == "secretbox" && len(k.Secret) != encryptionKeyLen {
						return fmt.Errorf("key %q has %d bytes, want %d", k.Name, len(k.Secret), encryptionKeyLen)
					}
				}
			}
		}
		if keys == 0 || !identity {
			return errors.New("it is cut off: it must have a key and end with the provider identity")
		}
	}
	return nil
}

// encryptionConfig encrypts with XSalsa20 and Poly1305; "identity" reads what
// was stored unencrypted.
func encryptionConfig(key []byte) string {
	return fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox:
      keys:
      - name: key1
        secret: %s
  - identity: {}
`, base64.StdEncoding.EncodeToString(key))
}
