// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
)

// Archive is an OCI image layout in a tar file, holding one named image.
type Archive struct {
	Path   string
	Name   string // the image's full reference
	Digest string // of the index or manifest that the name stands for
}

// indexLimit bounds index.json; a real one has a few hundred bytes.
const indexLimit = 1 << 20

var (
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	nameForm   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,254}$`)
)

// ReadArchive finds out what image is in the archive at file.
func ReadArchive(file string) (Archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return Archive{}, err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return Archive{}, fmt.Errorf("%s is not an OCI image layout: it has no index.json", file)
		}
		if err != nil {
			return Archive{}, fmt.Errorf("%s: %w", file, err)
		}
		if path.Clean(h.Name) != "index.json" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(r, indexLimit))
		if err != nil {
			return Archive{}, fmt.Errorf("%s: index.json: %w", file, err)
		}
		a, err := parseIndex(b)
		if err != nil {
			return Archive{}, fmt.Errorf("%s: index.json: %w", file, err)
		}
		a.Path = file
		return a, nil
	}
}

// parseIndex reads an image layout's index (OCI image-spec, image-layout.md).
func parseIndex(b []byte) (Archive, error) {
	var index struct {
		Manifests []struct {
			Digest      string            `json:"digest"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return Archive{}, err
	}
	if len(index.Manifests) != 1 {
		return Archive{}, fmt.Errorf("it lists %d images: there must be exactly one", len(index.Manifests))
	}
	m := index.Manifests[0]
	name := m.Annotations["io.containerd.image.name"]
	if name == "" {
		name = m.Annotations["org.opencontainers.image.ref.name"]
	}
	if !nameForm.MatchString(name) {
		return Archive{}, fmt.Errorf("image name %q: the annotation io.containerd.image.name must hold a full reference such as registry.example/name:tag", name)
	}
	if !digestForm.MatchString(m.Digest) {
		return Archive{}, fmt.Errorf("digest %q: must be sha256: and 64 hex digits", m.Digest)
	}
	return Archive{Name: name, Digest: m.Digest}, nil
}
