// SPDX-License-Identifier: Apache-2.0

package teardown

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/cniplugin"
)

// detachAll has the CNI plugins give back what they gave to pods, all of which have
// ended.
func detachAll(ctx context.Context, t Target) error {
	if t.CNIStateDir == "" {
		return nil
	}
	r := &cniplugin.Runner{BinDirs: []string{t.CNIBinDir}, StateDir: t.CNIStateDir}
	pods, err := r.Pods()
	for _, uid := range pods {
		err = errors.Join(err, r.Detach(ctx, uid))
	}
	return err
}

// removeLinks deletes the pods' bridge, those that CNI plugins made for networks
// beside the pods' own, and the host's ends of the pods' veths that are still
// attached to them.
func removeLinks(_ context.Context, t Target) error {
	var bridges []string
	if t.CNIStateDir != "" {
		made, err := cniplugin.MadeBridges(t.CNIStateDir)
		if err != nil {
			return fmt.Errorf("look for bridges that were made: %w", err)
		}
		bridges = made
	}
	if t.Bridge != "" {
		bridges = append(bridges, t.Bridge)
	}
	var all error
	for _, b := range bridges {
		all = errors.Join(all, removeBridge(b))
	}
	return all
}

func removeBridge(name string) error {
	br, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", name, err)
	}
	if br.Type() != "bridge" {
		return nil // it has the name of one that was
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex != br.Attrs().Index || l.Type() != "veth" {
			continue
		}
		// It goes by itself, too, once its pod's namespace has gone.
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) && !errors.As(err, &netlink.LinkNotFoundError{}) {
			return fmt.Errorf("delete veth %s: %w", l.Attrs().Name, err)
		}
	}
	if err := netlink.LinkDel(br); err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}

// removeTables deletes the nft tables, where they exist.
func removeTables(ctx context.Context, t Target) error {
	out, err := exec.CommandContext(ctx, "nft", "list", "tables").Output()
	if err != nil {
		return fmt.Errorf("nft list tables: %w", err)
	}
	var all error
	for _, l := range strings.Split(string(out), "\n") {
		name, ok := strings.CutPrefix(strings.TrimSpace(l), "table ")
		if !ok {
			continue
		}
		for _, mine := range t.NFTables {
			if name != mine {
				continue
			}
			args := append([]string{"delete", "table"}, strings.Fields(name)...)
			if out, err := exec.CommandContext(ctx, "nft", args...).CombinedOutput(); err != nil {
				all = errors.Join(all, fmt.Errorf("nft delete table %s: %w: %s", name, err, out))
			}
		}
	}
	return all
}
