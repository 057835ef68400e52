// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// DefaultPort is the TCP port of the node agent.
	DefaultPort = 8187
	// ControllerName is the only common name that the agent accepts in a
	// client certificate.
	ControllerName = "skerry-controller"
	// StreamProtocol is the value of the Upgrade header of a stream.
	StreamProtocol = "skerry-stream"
)

// ServerName is the DNS name in the serving certificate of node's agent.
func ServerName(node string) string { return node + ".skerry-node" }

// VMIRef names one machine. The UID keeps a request for a deleted machine from
// reaching its successor of the same name.
type VMIRef struct {
	Namespace, Name string
	UID             types.UID
}

// String returns namespace/name.
func (r VMIRef) String() string { return r.Namespace + "/" + r.Name }

// maxUID bounds what is accepted as a UID; Kubernetes' are 36 characters long.
const maxUID = 64

var uidPattern = regexp.MustCompile(`^[0-9A-Za-z._-]+$`)

// Validate checks that the parts can be names of Kubernetes objects, so that
// they are safe to use in paths and logs.
func (r VMIRef) Validate() error {
	if e := validation.IsDNS1123Label(r.Namespace); len(e) > 0 {
		return fmt.Errorf("namespace %.80q: %s", r.Namespace, strings.Join(e, "; "))
	}
	if e := validation.IsDNS1123Subdomain(r.Name); len(e) > 0 {
		return fmt.Errorf("name %.80q: %s", r.Name, strings.Join(e, "; "))
	}
	if len(r.UID) > maxUID || !uidPattern.MatchString(string(r.UID)) {
		return fmt.Errorf("uid %.80q: must be 1 to %d letters, digits, '-', '_' or '.'", r.UID, maxUID)
	}
	return nil
}

// path is where the server has sub of r.
func (r VMIRef) path(sub string) string {
	return "/v1/vmis/" + url.PathEscape(r.Namespace) + "/" + url.PathEscape(r.Name) + "/" + url.PathEscape(string(r.UID)) + "/" + sub
}

// Verb is a power operation on a running machine.
type Verb string

// The verbs.
const (
	Pause      Verb = "pause"
	Unpause    Verb = "unpause"
	SoftReboot Verb = "softreboot"
	Reset      Verb = "reset"
	// Renew replaces QEMU by the node's newest while the guest runs.
	Renew Verb = "renew"
)

// Channel is a byte stream of a running machine.
type Channel string

// The channels.
const (
	Console Channel = "console" // the first serial port
	VNC     Channel = "vnc"     // RFB
)

// StreamOptions are what a client may ask of a stream.
type StreamOptions struct {
	// PreserveSession refuses the stream (503) while another client has the
	// same channel of the machine, rather than disturbing it.
	PreserveSession bool
}

// Backend is what the agent does for the server. Its errors are sent to the
// user: one that is an [k8s.io/apimachinery/pkg/api/errors.APIStatus] keeps its
// code and message, any other becomes a 500 with its text. A machine that the
// agent does not have is a NotFound, one that is not running a Conflict.
//
// The server calls it from many goroutines. The context of Console and VNC is
// done when the stream has ended, or when connecting took too long; closing the
// stream must end pending reads and writes. A stream that has a CloseWrite
// method is told when the client will send no more, another is closed then.
//
// The server closes a machine's console before it asks for a second one, and
// allows several VNC streams of one machine at a time.
type Backend interface {
	Console(ctx context.Context, vmi VMIRef) (io.ReadWriteCloser, error)
	VNC(ctx context.Context, vmi VMIRef) (io.ReadWriteCloser, error)
	// Screenshot returns the screen as PNG. moveCursor first moves the mouse a
	// little, which wakes a guest's screen saver.
	Screenshot(ctx context.Context, vmi VMIRef, moveCursor bool) ([]byte, error)
	Pause(ctx context.Context, vmi VMIRef) error
	Unpause(ctx context.Context, vmi VMIRef) error
	SoftReboot(ctx context.Context, vmi VMIRef) error
	Reset(ctx context.Context, vmi VMIRef) error
	Renew(ctx context.Context, vmi VMIRef) error
}
