// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"os"
	"path/filepath"

	"github.com/skerry-dev/skerry/distro/pki"
)

// Trust writes dir/hosts.toml, by which containerd reaches the registry at host
// (host:port) with TLS and the authority in caFile. dir is the host's in
// Config.Registries.
func Trust(dir, host, caFile string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	url := tomlString("https://" + host)
	text := "server = " + url + "\n\n[host." + url + "]\ncapabilities = [\"pull\", \"resolve\"]\nca = " + tomlString(caFile) + "\n"
	file := filepath.Join(dir, "hosts.toml")
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	return pki.WriteFile(file, []byte(text), 0o644)
}
