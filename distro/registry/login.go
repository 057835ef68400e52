// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/skerry-dev/skerry/distro/pki"
)

// Login is the registry's one.
type Login struct{ User, Password string }

const user = "skerry"

type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// EnsureLogin reads the login from a Docker configuration, which only root may read,
// or makes it. The file names all hosts (host:port) that the registry is reached by,
// and is the content of a pull secret too.
func EnsureLogin(path string, hosts []string) (l Login, content []byte, err error) {
	content, err = os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		secret := make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return l, nil, err
		}
		l = Login{user, base64.RawURLEncoding.EncodeToString(secret)}
	case err != nil:
		return l, nil, err
	default:
		if l, err = parse(content, hosts); err != nil {
			return l, nil, fmt.Errorf("%s: %w; remove it, and a new login is made at the next start", path, err)
		}
	}
	c := dockerConfig{map[string]dockerAuth{}}
	for _, h := range hosts {
		c.Auths[h] = dockerAuth{l.User, l.Password, base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))}
	}
	want, err := json.Marshal(c)
	if err != nil || string(want) == string(content) {
		return l, want, err
	}
	return l, want, pki.WriteFile(path, want, 0o600)
}

func parse(content []byte, hosts []string) (Login, error) {
	var c dockerConfig
	if err := json.Unmarshal(content, &c); err != nil {
		return Login{}, err
	}
	// The port may have changed since: any host's login is the registry's.
	var names []string
	for h := range c.Auths {
		names = append(names, h)
	}
	slices.Sort(names)
	for _, h := range append(slices.Clone(hosts), names...) {
		if a := c.Auths[h]; a.Username != "" && a.Password != "" {
			return Login{a.Username, a.Password}, nil
		}
	}
	return Login{}, errors.New("it holds no login")
}
