// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Keychain holds logins for registries, as pull secrets and ~/.docker/config.json do.
type Keychain struct{ entries []login }

type login struct {
	host, path string // as in the file, without scheme; host may be a pattern
	auth       authn.AuthConfig
}

// Login adds one for a whole registry.
func (k *Keychain) Login(host, user, password string) {
	k.entries = append(k.entries, login{host: host, auth: authn.AuthConfig{Username: user, Password: password}})
}

// AddDockerConfig adds the logins of a Docker configuration, the content of a
// Secret of type kubernetes.io/dockerconfigjson. Credential helpers are not run.
func (k *Keychain) AddDockerConfig(b []byte) error {
	var file struct {
		Auths map[string]struct {
			Username, Password, Auth string
			IdentityToken            string `json:"identitytoken"`
			RegistryToken            string `json:"registrytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return fmt.Errorf("Docker configuration: %w", err)
	}
	keys := make([]string, 0, len(file.Auths))
	for key := range file.Auths {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		a := file.Auths[key]
		if a.Auth != "" && a.Username == "" && a.Password == "" {
			text, err := base64.StdEncoding.DecodeString(strings.TrimRight(a.Auth, "\x00"))
			if err != nil {
				text, err = base64.RawStdEncoding.DecodeString(a.Auth)
			}
			user, password, ok := strings.Cut(string(text), ":")
			if err != nil || !ok {
				return fmt.Errorf(`Docker configuration: auths[%q].auth: must be "user:password" in base64`, key)
			}
			a.Username, a.Password = user, strings.TrimRight(password, "\x00")
		}
		l := login{auth: authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}}
		if l.auth == (authn.AuthConfig{}) {
			continue // logged in by a credential helper, or not at all
		}
		l.host, l.path = splitKey(key)
		k.entries = append(k.entries, l)
	}
	return nil
}

// Add adds another keychain's logins after this one's.
func (k *Keychain) Add(other Keychain) { k.entries = append(k.entries, other.entries...) }

// splitKey reads a key of auths: "https://host/v2/", "host:port", "host/project".
func splitKey(key string) (host, dir string) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, dir, _ = strings.Cut(key, "/")
	dir = strings.Trim(dir, "/")
	if first, rest, _ := strings.Cut(dir, "/"); first == "v1" || first == "v2" {
		dir = rest
	}
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = "index.docker.io"
	}
	return host, dir
}

// lookup returns the logins for a repository, the most specific first, as Kubernetes
// orders them: the longest path, then the order of the secrets.
func (k Keychain) lookup(host, repo string) []authn.AuthConfig {
	var fit []login
	for _, l := range k.entries {
		if matchHost(l.host, host) && (l.path == "" || repo == l.path || strings.HasPrefix(repo, l.path+"/")) {
			fit = append(fit, l)
		}
	}
	sort.SliceStable(fit, func(a, b int) bool { return len(fit[a].path) > len(fit[b].path) })
	out := make([]authn.AuthConfig, len(fit))
	for i, l := range fit {
		out[i] = l.auth
	}
	return out
}

// matchHost compares label by label; a pattern's labels may have wildcards.
func matchHost(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	if pattern == host {
		return true
	}
	p, h := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(p) != len(h) || !strings.Contains(pattern, "*") {
		return false
	}
	for i := range p {
		if ok, err := path.Match(p[i], h[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// hostKeychain gives the first login for a registry.
type hostKeychain struct{ k Keychain }

func (h hostKeychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	for _, a := range h.k.lookup(r.RegistryStr(), "") {
		return authn.FromConfig(a), nil
	}
	return authn.Anonymous, nil
}
