// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	vmResource  = schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachine"}
	vmiResource = schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachineinstance"}
)

// vmConflict is a 409 about a virtual machine.
func vmConflict(name, format string, args ...any) error {
	return apierrors.NewConflict(vmResource, name, fmt.Errorf(format, args...))
}

// vmiConflict is a 409 about an instance.
func vmiConflict(name, format string, args ...any) error {
	return apierrors.NewConflict(vmiResource, name, fmt.Errorf(format, args...))
}

func errNoSuchPath(path string) error {
	return newStatus(http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s serves no path %.200q", Group, path))
}

func newStatus(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure,
		Code:     code,
		Reason:   reason,
		Message:  message,
	}}
}

// errNotServed is the answer for the parts of KubeVirt's API that Skerry lacks.
func errNotServed(what, instead string) error {
	return newStatus(http.StatusNotImplemented, "NotImplemented", fmt.Sprintf("%s is not implemented: %s", what, instead))
}

// denied carries the reason why a request is refused. The peer's API answers
// with 401 and plain text here, and clients know it so.
type denied struct{ reason string }

func (d denied) Error() string { return d.reason }

// maxMessage bounds an error's text in bytes: a websocket client sees no more
// than 1024 bytes of a Status.
const maxMessage = 600

// writeError answers with err as a Status; err without one is a 500.
func writeError(w http.ResponseWriter, err error) {
	var d denied
	if errors.As(err, &d) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(d.reason)) // the client is gone if this fails
		return
	}
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	s := known.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if s.Code < 400 || s.Code > 599 {
		s.Code = http.StatusInternalServerError
	}
	s.Status = metav1.StatusFailure
	if len(s.Message) > maxMessage {
		s.Message = truncate(s.Message, maxMessage) + "…"
	}
	if s.Code >= 500 && s.Details != nil { // its causes repeat the message
		d := *s.Details
		d.Causes = nil
		s.Details = &d
	}
	writeJSON(w, int(s.Code), s)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client is gone if this fails
}
