// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
)

// bridgeMAC is the masquerade bridge's, as in KubeVirt: it is the guest's
// gateway, which so has the same MAC on every node.
var bridgeMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0}

// names are those of the links that belong to one pod interface. They are
// KubeVirt's for eth0; names of 15 bytes are the kernel's limit.
type names struct {
	pod    string // the pod's interface
	bridge string // k6t-eth0
	tap    string // tap0
	port   string // eth0-nic: the pod's interface once it is a port of the bridge
	table  string // the nftables tables
}

func namesOf(pod string) names {
	n := names{pod: pod, bridge: "k6t-" + pod, tap: "tap-" + pod, port: pod + "-nic", table: "skerry-" + pod}
	if pod == DefaultPodInterface {
		n.tap = "tap0"
	}
	if len(n.port) > 15 || len(n.bridge) > 15 {
		id := digest("link", pod)[:11]
		if hash, ok := strings.CutPrefix(pod, "pod"); ok && len(hash) == len(id) {
			id = hash // an attached network's, as in KubeVirt
		}
		n.bridge, n.tap, n.port = "k6t-"+id, "tap"+id, id+"-nic"
	}
	return n
}

// StableMAC makes the locally administered MAC address of the interface name of
// the machine that seed stands for. It is the same in every call.
func StableMAC(seed, name string) net.HardwareAddr {
	return macFrom("guest", seed, name)
}

func macFrom(words ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(joined(words)))
	mac := net.HardwareAddr{2, sum[0], sum[1], sum[2], sum[3], sum[4]}
	if mac.String() == bridgeMAC.String() {
		mac[5] = 1
	}
	return mac
}

func digest(words ...string) string {
	sum := sha256.Sum256([]byte(joined(words)))
	return hex.EncodeToString(sum[:])
}

func joined(words []string) string {
	s := "skerry"
	for _, w := range words {
		s += "\x00" + w
	}
	return s
}
