// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/guestagent"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// observed is what a guest object knows about its machine. It is a value: what is
// reachable from it is never changed once it is in there.
type observed struct {
	// up: QEMU has answered on its monitor.
	up bool
	// run is the run state, good when up: the last one in which the machine was
	// itself, see ran.
	run qmp.Status
	// renewing: this agent has QEMU replaced at the moment.
	renewing bool
	// moving: QEMU is handing the machine over or taking it over.
	moving bool
	// ioError says what failed when run is io-error.
	ioError string
	// emulated: the guest does not run on KVM; good when up.
	emulated bool
	// memory is the guest's memory in bytes; 0 when not known.
	memory int64

	// qemu is the one that runs, and renewable whether it can be replaced; nil when
	// not known.
	qemu      *v1.QEMUStatus
	renewable *renewable

	// sizes is how far the machine can be resized and has been; nil when QEMU has
	// not said.
	sizes *sizes

	// diskSizes are the sizes of disks on claims in bytes, by the volumes' names; nil
	// when not known.
	diskSizes map[string]int64

	// shape is known once the network is connected.
	shape *shape

	// agent: the guest has opened the guest agent's channel.
	agent     bool
	guestOS   *guestagent.OSInfo
	guestNICs []guestagent.Interface

	stages  map[v1.Stage]time.Time
	problem *problem
	// crashed: QEMU has ended and nobody asked for it or said why.
	crashed bool
}

// shape is what does not change while the machine runs.
type shape struct {
	machineType string
	bootMemory  int64 // bytes
	overhead    int64 // bytes; 0 when not known
	cpu         v1.CPUTopology
	nics        []nic
	networks    []v1.NetworkStatus
	volumes     []v1.VolumeStatus
}

// nic is an interface as it was connected.
type nic struct {
	name         string
	mac          string
	podInterface string
	podNetwork   bool
	attached     bool // to a network beside the pods' own
	masquerade   bool
	podIPs       []netip.Addr
	linkDown     bool
}

// problem is a step that failed.
type problem struct{ reason, message string }

func (o observed) withStage(s v1.Stage, at time.Time) observed {
	if _, ok := o.stages[s]; ok {
		return o
	}
	o.stages = maps.Clone(o.stages)
	if o.stages == nil {
		o.stages = map[v1.Stage]time.Time{}
	}
	o.stages[s] = at
	return o
}

// ran takes over what QEMU says of its run state. While QEMU is replaced its states
// tell about the exchange and not about the machine, which stays what it was.
func (o observed) ran(run qmp.Status) observed {
	o.moving = moving(run)
	if !o.up || !o.moving && !o.renewing {
		o.up, o.run = true, run
	}
	return o
}

// moving tells whether QEMU leaves the state by itself. It has no event for the end
// of some of these.
func moving(run qmp.Status) bool {
	return run.Status == qmp.StateInMigrate || run.Status == qmp.StateFinishMigrate || run.Status == qmp.StatePostMigrate
}

// stageOrder are the stages that the agent stamps, in their usual order.
var stageOrder = []v1.Stage{v1.StageImageReady, v1.StageNetwork, v1.StageQEMU, v1.StageFirstOutput, v1.StageGuestAgent}

// paused tells whether the machine stands still and since the user or an error wants it so.
func (o observed) paused() (reason, message string, paused bool) {
	if !o.up {
		return "", "", false
	}
	switch o.run.Status {
	case qmp.StatePaused, qmp.StatePrelaunch:
		return reasonPausedByUser, "the machine was paused by a user; unpause it to let it go on", true
	case qmp.StateIOError:
		what := o.ioError
		if what == "" {
			what = "a disk could not be read or written"
		}
		return reasonPausedIOError, what + "; the machine stands still so that nothing is lost, and goes on by itself when the node's disk has space and works", true
	}
	return "", "", false
}

func sortedVolumes(l []v1.VolumeStatus) []v1.VolumeStatus {
	slices.SortFunc(l, func(a, b v1.VolumeStatus) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
	return l
}
