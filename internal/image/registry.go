// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Options say how registries are reached.
type Options struct {
	// Keychain has the logins. All that fit are tried, then none.
	Keychain Keychain
	// CABundle has certificates (PEM) that are trusted besides the system's.
	CABundle []byte
	// Insecure are registries ("host" or "host:port") that may have any certificate,
	// or none at all.
	Insecure []string
	// Mirrors are asked before the registry itself, in this order, by its name.
	Mirrors map[string][]string
	// Path chooses the disk in an image that has several: a path below /disk, or the
	// title of an artifact's file.
	Path string
	// TempDir takes what a disk's format makes wait. Default: the system's.
	TempDir string
	// Progress is told how it goes, a few times a second and once at the end.
	Progress func(Progress)
	// Patience is how long a registry may bring nothing. Default: two minutes.
	Patience time.Duration

	stall time.Duration // without a byte a connection is given up; tests shorten it
}

// Progress is the state of a transfer.
type Progress struct {
	Done  int64   // bytes fetched from (or pushed to) the registry
	Total int64   // of these, 0 while unknown
	Rate  float64 // bytes per second, over the last seconds
}

// parseRef reads an image's name; "docker://" in front, as CDI has it, is accepted.
func parseRef(ref string) (name.Reference, error) {
	r, err := name.ParseReference(strings.TrimPrefix(ref, "docker://"))
	if err != nil {
		return nil, &Error{Kind: BadName, Ref: ref, Err: err, Text: "this is no image reference: it must be like registry.example:5000/project/name:tag"}
	}
	return r, nil
}

// guard lets nothing through without TLS but what is allowed to.
type guard struct {
	next     http.RoundTripper
	insecure []string
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !allowed(g.insecure, req.URL.Host) {
		return nil, errPlain
	}
	return g.next.RoundTrip(req)
}

// allowed tells whether list names the host, with or without its port.
func allowed(list []string, host string) bool {
	h, _, err := net.SplitHostPort(host)
	return slices.Contains(list, host) || err == nil && slices.Contains(list, h)
}

// roundTripper is what all connections to a registry go through.
func (o *Options) roundTripper(host string) (http.RoundTripper, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(o.CABundle) > 0 && !pool.AppendCertsFromPEM(o.CABundle) {
		return nil, fail(Untrusted, nil, "the authorities given for registries are no certificates in PEM")
	}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: pool, InsecureSkipVerify: allowed(o.Insecure, host)},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   4,
		ReadBufferSize:        64 << 10,
		// One blob is one stream: HTTP/1.1 has less to do for it than HTTP/2.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return guard{t, o.Insecure}, nil
}

// source is a repository at one registry (or mirror), logged in.
type source struct {
	repo name.Repository
	user string
	rt   http.RoundTripper
	idle func()
}

// connect logs in to the repository, trying the logins in turn until use is
// content.
func (o *Options) connect(ctx context.Context, repo name.Repository, scope string, use func(*source) error) error {
	host := repo.RegistryStr()
	base, err := o.roundTripper(host)
	if err != nil {
		return err
	}
	idle := base.(guard).next.(*http.Transport).CloseIdleConnections
	var last error
	for _, c := range append(o.Keychain.lookup(host, repo.RepositoryStr()), authn.AuthConfig{}) {
		if last != nil && c == (authn.AuthConfig{}) {
			break // a login that was refused says more than its absence
		}
		s := &source{repo: repo, user: c.Username, idle: idle}
		if s.user == "" && c != (authn.AuthConfig{}) {
			s.user = "(token)"
		}
		s.rt, err = transport.NewWithContext(ctx, repo.Registry, authn.FromConfig(c), base, []string{repo.Scope(scope)})
		if err == nil {
			err = use(s)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := classify(err, host, s.user, repo.RepositoryStr())
		if e.Kind != Auth {
			idle()
			return e
		}
		if last == nil {
			last = e
		}
	}
	idle()
	return last
}

// places are where ref may be found: the mirrors, then its own registry.
func (o *Options) places(ref name.Reference) ([]name.Reference, error) {
	var out []name.Reference
	own := ref.Context().RegistryStr()
	mirrors := o.Mirrors[own]
	if own == name.DefaultRegistry && mirrors == nil {
		mirrors = o.Mirrors["docker.io"]
	}
	hosts := append(slices.Clone(mirrors), own)
	for _, h := range hosts {
		var opts []name.Option
		if allowed(o.Insecure, h) {
			opts = append(opts, name.Insecure)
		}
		sep := ":"
		if _, ok := ref.(name.Digest); ok {
			sep = "@"
		}
		r, err := name.ParseReference(h+"/"+ref.Context().RepositoryStr()+sep+ref.Identifier(), opts...)
		if err != nil {
			return nil, fail(BadName, err, "mirror %q: must be a registry's host or host:port", h)
		}
		out = append(out, r)
	}
	return out, nil
}

// found is a manifest and where it was.
type found struct {
	*source
	digest   v1.Hash // what the name stands for: of the index where there is one
	manifest *v1.Manifest
}

// maxManifest bounds a manifest, in bytes, as registries do.
const maxManifest = 4 << 20

// find gets the manifest for linux/amd64 that ref stands for.
func (o *Options) find(ctx context.Context, ref name.Reference) (*found, error) {
	places, err := o.places(ref)
	if err != nil {
		return nil, err
	}
	var first error
	for n, p := range places {
		var f *found
		err := o.connect(ctx, p.Context(), transport.PullScope, func(s *source) error {
			var err error
			f, err = s.manifest(ctx, p)
			return err
		})
		if err == nil {
			return f, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// What the registry itself says counts, if it says anything.
		if first == nil || n == len(places)-1 {
			first = err
		}
	}
	return nil, first
}

func (s *source) manifest(ctx context.Context, ref name.Reference) (*found, error) {
	what := ref.Identifier() + " of " + s.repo.RepositoryStr()
	get := func(r name.Reference) (*remote.Descriptor, error) {
		d, err := remote.Get(r, remote.WithContext(ctx), remote.WithTransport(s.rt))
		if err != nil {
			return nil, classify(err, s.repo.RegistryStr(), s.user, what)
		}
		return d, nil
	}
	d, err := get(ref)
	if err != nil {
		return nil, err
	}
	f := &found{source: s, digest: d.Digest}
	for depth := 0; d.MediaType.IsIndex(); depth++ {
		index, err := v1.ParseIndexManifest(strings.NewReader(string(d.Manifest)))
		if err != nil {
			return nil, fail(NotDisk, err, "its index is damaged")
		}
		m, err := choose(index)
		if err == nil && depth == 2 {
			err = fail(NotDisk, nil, "its indexes name each other")
		}
		if err != nil {
			return nil, err
		}
		if d, err = get(s.repo.Digest(m.Digest.String())); err != nil {
			return nil, err
		}
	}
	if f.manifest, err = v1.ParseManifest(strings.NewReader(string(d.Manifest))); err != nil || len(d.Manifest) > maxManifest {
		return nil, fail(NotDisk, err, "its manifest is damaged or of an unknown kind (%s)", d.MediaType)
	}
	for _, l := range f.manifest.Layers {
		if l.Size < 0 {
			return nil, fail(NotDisk, nil, "its manifest has a blob of %d bytes", l.Size)
		}
	}
	return f, nil
}

// choose picks the manifest for linux/amd64 of an index: by its platform, or the
// only one that says nothing.
func choose(index *v1.IndexManifest) (*v1.Descriptor, error) {
	var silent []*v1.Descriptor
	var there []string
	for i := range index.Manifests {
		m := &index.Manifests[i]
		switch p := m.Platform; {
		case p == nil || p.OS == "" && p.Architecture == "":
			silent = append(silent, m)
		case p.OS == "linux" && p.Architecture == "amd64":
			return m, nil
		default:
			there = append(there, p.OS+"/"+p.Architecture)
		}
	}
	if len(silent) == 1 {
		return silent[0], nil
	}
	return nil, fail(NotFound, nil, "it has nothing for linux/amd64, only %s", strings.Join(append(there, fmt.Sprintf("%d without a platform", len(silent))), ", "))
}

// checkRedirect follows a registry to the store that has its blobs, but not into
// this machine or to a cloud's metadata.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("more than 5 redirects")
	}
	if req.URL.Hostname() == via[0].URL.Hostname() {
		return nil
	}
	if a, err := netip.ParseAddr(req.URL.Hostname()); req.URL.Hostname() == "localhost" || err == nil && (a.Unmap().IsLoopback() || a.Unmap().IsLinkLocalUnicast() || a.IsUnspecified()) {
		return fmt.Errorf("redirected to %s, which is this machine's own", req.URL.Host)
	}
	return nil
}
