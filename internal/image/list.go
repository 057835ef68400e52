// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Listed is an image of a registry.
type Listed struct {
	Repository string
	Tag        string
	Digest     string
	Size       int64 // of all its layers, in bytes, as they are at the registry
}

// List returns a registry's images for linux/amd64, by name. What cannot be read is
// listed without a size.
func List(ctx context.Context, host string, o Options) ([]Listed, error) {
	var opts []name.Option
	if allowed(o.Insecure, host) {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return nil, &Error{Kind: BadName, Ref: host, Err: err, Text: "this is no registry: it must be a host or host:port"}
	}
	base, err := o.roundTripper(reg.RegistryStr())
	if err != nil {
		return nil, named(host, err)
	}
	auth := remote.WithAuthFromKeychain(hostKeychain{o.Keychain})
	repos, err := remote.Catalog(ctx, reg, remote.WithContext(ctx), remote.WithTransport(base), auth)
	if err != nil {
		return nil, named(host, classify(err, host, "", "its catalog"))
	}
	sort.Strings(repos)
	var out []Listed
	for _, r := range repos {
		repo := reg.Repo(r)
		err := o.connect(ctx, repo, transport.PullScope, func(s *source) error {
			defer s.idle()
			tags, err := remote.List(repo, remote.WithContext(ctx), remote.WithTransport(s.rt))
			if err != nil {
				return err
			}
			sort.Strings(tags)
			for _, t := range tags {
				l := Listed{Repository: host + "/" + r, Tag: t}
				if f, err := s.manifest(ctx, repo.Tag(t)); err == nil {
					l.Digest = f.digest.String()
					l.Size = layersSize(f.manifest)
				}
				out = append(out, l)
			}
			return nil
		})
		// A repository whose last image was removed stays in the catalog.
		if err != nil && KindOf(err) != NotFound {
			return out, named(host+"/"+r, err)
		}
	}
	return out, nil
}

func layersSize(m *v1.Manifest) (n int64) {
	for _, l := range m.Layers {
		n += l.Size
	}
	return n
}

// Details is what a registry says of an image.
type Details struct {
	Ref, Digest string
	Created     time.Time
	Layers      []v1.Descriptor
	Labels      map[string]string
}

// Inspect asks a registry for an image's manifest and configuration.
func Inspect(ctx context.Context, ref string, o Options) (Details, error) {
	r, err := parseRef(ref)
	if err != nil {
		return Details{}, err
	}
	f, err := o.find(ctx, r)
	if err != nil {
		return Details{}, named(ref, err)
	}
	defer f.idle()
	d := Details{Ref: r.Name(), Digest: f.digest.String(), Layers: f.manifest.Layers}
	// An artifact has no configuration of an image.
	img, err := remote.Image(f.repo.Digest(f.digest.String()), remote.WithContext(ctx), remote.WithTransport(f.rt), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		return d, nil
	}
	if c, err := img.ConfigFile(); err == nil {
		d.Created, d.Labels = c.Created.Time, c.Config.Labels
	}
	return d, nil
}

// Remove deletes an image from its registry: the manifest, and so every tag of it.
func Remove(ctx context.Context, ref string, o Options) (digest string, err error) {
	r, err := parseRef(ref)
	if err != nil {
		return "", err
	}
	o.Mirrors = nil
	places, err := o.places(r)
	if err != nil {
		return "", named(ref, err)
	}
	own := places[0]
	err = o.connect(ctx, own.Context(), transport.DeleteScope, func(s *source) error {
		defer s.idle()
		d, err := remote.Head(own, remote.WithContext(ctx), remote.WithTransport(s.rt))
		if err != nil {
			return classify(err, s.repo.RegistryStr(), s.user, own.Identifier()+" of "+s.repo.RepositoryStr())
		}
		digest = d.Digest.String()
		if err := remote.Delete(s.repo.Digest(digest), remote.WithContext(ctx), remote.WithTransport(s.rt)); err != nil {
			return fmt.Errorf("delete %s: %w", digest, err)
		}
		return nil
	})
	return digest, named(ref, err)
}
