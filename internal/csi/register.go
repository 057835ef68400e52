// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar tells the kubelet where the driver's socket is. The kubelet asks
// whenever it finds the registrar's socket in its directory plugins_registry.
type registrar struct {
	registration.UnimplementedRegistrationServer
	socket string
	report func(registered bool, why string)
}

// RegistrationSocket is where the registrar listens in the kubelet's root directory.
// A unix socket's path has at most 107 bytes.
func RegistrationSocket(kubeletRoot string) string {
	return filepath.Join(kubeletRoot, "plugins_registry", DriverName+"-reg.sock")
}

// Register answers the kubelet on l, which Listen made at RegistrationSocket, until
// the context ends. Each time the kubelet has taken or refused the driver that
// listens on socket, report is told, with the kubelet's reason.
func Register(ctx context.Context, l net.Listener, socket string, report func(registered bool, why string)) error {
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, &registrar{socket: socket, report: report})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// GetInfo implements the kubelet's plugin registration.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: DriverName, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus implements the kubelet's plugin registration.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	r.report(s.GetPluginRegistered(), s.GetError())
	return &registration.RegistrationStatusResponse{}, nil
}
