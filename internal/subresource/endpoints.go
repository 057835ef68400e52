// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

// authorized is one request whose user may make it.
type authorized struct {
	w      http.ResponseWriter
	r      *http.Request
	target target
	user   user.Info
}

// endpoint is one subresource. serve is nil for those of KubeVirt's API that are
// not implemented; instead then says what works today.
type endpoint struct {
	method  string
	serve   func(*Server, authorized) error
	instead string
}

// endpoints by resource and subresource.
var endpoints = map[string]map[string]endpoint{
	vms: {
		"start":       {method: http.MethodPut, serve: (*Server).start},
		"stop":        {method: http.MethodPut, serve: (*Server).stop},
		"restart":     {method: http.MethodPut, serve: (*Server).restart},
		"portforward": {method: http.MethodGet, serve: (*Server).portForwardVM},

		"migrate":          {method: http.MethodPut, instead: "stop and start the machine; the scheduler chooses the node"},
		"addvolume":        {method: http.MethodPut, instead: "add the volume to spec.template.spec and restart the machine"},
		"removevolume":     {method: http.MethodPut, instead: "remove the volume from spec.template.spec and restart the machine"},
		"memorydump":       {method: http.MethodPut, instead: "dump memory from inside the guest"},
		"removememorydump": {method: http.MethodPut, instead: "there are no memory dumps to remove"},
		"evacuate/cancel":  {method: http.MethodPut, instead: "machines are not evacuated, so there is nothing to cancel"},
		"expand-spec":      {method: http.MethodGet, instead: "instancetypes are not supported, so the spec is already expanded: read the VirtualMachine"},
		"objectgraph":      {method: http.MethodGet, instead: "read spec.template.spec.volumes and the owner references of the machine's pod"},
	},
	vmis: {
		"console":        {method: http.MethodGet, serve: (*Server).console},
		"vnc":            {method: http.MethodGet, serve: (*Server).vnc},
		"vnc/screenshot": {method: http.MethodGet, serve: (*Server).screenshot},
		"portforward":    {method: http.MethodGet, serve: (*Server).portForwardVMI},
		"pause":          {method: http.MethodPut, serve: verb(nodeapi.Pause)},
		"unpause":        {method: http.MethodPut, serve: verb(nodeapi.Unpause)},
		"softreboot":     {method: http.MethodPut, serve: verb(nodeapi.SoftReboot)},
		"reset":          {method: http.MethodPut, serve: verb(nodeapi.Reset)},
		// An addition of Skerry's own.
		"renew": {method: http.MethodPut, serve: verb(nodeapi.Renew)},

		"usbredir":                   {method: http.MethodGet, instead: "share files with the guest over ssh (virtctl scp)"},
		"vsock":                      {method: http.MethodGet, instead: "use portforward"},
		"freeze":                     {method: http.MethodPut, instead: "run fsfreeze in the guest over ssh (virtctl ssh)"},
		"unfreeze":                   {method: http.MethodPut, instead: "run fsfreeze -u in the guest over ssh (virtctl ssh)"},
		"addvolume":                  {method: http.MethodPut, instead: "add the volume to the VirtualMachine's spec.template.spec and restart it"},
		"removevolume":               {method: http.MethodPut, instead: "remove the volume from the VirtualMachine's spec.template.spec and restart it"},
		"evacuate/cancel":            {method: http.MethodPut, instead: "machines are not evacuated, so there is nothing to cancel"},
		"backup":                     {method: http.MethodPut, instead: "copy the data from inside the guest (virtctl scp)"},
		"redefine-checkpoint":        {method: http.MethodPut, instead: "there are no backups to check against"},
		"guestosinfo":                {method: http.MethodGet, instead: "read status.guestOSInfo of the VirtualMachineInstance, or ask the guest over ssh (virtctl ssh)"},
		"userlist":                   {method: http.MethodGet, instead: "run who in the guest over ssh (virtctl ssh)"},
		"filesystemlist":             {method: http.MethodGet, instead: "run df in the guest over ssh (virtctl ssh)"},
		"objectgraph":                {method: http.MethodGet, instead: "read spec.volumes and the owner references of the machine's pod"},
		"sev/fetchcertchain":         {method: http.MethodGet, instead: "launch security is not supported: leave spec.domain.launchSecurity out"},
		"sev/querylaunchmeasurement": {method: http.MethodGet, instead: "launch security is not supported: leave spec.domain.launchSecurity out"},
		"sev/setupsession":           {method: http.MethodPut, instead: "launch security is not supported: leave spec.domain.launchSecurity out"},
		"sev/injectlaunchsecret":     {method: http.MethodPut, instead: "launch security is not supported: leave spec.domain.launchSecurity out"},
	},
	"expand-vm-spec": {
		"": {method: http.MethodPut, instead: "instancetypes are not supported, so every spec is already expanded"},
	},
}

func (s *Server) start(a authorized) error {
	var o kubevirtv1.StartOptions
	if err := readOptions(a.w, a.r, &o); err != nil {
		return err
	}
	return s.powerVerb(a, o.DryRun, func(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) (plan, error) {
		return planStart(vm, vmi, o.Paused != nil && *o.Paused)
	})
}

func (s *Server) stop(a authorized) error {
	var o kubevirtv1.StopOptions
	if err := readOptions(a.w, a.r, &o); err != nil {
		return err
	}
	return s.powerVerb(a, o.DryRun, func(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) (plan, error) {
		return planStop(vm, vmi, o.GracePeriod)
	})
}

func (s *Server) restart(a authorized) error {
	var o kubevirtv1.RestartOptions
	if err := readOptions(a.w, a.r, &o); err != nil {
		return err
	}
	return s.powerVerb(a, o.DryRun, func(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) (plan, error) {
		return planRestart(vm, vmi, o.GracePeriodSeconds)
	})
}

// powerVerb carries out one of the verbs of a VirtualMachine; they are answered
// with 202 and nothing else.
func (s *Server) powerVerb(a authorized, dryRun []string, decide func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance) (plan, error)) error {
	dry, err := isDryRun(dryRun)
	if err != nil {
		return err
	}
	if err := s.power(a.r.Context(), a.target, dry, decide); err != nil {
		return err
	}
	if !dry {
		s.record(a)
	}
	a.w.WriteHeader(http.StatusAccepted)
	return nil
}

// verb makes the endpoint of a power operation that the node agent carries out;
// they are answered with 200 and nothing else.
func verb(v nodeapi.Verb) func(*Server, authorized) error {
	return func(s *Server, a authorized) error {
		var o kubevirtv1.PauseOptions // all of them have the same
		if err := readOptions(a.w, a.r, &o); err != nil {
			return err
		}
		dry, err := isDryRun(o.DryRun)
		if err != nil {
			return err
		}
		ctx := a.r.Context()
		vmi, err := s.vmi(ctx, a.target)
		if err != nil {
			return err
		}
		if err := checkVerb(v, vmi); err != nil {
			return err
		}
		node, err := nodeOf(vmi)
		if err != nil {
			return err
		}
		if !dry {
			if err := s.nodes.Call(ctx, node, refOf(vmi), v); err != nil {
				return nodeError(node, err)
			}
			s.record(a)
		}
		a.w.WriteHeader(http.StatusOK)
		return nil
	}
}

func (s *Server) screenshot(a authorized) error {
	move, err := queryFlag(a.r, "moveCursor")
	if err != nil {
		return err
	}
	ctx := a.r.Context()
	vmi, err := s.vmi(ctx, a.target)
	if err != nil {
		return err
	}
	if err := checkGraphics(vmi); err != nil {
		return err
	}
	node, err := nodeOf(vmi)
	if err != nil {
		return err
	}
	png, err := s.nodes.Screenshot(ctx, node, refOf(vmi), move)
	if err != nil {
		return nodeError(node, err)
	}
	a.w.Header().Set("Content-Type", "image/png")
	a.w.Header().Set("Content-Length", strconv.Itoa(len(png)))
	_, _ = a.w.Write(png) // the client is gone if this fails
	return nil
}

func (s *Server) console(a authorized) error {
	return s.channel(a, nodeapi.Console, checkConsole)
}

func (s *Server) vnc(a authorized) error {
	return s.channel(a, nodeapi.VNC, checkGraphics)
}

// channel connects the user to a byte stream of the machine.
func (s *Server) channel(a authorized, ch nodeapi.Channel, check func(*kubevirtv1.VirtualMachineInstance) error) error {
	preserve, err := queryFlag(a.r, "preserveSession")
	if err != nil {
		return err
	}
	vmi, err := s.vmi(a.r.Context(), a.target)
	if err != nil {
		return err
	}
	if err := check(vmi); err != nil {
		return err
	}
	node, err := nodeOf(vmi)
	if err != nil {
		return err
	}
	return s.stream(a, vmi, func(ctx context.Context) (onward, error) {
		up, err := s.nodes.Stream(ctx, node, refOf(vmi), ch, nodeapi.StreamOptions{PreserveSession: preserve})
		if apierrors.IsNotFound(err) {
			// An agent that was just started has yet to find its machines again;
			// 400 makes the client try once more.
			return nil, apierrors.NewBadRequest("VMI is not known to its node's agent yet: " + err.Error())
		}
		if err != nil {
			return nil, nodeError(node, err)
		}
		return up, nil
	})
}

// nodeError keeps what the agent said, and turns a missing answer into a 503.
func nodeError(node string, err error) error {
	if code(err) != 0 {
		return err
	}
	return newStatus(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable,
		"cannot reach the node agent on "+node+", try again when that node is Ready: "+err.Error())
}

// queryFlag reads a boolean query parameter; absent is false.
func queryFlag(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, apierrors.NewBadRequest("query parameter " + name + ": must be true or false")
	}
	return b, nil
}
