// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
	"github.com/skerry-dev/skerry/test/witness"
)

const gapRounds = 5

// gaps compares the longest time between two heartbeats in a guest, while skerry and
// containerd are killed and come back, with that in a QEMU which nobody manages: the
// same program, kernel and share of the CPU, in the same minute.
func (b *bench) gaps(ctx context.Context) error {
	vmi := witnessed("gap")
	if err := b.node.Client.Create(ctx, vmi); err != nil {
		return err
	}
	ip, err := b.witnessIP(ctx, vmi)
	if err != nil {
		return err
	}
	pid, err := b.qemuOf(ctx, vmi)
	if err != nil {
		return err
	}
	control, err := startControl(ctx, pid, filepath.Join(filepath.Dir(b.node.Bin), "guest"))
	if err != nil {
		return fmt.Errorf("control guest: %w", err)
	}
	defer control.stop()

	var ratios, guests, controls []float64
	for i := range gapRounds {
		before, err := askWitness(ctx, ip, "reset")
		if err != nil {
			return err
		}
		if _, err := control.ask(ctx, "witness reset"); err != nil {
			return err
		}
		if err := b.killAll(ctx); err != nil {
			return err
		}
		if err := b.node.Up(ctx, os.Stderr); err != nil {
			return err
		}
		after, err := askWitness(ctx, ip, "report")
		if err != nil {
			return err
		}
		beside, err := control.ask(ctx, "witness report")
		if err != nil {
			return err
		}
		if err := after.Since(before); err != nil {
			return fmt.Errorf("after skerry and containerd were killed: %w", err)
		}
		guests, controls = append(guests, after.Gap.Seconds()*1000), append(controls, beside.Gap.Seconds()*1000)
		ratios = append(ratios, after.Gap.Seconds()/beside.Gap.Seconds())
		fmt.Fprintf(os.Stderr, "round %d: longest gap %v, of the control guest %v; load average %s\n", i, after.Gap, beside.Gap, loadAverage())
	}
	b.add("guest_gap_kill_ms", "ms", 0, guests...)
	b.add("guest_gap_control_ms", "ms", 0, controls...)
	b.add("guest_gap_ratio_kill", "x", 1.5, ratios...)
	return b.delete(ctx, vmi)
}

// witnessed is a machine that starts the witness by itself.
func witnessed(name string) *v1.VirtualMachineInstance {
	vmi := smallest(name)
	vmi.Spec.Domain.Devices.Disks = append(vmi.Spec.Domain.Devices.Disks, v1.Disk{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}})
	vmi.Spec.Volumes = append(vmi.Spec.Volumes, v1.Volume{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#!/bin/sh\nwitness start\n"}})
	return vmi
}

// witnessIP waits until the witness answers at the machine's address.
func (b *bench) witnessIP(ctx context.Context, vmi *v1.VirtualMachineInstance) (ip string, err error) {
	var last error
	err = poll(ctx, 200*time.Millisecond, func() (bool, error) {
		if err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(vmi), vmi); err != nil {
			return false, err
		}
		if vmi.Status.Phase.IsFinal() {
			return false, fmt.Errorf("instance %s ended: %s", vmi.Name, vmi.Status.Reason)
		}
		if len(vmi.Status.Interfaces) == 0 || vmi.Status.Interfaces[0].IPAddress == "" {
			return false, nil
		}
		ip = vmi.Status.Interfaces[0].IPAddress
		_, last = askWitness(ctx, ip, "report")
		return last == nil, nil
	})
	return ip, errors.Join(err, last)
}

func askWitness(ctx context.Context, ip, command string) (witness.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	text, err := witness.Ask(ctx, ip, command)
	if err != nil {
		return witness.Report{}, err
	}
	return witness.ParseReport(text)
}

// qemuOf is the PID of the machine's QEMU.
func (b *bench) qemuOf(ctx context.Context, vmi *v1.VirtualMachineInstance) (string, error) {
	pods := &corev1.PodList{}
	if err := b.node.Client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		for _, pid := range node.PodPIDs(string(p.UID)) {
			if strings.HasPrefix(comm(pid), "qemu-system") {
				return pid, nil
			}
		}
	}
	return "", fmt.Errorf("instance %s has no QEMU", vmi.Name)
}

// killAll ends skerry and containerd without a warning.
func (b *bench) killAll(ctx context.Context) error {
	skerry, err := b.node.PID()
	if err != nil {
		return err
	}
	containerd, err := b.containerdPID()
	if err != nil {
		return err
	}
	for _, pid := range []string{containerd, skerry} {
		n, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %s: %w", pid, err)
		}
	}
	return errors.Join(gone(ctx, skerry), gone(ctx, containerd))
}

// containerdPID finds this cluster's by the directory in its command line.
func (b *bench) containerdPID() (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		line, err := os.ReadFile(f)
		args := strings.Split(string(line), "\x00")
		if err == nil && filepath.Base(args[0]) == "containerd" && strings.Contains(string(line), b.node.RunDir) {
			return filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", errors.New("no containerd runs")
}
