// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// TestRegister: the kubelet's side of a registration, after a process that left its
// socket behind.
func TestRegister(t *testing.T) {
	t.Parallel()
	socket := RegistrationSocket(t.TempDir())
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", st.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type report struct {
		ok  bool
		why string
	}
	reports := make(chan report, 2)
	served := make(chan error, 1)
	go func() {
		served <- Register(ctx, l, "/run/x.sock", func(ok bool, why string) { reports <- report{ok, why} })
	}()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kubelet := registration.NewRegistrationClient(conn)
	info, err := kubelet.GetInfo(ctx, &registration.InfoRequest{})
	if err != nil || info.GetType() != "CSIPlugin" || info.GetName() != DriverName || info.GetEndpoint() != "/run/x.sock" || len(info.GetSupportedVersions()) == 0 {
		t.Errorf("info: %v, %v", info, err)
	}
	for _, want := range []report{{false, "not now"}, {true, ""}} {
		if _, err := kubelet.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{PluginRegistered: want.ok, Error: want.why}); err != nil {
			t.Error(err)
		}
		if got := <-reports; got != want {
			t.Errorf("reported %+v, want %+v", got, want)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
