// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/loopdev"
	"github.com/skerry-dev/skerry/internal/pool"
)

// detachLimit bounds the wait for a device that is still in use.
const detachLimit = 30 * time.Second

// NodeGetCapabilities implements the node service.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	var caps []*csi.NodeServiceCapability
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		caps = append(caps, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: caps}, nil
}

// NodeGetInfo implements the node service.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node, AccessibleTopology: d.topology()[0]}, nil
}

// hold keeps two node calls for one volume apart.
func (d *Driver) hold(id string) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[id] {
		return nil, status.Errorf(codes.Aborted, "volume %s: another call for it is going on", id)
	}
	d.busy[id] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, id)
	}, nil
}

// begin judges the capability that a volume is staged or published with, and holds
// the volume until release.
func (d *Driver) begin(id string, c *csi.VolumeCapability) (k kind, release func(), err error) {
	if c == nil {
		return k, nil, invalid("volume capability: must be there")
	}
	if k, err = kindOf([]*csi.VolumeCapability{c}); err != nil {
		return k, nil, err
	}
	release, err = d.hold(id)
	return k, release, err
}

// NodeStageVolume attaches a volume and mounts its file system, if it has one.
func (d *Driver) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := errors.Join(need("volume ID", r.GetVolumeId()), need("staging target path", r.GetStagingTargetPath())); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	k, release, err := d.begin(r.GetVolumeId(), r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	defer release()
	v, err := d.pool.Get(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	dev, err := d.pool.Attach(ctx, v.ID)
	if err != nil || k.block {
		return &csi.NodeStageVolumeResponse{}, err
	}
	if v.FSType == "" {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s: it was made as a block volume, without a file system: use it with volumeMode Block", v.ID)
	}
	if err := failpoint.Hit(ctx, "csi.stage.before-mount"); err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, mount(ctx, dev, r.GetStagingTargetPath(), v.FSType, r.GetVolumeCapability().GetMount().GetMountFlags())
}

// mount mounts a device's file system, unless it is mounted there, and has it fill
// the device.
func mount(ctx context.Context, dev loopdev.Device, path, fsType string, options []string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	on, err := mountedOn(path)
	switch {
	case err != nil:
		return err
	case on == dev.Rdev():
	case on != 0:
		return fmt.Errorf("something else is mounted at %s", path)
	default:
		if err := mountDevice(dev, path, fsType, options); err != nil {
			return err
		}
	}
	err = pool.GrowMounted(path)
	if !errors.Is(err, pool.ErrOffline) {
		return err
	}
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s to grow it: %w", path, err)
	}
	if err := pool.GrowUnmounted(ctx, dev.Path); err != nil {
		return err
	}
	return mountDevice(dev, path, fsType, options)
}

func mountDevice(dev loopdev.Device, path, fsType string, options []string) error {
	flags, data := mountOptions(fsType, options)
	if err := unix.Mount(dev.Path, path, fsType, flags, data); err != nil {
		return fmt.Errorf("mount the %s on %s at %s (options %q): %w", fsType, dev.Path, path, data, err)
	}
	return nil
}

// mountFlags are the options of mount(8) that are no file system's own.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "rw": 0, "defaults": 0,
}

// mountOptions are those that a class or claim asks for and our own: what is deleted
// goes back to the pool at once, and a clone may be mounted beside its original.
func mountOptions(fsType string, asked []string) (flags uintptr, data string) {
	var own []string
	for _, list := range asked {
		for o := range strings.SplitSeq(list, ",") {
			if f, ok := mountFlags[o]; ok {
				flags |= f
			} else if o != "" {
				own = append(own, o)
			}
		}
	}
	if !slices.Contains(own, "nodiscard") && !slices.Contains(own, "discard") {
		own = append(own, "discard")
	}
	if fsType == "xfs" && !slices.Contains(own, "nouuid") {
		own = append(own, "nouuid")
	}
	return flags, strings.Join(own, ",")
}

// mountedOn is the number of the device whose file system is mounted at a path; 0:
// none is.
func mountedOn(path string) (uint64, error) {
	var here, above unix.Stat_t
	if err := unix.Stat(path, &here); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	if err := unix.Stat(filepath.Dir(path), &above); err != nil {
		return 0, fmt.Errorf("stat %s: %w", filepath.Dir(path), err)
	}
	if here.Dev == above.Dev {
		return 0, nil
	}
	return here.Dev, nil
}

// NodeUnstageVolume takes back what NodeStageVolume did.
func (d *Driver) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := errors.Join(need("volume ID", r.GetVolumeId()), need("staging target path", r.GetStagingTargetPath())); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	release, err := d.hold(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := unmount(r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	if err := failpoint.Hit(ctx, "csi.unstage.before-detach"); err != nil {
		return nil, err
	}
	// The caller asks again; it must not find this call still waiting.
	ctx, cancel := context.WithTimeout(ctx, detachLimit)
	defer cancel()
	return &csi.NodeUnstageVolumeResponse{}, d.pool.Detach(ctx, r.GetVolumeId())
}

// unmount takes away all that is mounted at a path.
func unmount(path string) error {
	for {
		switch err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// NodePublishVolume shows a staged volume to a pod.
func (d *Driver) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := errors.Join(need("volume ID", r.GetVolumeId()), need("target path", r.GetTargetPath()), need("staging target path", r.GetStagingTargetPath())); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	k, release, err := d.begin(r.GetVolumeId(), r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	defer release()
	dev, attached, err := d.pool.Attached(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if !attached {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s: it is not staged", r.GetVolumeId())
	}
	if r.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return nil, err
		}
		if at := elsewhere(string(b), dev.Number, r.GetStagingTargetPath(), r.GetTargetPath()); at != "" {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s: it is for one pod only, and is at %s already", r.GetVolumeId(), at)
		}
	}
	if err := failpoint.Hit(ctx, "csi.publish.before-mount"); err != nil {
		return nil, err
	}
	if k.block {
		return &csi.NodePublishVolumeResponse{}, publishBlock(dev, r.GetTargetPath())
	}
	readOnly := r.GetReadonly() || r.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	return &csi.NodePublishVolumeResponse{}, publishMount(dev, r.GetStagingTargetPath(), r.GetTargetPath(), readOnly)
}

// elsewhere finds where else than at target a loop device, or the file system on
// it, is published, in the text of a mountinfo file.
func elsewhere(mountinfo string, device int, staged, target string) string {
	number, node := fmt.Sprintf("7:%d", device), fmt.Sprintf("/loop%d", device)
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 || f[4] == staged || f[4] == target {
			continue
		}
		// The kubelet mounts parts of a file system for subPath, and a device's node
		// once more for itself.
		fileSystem := f[2] == number && f[3] == "/"
		block := strings.HasSuffix(f[3], node) && filepath.Dir(f[4]) == filepath.Dir(target)
		if fileSystem || block {
			return f[4]
		}
	}
	return ""
}

func publishMount(dev loopdev.Device, staged, target string, readOnly bool) error {
	if on, err := mountedOn(staged); err != nil || on != dev.Rdev() {
		return status.Errorf(codes.FailedPrecondition, "volume is not mounted at %s: %v", staged, err)
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	on, err := mountedOn(target)
	if err != nil {
		return err
	}
	if on != dev.Rdev() {
		if err := unix.Mount(staged, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", staged, target, err)
		}
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s read-only: %w", target, err), unmount(target))
	}
	return nil
}

func publishBlock(dev loopdev.Device, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev.Rdev() {
		return nil
	}
	if err := unix.Mount(dev.Path, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s at %s: %w", dev.Path, target, err)
	}
	return nil
}

// NodeUnpublishVolume takes a volume away from a pod.
func (d *Driver) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := errors.Join(need("volume ID", r.GetVolumeId()), need("target path", r.GetTargetPath())); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	release, err := d.hold(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := unmount(r.GetTargetPath()); err != nil {
		return nil, err
	}
	if err := failpoint.Hit(ctx, "csi.unpublish.before-remove"); err != nil {
		return nil, err
	}
	// A directory that is not empty is none of ours.
	if err := os.Remove(r.GetTargetPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// deviceAt returns the volume, and whether a block device is at path.
func (d *Driver) deviceAt(id, path string) (v pool.Volume, block bool, err error) {
	if err := errors.Join(need("volume ID", id), need("volume path", path)); err != nil {
		return v, false, status.Error(codes.InvalidArgument, err.Error())
	}
	if v, err = d.pool.Get(id); err != nil {
		return v, false, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return v, false, status.Errorf(codes.NotFound, "volume %s: it is not at %s", id, path)
		}
		return v, false, fmt.Errorf("stat %s: %w", path, err)
	}
	dev, attached, err := d.pool.Attached(id)
	if err != nil {
		return v, false, err
	}
	block = st.Mode&unix.S_IFMT == unix.S_IFBLK
	if !attached || block && st.Rdev != dev.Rdev() || !block && st.Dev != dev.Rdev() {
		return v, false, status.Errorf(codes.NotFound, "volume %s: it is not at %s", id, path)
	}
	return v, block, nil
}

// NodeGetVolumeStats implements the node service.
func (d *Driver) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	v, block, err := d.deviceAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	if block {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: v.Size}}}, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.GetVolumePath(), &st); err != nil {
		return nil, fmt.Errorf("ask %s for its space: %w", r.GetVolumePath(), err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(st.Blocks) * st.Bsize, Used: int64(st.Blocks-st.Bfree) * st.Bsize, Available: int64(st.Bavail) * st.Bsize},
		{Unit: csi.VolumeUsage_INODES, Total: int64(st.Files), Used: int64(st.Files - st.Ffree), Available: int64(st.Ffree)},
	}}, nil
}

// NodeExpandVolume has a mounted file system fill its volume.
func (d *Driver) NodeExpandVolume(_ context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	v, block, err := d.deviceAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	if !block {
		if err := pool.GrowMounted(r.GetVolumePath()); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, nil
}
