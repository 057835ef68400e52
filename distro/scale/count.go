// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// writes counts requests that change something, by what they change, such as
// "PATCH pods/status". Refused ones count as well: they cost the API server the same.
type writes struct {
	mu sync.Mutex
	n  map[string]int
}

// wrap has a client's writes counted.
func (w *writes) wrap(c *rest.Config) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				w.mu.Lock()
				if w.n == nil {
					w.n = map[string]int{}
				}
				w.n[r.Method+" "+resourceOf(r.URL.Path)]++
				w.mu.Unlock()
			}
			return next.RoundTrip(r)
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// snapshot is a copy of the counts so far.
func (w *writes) snapshot() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]int, len(w.n))
	for k, v := range w.n {
		out[k] = v
	}
	return out
}

// resourceOf is the resource, with its subresource, that a path of the API means.
func resourceOf(path string) string {
	p := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(p) > 2 && p[0] == "api":
		p = p[2:]
	case len(p) > 3 && p[0] == "apis":
		p = p[3:]
	default:
		return path
	}
	if len(p) > 2 && p[0] == "namespaces" && !slices.Contains([]string{"status", "finalize"}, p[2]) {
		p = p[2:]
	}
	if len(p) > 2 {
		return p[0] + "/" + p[2]
	}
	return p[0]
}
