// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// namespace is where the CRI plugin, and so the kubelet, keeps its images.
const namespace = "k8s.io"

// pinnedLabel keeps the kubelet's garbage collector off an image that could not
// be pulled again.
const pinnedLabel = "io.cri-containerd.pinned"

// Import brings the archives' images in that are not there yet with the same
// digest, and pins them. It returns the names of those that it brought in.
func Import(ctx context.Context, cfg Config, archives []Archive) (imported []string, err error) {
	conn, err := grpc.NewClient("unix://"+cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	images := imagesapi.NewImagesClient(conn)
	nsctx := metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	for _, a := range archives {
		res, err := images.Get(nsctx, &imagesapi.GetImageRequest{Name: a.Name})
		switch {
		case status.Code(err) == codes.NotFound:
		case err != nil:
			return imported, fmt.Errorf("look up image %s: %w", a.Name, err)
		case res.GetImage().GetTarget().GetDigest() == a.Digest:
			continue
		}
		if err := failpoint.Hit(ctx, "cluster.images.before-import"); err != nil {
			return imported, err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(cfg.BinDir, "ctr"), "--address", cfg.Socket, "--namespace", namespace, "images", "import",
			// Layers are on the disk before the image is on record: otherwise a power cut
			// within half a minute would leave an image of empty files, for good.
			"--local", "--sync-fs", a.Path)
		if out, err := cmd.CombinedOutput(); err != nil {
			return imported, fmt.Errorf("import image %s from %s: %w: %s", a.Name, a.Path, err, tail(out))
		}
		img, err := images.Get(nsctx, &imagesapi.GetImageRequest{Name: a.Name})
		if err != nil {
			return imported, fmt.Errorf("image %s is missing after the import of %s: %w", a.Name, a.Path, err)
		}
		i := img.GetImage()
		if i.Labels == nil {
			i.Labels = map[string]string{}
		}
		i.Labels[pinnedLabel] = "pinned"
		if _, err := images.Update(nsctx, &imagesapi.UpdateImageRequest{
			Image: i, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels." + pinnedLabel}},
		}); err != nil {
			return imported, fmt.Errorf("pin image %s: %w", a.Name, err)
		}
		imported = append(imported, a.Name)
	}
	return imported, nil
}

func tail(b []byte) []byte {
	if len(b) > 500 {
		return b[len(b)-500:]
	}
	return b
}
