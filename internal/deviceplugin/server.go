// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"context"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// server answers the kubelet for one device.
type server struct {
	api.UnimplementedDevicePluginServer
	dev     Device
	nodeDir string

	mu      sync.Mutex
	healthy bool
	changed chan struct{} // closed when healthy changes
}

func newServer(d Device, nodeDir string) *server {
	return &server{dev: d, nodeDir: nodeDir, healthy: true, changed: make(chan struct{})}
}

func (s *server) setHealthy(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.healthy == ok {
		return
	}
	s.healthy = ok
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) state() (healthy bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.healthy, s.changed
}

func (s *server) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch sends all devices whenever their health changes.
func (s *server) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	for {
		healthy, changed := s.state()
		health := api.Unhealthy
		if healthy {
			health = api.Healthy
		}
		resp := &api.ListAndWatchResponse{Devices: make([]*api.Device, s.dev.Count)}
		for i := range resp.Devices {
			resp.Devices[i] = &api.Device{ID: s.dev.name() + strconv.Itoa(i), Health: health}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// Allocate gives the device to containers; which of the count does not matter.
func (s *server) Allocate(_ context.Context, req *api.AllocateRequest) (*api.AllocateResponse, error) {
	node, err := s.dev.node(s.nodeDir)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "allocate %s: %v", s.dev.Resource, err)
	}
	resp := &api.AllocateResponse{}
	for range req.GetContainerRequests() {
		resp.ContainerResponses = append(resp.ContainerResponses, &api.ContainerAllocateResponse{
			Devices: []*api.DeviceSpec{{ContainerPath: s.dev.Path, HostPath: node, Permissions: "rw"}},
		})
	}
	return resp, nil
}
