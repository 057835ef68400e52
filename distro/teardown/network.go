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
)

// removeLinks deletes the pods' bridge and the host's ends of the pods' veths
// that are still attached to it.
func removeLinks(_ context.Context, t Target) error {
	if t.Bridge == "" {
		return nil
	}
	br, err := netlink.LinkByName(t.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", t.Bridge, err)
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
		return fmt.Errorf("delete bridge %s: %w", t.Bridge, err)
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
