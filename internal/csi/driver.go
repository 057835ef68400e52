// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/skerry-dev/skerry/internal/pool"
	"github.com/skerry-dev/skerry/internal/version"
)

const (
	// DriverName is the driver's, in storage classes and volumes.
	DriverName = "local.csi.skerry.dev"
	// TopologyKey is the node label that says where a volume is.
	TopologyKey = DriverName + "/node"
	// DefaultFSType is the file system of a volume whose claim names none. XFS
	// grows while it is mounted without further rights.
	DefaultFSType = "xfs"
)

// Driver serves one pool on one node.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	pool *pool.Pool
	node string

	mu   sync.Mutex
	busy map[string]bool // volumes that a node call works on
}

// New makes a driver for the node of that name.
func New(p *pool.Pool, node string) *Driver {
	return &Driver{pool: p, node: node, busy: map[string]bool{}}
}

// Listen makes the driver's socket, which only root may use.
func Listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an earlier start: %w", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve answers until the context ends.
func (d *Driver) Serve(ctx context.Context, l net.Listener) error {
	s := grpc.NewServer(grpc.UnaryInterceptor(classify))
	csi.RegisterIdentityServer(s, d)
	csi.RegisterControllerServer(s, d)
	csi.RegisterNodeServer(s, d)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// classify gives errors the codes that the specification has for them.
func classify(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	if _, ok := status.FromError(err); ok {
		return nil, err
	}
	code := codes.Internal
	for _, c := range []struct {
		is   error
		code codes.Code
	}{
		{pool.ErrNotFound, codes.NotFound}, {pool.ErrExists, codes.AlreadyExists}, {pool.ErrBusy, codes.Aborted},
		{pool.ErrInUse, codes.FailedPrecondition}, {pool.ErrOffline, codes.FailedPrecondition}, {pool.ErrNoSpace, codes.ResourceExhausted},
		{pool.ErrSize, codes.OutOfRange}, {pool.ErrInvalid, codes.InvalidArgument},
		{context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if errors.Is(err, c.is) {
			code = c.code
			break
		}
	}
	return nil, status.Error(code, err.Error())
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// need refuses a request that lacks a field.
func need(field, value string) error {
	if value == "" {
		return invalid("%s: must not be empty", field)
	}
	return nil
}

// GetPluginInfo implements the identity service.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: DriverName, VendorVersion: version.Version}, nil
}

// GetPluginCapabilities implements the identity service.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}, nil
}

// Probe implements the identity service.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	if _, err := d.pool.Space(); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// kind is what a list of capabilities asks of a volume.
type kind struct {
	block  bool
	fsType string
}

// kindOf checks capabilities; all must ask for the same.
func kindOf(caps []*csi.VolumeCapability) (kind, error) {
	var k kind
	if len(caps) == 0 {
		return k, invalid("volume capabilities: must not be empty")
	}
	for i, c := range caps {
		var is kind
		switch a := c.GetAccessType().(type) {
		case *csi.VolumeCapability_Block:
			is.block = true
		case *csi.VolumeCapability_Mount:
			if is.fsType = a.Mount.GetFsType(); is.fsType == "" {
				is.fsType = DefaultFSType
			}
			if is.fsType != "ext4" && is.fsType != "xfs" {
				return k, invalid("volume capability %d: file system %q: must be ext4 or xfs", i, is.fsType)
			}
		default:
			return k, invalid("volume capability %d: access type: must be block or mount", i)
		}
		switch m := c.GetAccessMode().GetMode(); m {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		default:
			return k, invalid("volume capability %d: access mode %s: must be one of a single node (ReadWriteOnce, ReadWriteOncePod), as the volume is on this node's disk", i, m)
		}
		if i > 0 && is != k {
			return k, invalid("volume capability %d: %+v: must ask for the same as the others, %+v", i, is, k)
		}
		k = is
	}
	return k, nil
}
