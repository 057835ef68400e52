// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// fakeKubelet is the kubelet's side: it takes registrations and calls back.
type fakeKubelet struct {
	api.UnimplementedRegistrationServer
	dir    string
	server *grpc.Server
	seen   chan *api.RegisterRequest
}

func (k *fakeKubelet) Register(_ context.Context, req *api.RegisterRequest) (*api.Empty, error) {
	k.seen <- req
	return &api.Empty{}, nil
}

// startKubelet does what a kubelet does when it starts: it removes what is in the
// plugin directory and makes its own socket.
func startKubelet(t *testing.T, dir string) *fakeKubelet {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, kubeletSocket))
	if err != nil {
		t.Fatal(err)
	}
	// A killed kubelet leaves its socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	k := &fakeKubelet{dir: dir, server: grpc.NewServer(), seen: make(chan *api.RegisterRequest, 16)}
	api.RegisterRegistrationServer(k.server, k)
	go func() { _ = k.server.Serve(l) }()
	t.Cleanup(k.server.Stop)
	return k
}

// registered waits for a registration and returns a client of its plugin.
func (k *fakeKubelet) registered(t *testing.T) (*api.RegisterRequest, api.DevicePluginClient) {
	t.Helper()
	select {
	case req := <-k.seen:
		conn, err := grpc.NewClient("unix://"+filepath.Join(k.dir, req.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return req, api.NewDevicePluginClient(conn)
	case <-t.Context().Done():
		t.Fatal("no registration")
	case <-time.After(30 * time.Second):
		t.Fatal("no registration within 30 s")
	}
	return nil, nil
}

// pluginDir has a path short enough for a socket.
func pluginDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "plugins")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startPlugin(t *testing.T, d Device, dir string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p := &plugin{dev: d, dir: dir, nodeDir: t.TempDir(), interval: 10 * time.Millisecond, log: slog.New(slog.DiscardHandler)}
	go func() { done <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("plugin ended with %v", err)
		}
	})
}

func nullDevice() Device {
	return Device{Resource: "devices.kubevirt.io/null", Path: "/dev/null", Count: 7}
}

func TestRegisterAndList(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	k := startKubelet(t, dir)
	startPlugin(t, nullDevice(), dir)
	req, client := k.registered(t)
	if req.ResourceName != "devices.kubevirt.io/null" || req.Version != "v1beta1" {
		t.Errorf("registered %v", req)
	}
	stream, err := client.ListAndWatch(t.Context(), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, d := range list.Devices {
		if d.Health != api.Healthy {
			t.Errorf("device %s is %s", d.ID, d.Health)
		}
		ids[d.ID] = true
	}
	if len(ids) != 7 {
		t.Errorf("%d different devices, want 7", len(ids))
	}
	if _, err := client.GetDevicePluginOptions(t.Context(), &api.Empty{}); err != nil {
		t.Errorf("GetDevicePluginOptions: %v", err)
	}
}

func TestKubeletRestarts(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	k := startKubelet(t, dir)
	startPlugin(t, nullDevice(), dir)
	k.registered(t)
	for range 3 {
		k.server.Stop()
		k = startKubelet(t, dir)
		_, client := k.registered(t)
		// The socket that it registered must be the one that it serves on.
		if _, err := client.GetDevicePluginOptions(t.Context(), &api.Empty{}, grpc.WaitForReady(true)); err != nil {
			t.Fatalf("plugin does not answer the new kubelet: %v", err)
		}
	}
}

func TestKubeletComesLater(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	startPlugin(t, nullDevice(), dir)
	k := startKubelet(t, dir)
	k.registered(t)
}

func TestOnlyTheSocketIsRemoved(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	k := startKubelet(t, dir)
	startPlugin(t, nullDevice(), dir)
	req, _ := k.registered(t)
	if err := os.Remove(filepath.Join(dir, req.Endpoint)); err != nil {
		t.Fatal(err)
	}
	_, client := k.registered(t)
	if _, err := client.GetDevicePluginOptions(t.Context(), &api.Empty{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

func TestDeviceComesAndGoes(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	k := startKubelet(t, dir)
	d := nullDevice()
	d.Path = filepath.Join(t.TempDir(), "device")
	works := make(chan struct{})
	d.Probe = func() error {
		select {
		case <-works:
			return nil
		default:
			return errors.New("not yet")
		}
	}
	startPlugin(t, d, dir)
	if err := os.Symlink("/dev/null", d.Path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-k.seen:
		t.Fatal("registered although the probe fails")
	default:
	}
	close(works)
	_, client := k.registered(t)
	stream, err := client.ListAndWatch(t.Context(), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		list, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := list.Devices[0].Health; got != want {
			t.Fatalf("device is %s, want %s", got, want)
		}
	}
	expect(api.Healthy)
	if err := os.Remove(d.Path); err != nil {
		t.Fatal(err)
	}
	expect(api.Unhealthy)
	_, err = client.Allocate(t.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{}}})
	if err == nil || !strings.Contains(err.Error(), "devices.kubevirt.io/null") {
		t.Errorf("Allocate of a missing device: %v", err)
	}
	if err := os.Symlink("/dev/null", d.Path); err != nil {
		t.Fatal(err)
	}
	expect(api.Healthy)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		dev  Device
		want string
	}{
		{"resource without domain", Device{Resource: "kvm", Path: "/dev/kvm", Count: 1}, `"kvm"`},
		{"resource with two slashes", Device{Resource: "a/b/c", Path: "/dev/kvm", Count: 1}, `"a/b/c"`},
		{"relative path", Device{Resource: "a/b", Path: "dev/kvm", Count: 1}, `"dev/kvm"`},
		{"none of it", Device{Resource: "a/b", Path: "/dev/kvm"}, "count 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := Run(t.Context(), t.TempDir(), t.TempDir(), []Device{tc.dev})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run: %v, want %s in it", err, tc.want)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	missing := Device{Resource: "a/missing", Path: "/nonexistent/device", Count: 1}
	if err := Run(ctx, pluginDir(t), t.TempDir(), []Device{nullDevice(), missing}); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStandard(t *testing.T) {
	t.Parallel()
	for _, kvm := range []bool{true, false} {
		has := false
		for _, d := range Standard(kvm) {
			if err := d.check(); err != nil {
				t.Error(err)
			}
			has = has || d.Resource == "devices.kubevirt.io/kvm"
		}
		if has != kvm {
			t.Errorf("Standard(%v) offers KVM: %v", kvm, has)
		}
	}
}
