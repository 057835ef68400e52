// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// nftConn opens nf_tables in the namespace of the calling thread.
func nftConn() (*nftables.Conn, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return c, nil
}

// writeMasquerade replaces the tables of a masquerade NIC in one transaction.
// Connections that are translated already stay so.
func writeMasquerade(n names, nic NIC, nets []guestNet) error {
	c, err := nftConn()
	if err != nil {
		return err
	}
	for _, gn := range nets {
		family := nftables.TableFamilyIPv4
		if gn.guest.Is6() {
			family = nftables.TableFamilyIPv6
		}
		replaceTable(c, family, n.table, masqueradeChains(n, nic, gn))
	}
	return flush(c)
}

// writeBridgeGuard replaces the bridge table of a bridge NIC.
func writeBridgeGuard(n names, chains []chain) error {
	c, err := nftConn()
	if err != nil {
		return err
	}
	replaceTable(c, nftables.TableFamilyBridge, n.table, chains)
	if err := flush(c); err != nil {
		return fmt.Errorf("table of family bridge (kernel option NF_TABLES_BRIDGE): %w", err)
	}
	return nil
}

func replaceTable(c *nftables.Conn, family nftables.TableFamily, name string, chains []chain) {
	t := &nftables.Table{Family: family, Name: name}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	for _, ch := range chains {
		prio, accept := ch.priority, nftables.ChainPolicyAccept
		nc := c.AddChain(&nftables.Chain{Name: ch.name, Table: t, Type: ch.kind, Hooknum: ch.hook, Priority: &prio, Policy: &accept})
		for _, exprs := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: nc, Exprs: exprs})
		}
	}
}

func flush(c *nftables.Conn) error {
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nf_tables transaction: %w", err)
	}
	return nil
}

// notesTable holds no rules that see a packet: its one chain has no hook, and
// its rules are lines of text in their comments. An nf_tables transaction is
// the only thing in a network namespace that is written whole or not at all and
// goes away with the namespace; `nft list ruleset` shows it.
func notesTable(n names) (*nftables.Table, *nftables.Chain) {
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.table + "-saved"}
	return t, &nftables.Chain{Name: "saved", Table: t}
}

// maxNote is what nft shows of a rule's comment.
const maxNote = 128

func writeNotes(n names, lines []string) error {
	c, err := nftConn()
	if err != nil {
		return err
	}
	t, ch := notesTable(n)
	c.AddTable(t)
	c.AddChain(ch)
	for _, line := range lines {
		if len(line) >= maxNote {
			return fmt.Errorf("note %q: longer than %d bytes", line, maxNote-1)
		}
		c.AddRule(&nftables.Rule{
			Table: t, Chain: ch,
			Exprs:    []expr.Any{&expr.Counter{}},
			UserData: userdata.AppendString(nil, userdata.TypeComment, line),
		})
	}
	return flush(c)
}

// readNotes returns nil when nothing was written.
func readNotes(n names) ([]string, error) {
	c, err := nftConn()
	if err != nil {
		return nil, err
	}
	t, ch := notesTable(n)
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list nf_tables tables: %w", err)
	}
	there := false
	for _, have := range tables {
		there = there || have.Name == t.Name
	}
	if !there {
		return nil, nil
	}
	rules, err := c.GetRules(t, ch)
	if err != nil {
		return nil, fmt.Errorf("read nf_tables table %s: %w", t.Name, err)
	}
	var lines []string
	for _, r := range rules {
		if d := r.UserData; len(d) >= 2 && userdata.Type(d[0]) == userdata.TypeComment && len(d) >= 2+int(d[1]) {
			lines = append(lines, strings.TrimSuffix(string(d[2:2+int(d[1])]), "\x00"))
		}
	}
	return lines, nil
}

// readSysctl returns "" for a key that the kernel does not have.
func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net", key))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}
