// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/skerry-dev/skerry/internal/pool"
)

// ControllerGetCapabilities implements the controller service.
func (d *Driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var caps []*csi.ControllerServiceCapability
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY, csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS, csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		caps = append(caps, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: caps}, nil
}

// topology is where all volumes are.
func (d *Driver) topology() []*csi.Topology {
	return []*csi.Topology{{Segments: map[string]string{TopologyKey: d.node}}}
}

// here tells whether a volume may be on this node.
func (d *Driver) here(allowed []*csi.Topology) bool {
	for _, t := range allowed {
		if n, ok := t.GetSegments()[TopologyKey]; !ok || n == d.node {
			return true
		}
	}
	return len(allowed) == 0
}

func (d *Driver) volume(v pool.Volume) *csi.Volume {
	out := &csi.Volume{VolumeId: v.ID, CapacityBytes: v.Size, AccessibleTopology: d.topology()}
	switch {
	case v.Source.Snapshot != "":
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: v.Source.Snapshot}}}
	case v.Source.Volume != "":
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.Source.Volume}}}
	}
	return out
}

// CreateVolume implements the controller service.
func (d *Driver) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := need("name", r.GetName()); err != nil {
		return nil, err
	}
	k, err := kindOf(r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	for p := range r.GetParameters() {
		if !strings.HasPrefix(p, "csi.storage.k8s.io/") {
			return nil, invalid("parameter %q: must not be there: the pool has no parameters of its own", p)
		}
	}
	if len(r.GetMutableParameters()) > 0 {
		return nil, invalid("mutable parameters: must not be there: the pool has none")
	}
	if a := r.GetAccessibilityRequirements(); a != nil && !d.here(a.GetRequisite()) {
		return nil, status.Errorf(codes.ResourceExhausted, "volume %s: it must be elsewhere than on node %s, where the pool is", r.GetName(), d.node)
	}
	spec := pool.Spec{
		ID: pool.ID(r.GetName()), FSType: k.fsType,
		Size: r.GetCapacityRange().GetRequiredBytes(), Limit: r.GetCapacityRange().GetLimitBytes(),
	}
	switch s := r.GetVolumeContentSource().GetType().(type) {
	case nil:
	case *csi.VolumeContentSource_Volume:
		spec.Source.Volume = s.Volume.GetVolumeId()
		err = need("volume content source: volume", spec.Source.Volume)
	case *csi.VolumeContentSource_Snapshot:
		spec.Source.Snapshot = s.Snapshot.GetSnapshotId()
		err = need("volume content source: snapshot", spec.Source.Snapshot)
	default:
		err = invalid("volume content source %T: must be a volume or a snapshot", s)
	}
	if err != nil {
		return nil, err
	}
	v, err := d.pool.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: d.volume(v)}, nil
}

// DeleteVolume implements the controller service.
func (d *Driver) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := need("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, d.pool.Delete(ctx, r.GetVolumeId())
}

// ValidateVolumeCapabilities implements the controller service.
func (d *Driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := need("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, invalid("volume capabilities: must not be empty")
	}
	if _, err := d.pool.Get(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if _, err := kindOf(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
	}}, nil
}

// page cuts a list; its tokens are the numbers of entries that were seen.
func page[T any](all []T, token string, most int32) (part []T, next string, err error) {
	start := 0
	if token != "" {
		if start, err = strconv.Atoi(token); err != nil || start < 0 || start > len(all) {
			return nil, "", status.Errorf(codes.Aborted, "starting token %q: must be one that was returned", token)
		}
	}
	if most < 0 {
		return nil, "", invalid("max entries %d: must not be negative", most)
	}
	end := len(all)
	if most > 0 && start+int(most) < end {
		end = start + int(most)
		next = strconv.Itoa(end)
	}
	return all[start:end], next, nil
}

// ListVolumes implements the controller service.
func (d *Driver) ListVolumes(_ context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	part, next, err := page(d.pool.List(), r.GetStartingToken(), r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	out := &csi.ListVolumesResponse{NextToken: next}
	for _, v := range part {
		out.Entries = append(out.Entries, &csi.ListVolumesResponse_Entry{Volume: d.volume(v)})
	}
	return out, nil
}

// GetCapacity implements the controller service.
func (d *Driver) GetCapacity(_ context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if t := r.GetAccessibleTopology(); t != nil && !d.here([]*csi.Topology{t}) {
		return &csi.GetCapacityResponse{}, nil
	}
	if caps := r.GetVolumeCapabilities(); len(caps) > 0 {
		if _, err := kindOf(caps); err != nil {
			return &csi.GetCapacityResponse{}, nil
		}
	}
	s, err := d.pool.Space()
	if err != nil {
		return nil, err
	}
	return &csi.GetCapacityResponse{AvailableCapacity: s.Available, MaximumVolumeSize: wrapperspb.Int64(s.Available)}, nil
}

func snapshot(v pool.Volume) *csi.Snapshot {
	return &csi.Snapshot{SnapshotId: v.ID, SourceVolumeId: v.Source.Volume, SizeBytes: v.Size, CreationTime: timestamppb.New(v.Created), ReadyToUse: true}
}

// CreateSnapshot implements the controller service.
func (d *Driver) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := need("name", r.GetName()); err != nil {
		return nil, err
	}
	if err := need("source volume ID", r.GetSourceVolumeId()); err != nil {
		return nil, err
	}
	v, err := d.pool.Snapshot(ctx, pool.ID(r.GetName()), r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(v)}, nil
}

// DeleteSnapshot implements the controller service.
func (d *Driver) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if err := need("snapshot ID", r.GetSnapshotId()); err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, d.pool.DeleteSnapshot(ctx, r.GetSnapshotId())
}

// GetSnapshot implements the controller service.
func (d *Driver) GetSnapshot(_ context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if err := need("snapshot ID", r.GetSnapshotId()); err != nil {
		return nil, err
	}
	v, err := d.pool.GetSnapshot(r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshot(v)}, nil
}

// ListSnapshots implements the controller service.
func (d *Driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	var all []pool.Volume
	for _, v := range d.pool.ListSnapshots() {
		if (r.GetSnapshotId() == "" || v.ID == r.GetSnapshotId()) && (r.GetSourceVolumeId() == "" || v.Source.Volume == r.GetSourceVolumeId()) {
			all = append(all, v)
		}
	}
	part, next, err := page(all, r.GetStartingToken(), r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	out := &csi.ListSnapshotsResponse{NextToken: next}
	for _, v := range part {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(v)})
	}
	return out, nil
}

// ControllerExpandVolume implements the controller service.
func (d *Driver) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if err := need("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, invalid("capacity range: must be there")
	}
	v, err := d.pool.Expand(ctx, r.GetVolumeId(), r.GetCapacityRange().GetRequiredBytes(), r.GetCapacityRange().GetLimitBytes())
	if err != nil {
		return nil, err
	}
	// Of a block volume the device has its new size already.
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: r.GetVolumeCapability().GetBlock() == nil}, nil
}
