// SPDX-License-Identifier: Apache-2.0

package netattach

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Limits of a CNI configuration.
const (
	maxConfig  = 64 << 10 // bytes
	maxPlugins = 8
)

// Host is what a configuration must fit to.
type Host struct {
	// LeaseDir is where host-local keeps its leases, whatever the configuration says.
	LeaseDir string
	// Reserved are bridges that no network may use: the pods' own.
	Reserved []string
}

// Config is a CNI configuration list that may be run.
type Config struct {
	// Name is the network's.
	Name string
	// List is the configuration list, in JSON.
	List []byte
	// Bridges are those that its bridge plugins use, and make where they are not.
	Bridges []string
	// MAC and IPs are what the plugins are asked for, if they have such capabilities.
	MAC string
	IPs []string
}

var (
	pluginType  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	networkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$`)
	linkName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$`)
)

// defaultBridge is the bridge plugin's.
const defaultBridge = "cni0"

// Prepare makes a configuration list of what a NetworkAttachmentDefinition says.
// That is a tenant's input to programs which run as root, so:
//
//   - types are plain names: whoever runs them looks in its own directories only;
//   - host-local keeps its leases where they are found again, and reads no file;
//   - the pods' own bridge is out of reach;
//   - sizes and counts have limits.
func Prepare(n Network, text string, h Host) (Config, error) {
	fail := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("NetworkAttachmentDefinition %s: spec.config: %w", n.Definition(), fmt.Errorf(format, args...))
	}
	if strings.TrimSpace(text) == "" {
		return fail("is empty: want a CNI configuration in JSON")
	}
	if len(text) > maxConfig {
		return fail("has %d bytes; use %d at most", len(text), maxConfig)
	}
	var in map[string]any
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return fail("is no CNI configuration in JSON: %w", err)
	}
	out := map[string]any{}
	for _, key := range []string{"cniVersion", "cniVersions", "disableCheck"} {
		if v, ok := in[key]; ok {
			out[key] = v
		}
	}
	name, _ := in["name"].(string)
	if name == "" {
		name = n.Namespace + "." + n.Element.Name
	}
	if !networkName.MatchString(name) {
		return fail("name: %q: want letters, digits, '.', '_' and '-'", clip(name))
	}
	out["name"] = name
	var plugins []any
	if list, ok := in["plugins"]; ok {
		if plugins, ok = list.([]any); !ok || len(plugins) == 0 {
			return fail("plugins: want a list of plugins")
		}
	} else {
		for _, key := range []string{"name", "cniVersion", "cniVersions", "disableCheck"} {
			delete(in, key)
		}
		plugins = []any{in}
	}
	if len(plugins) > maxPlugins {
		return fail("plugins: %d are too many; use %d at most", len(plugins), maxPlugins)
	}
	c := Config{Name: name, MAC: n.MAC, IPs: n.IPs}
	for i := range plugins {
		p, ok := plugins[i].(map[string]any)
		if !ok {
			return fail("plugins[%d]: want an object", i)
		}
		if err := c.plugin(p, h); err != nil {
			return fail("plugins[%d]: %w", i, err)
		}
		delete(p, "prevResult")
		delete(p, "runtimeConfig")
		if i == 0 {
			ask(p, n)
			if _, ipam := p["ipam"]; !ipam && len(n.IPs) > 0 {
				return fail("has no ipam, but %s asks for the addresses %s", NetworksAnnotation, strings.Join(n.IPs, ", "))
			}
		}
	}
	out["plugins"] = plugins
	b, err := json.Marshal(out)
	if err != nil {
		return fail("encode it: %w", err)
	}
	c.List = compact(b)
	return c, nil
}

// plugin checks one plugin's configuration and puts right what it may not choose.
func (c *Config) plugin(p map[string]any, h Host) error {
	kind, err := typeOf(p)
	if err != nil {
		return err
	}
	if kind == "bridge" {
		bridge := defaultBridge
		if v, ok := p["bridge"]; ok {
			if bridge, ok = v.(string); !ok {
				return errors.New("bridge: want a name")
			}
		}
		if !linkName.MatchString(bridge) {
			return fmt.Errorf("bridge: %q: want the name of a network interface, at most 15 letters, digits, '.', '_', ':' and '-'", clip(bridge))
		}
		if slices.Contains(h.Reserved, bridge) {
			return fmt.Errorf("bridge: %q is the pods' own network: choose another name", bridge)
		}
		c.Bridges = append(c.Bridges, bridge)
	}
	v, ok := p["ipam"]
	if !ok {
		return nil
	}
	ipam, ok := v.(map[string]any)
	if !ok {
		return errors.New("ipam: want an object")
	}
	if len(ipam) == 0 { // as good as none
		delete(p, "ipam")
		return nil
	}
	if kind, err = typeOf(ipam); err != nil {
		return fmt.Errorf("ipam: %w", err)
	}
	if kind == "host-local" {
		ipam["dataDir"] = h.LeaseDir
		delete(ipam, "resolvConf")
	}
	return nil
}

func typeOf(p map[string]any) (string, error) {
	kind, _ := p["type"].(string)
	if !pluginType.MatchString(kind) {
		return "", fmt.Errorf("type: %q: want the name of a CNI plugin, without a path", clip(kind))
	}
	return kind, nil
}

// ask puts the wished MAC and addresses where plugins without such a capability
// look for them.
func ask(p map[string]any, n Network) {
	cni := maps.Clone(n.Args)
	if cni == nil {
		cni = map[string]any{}
	}
	if n.MAC != "" {
		cni["mac"] = n.MAC
	}
	if len(n.IPs) > 0 {
		cni["ips"] = n.IPs
	}
	if len(cni) == 0 {
		return
	}
	args, _ := p["args"].(map[string]any)
	args = maps.Clone(args)
	if args == nil {
		args = map[string]any{}
	}
	if given, ok := args["cni"].(map[string]any); ok {
		all := maps.Clone(given)
		maps.Copy(all, cni)
		cni = all
	}
	args["cni"] = cni
	p["args"] = args
}
