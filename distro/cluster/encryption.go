// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/skerry-dev/skerry/distro/pki"
)

// ensureEncryption returns the path of the API server's encryption
// configuration: Secrets are encrypted with a random key of this node. A file
// that exists is never touched, as a lost key means lost Secrets.
func (c *Config) ensureEncryption() (string, error) {
	path := c.data("encryption.yaml")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return path, pki.WriteFile(path, []byte(encryptionConfig(key)), 0o600)
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
