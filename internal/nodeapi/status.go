// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"encoding/json"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	maxMessage = 2 << 10  // characters of an error's text
	maxCauses  = 8        // of one error
	maxStatus  = 64 << 10 // bytes of a Status on the wire
)

// toStatus is what the user is told about err.
func toStatus(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	s := known.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	s.Status = metav1.StatusFailure
	if s.Code < 400 || s.Code > 599 {
		s.Code = http.StatusInternalServerError
	}
	if len(s.Message) > maxMessage {
		s.Message = s.Message[:maxMessage] + "…"
	}
	if s.Details != nil { // it may repeat the text
		for i := range s.Details.Causes {
			if len(s.Details.Causes[i].Message) > maxMessage || i >= maxCauses {
				d := *s.Details
				d.Causes = nil
				s.Details = &d
				break
			}
		}
	}
	return s
}

func writeError(w http.ResponseWriter, err error) {
	s := toStatus(err)
	body, err := json.Marshal(s)
	if err != nil { // a Status has nothing that cannot be encoded
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	_, _ = w.Write(body) // the client is gone if this fails
}

// fromResponse turns the agent's answer into an error. Codes that would tell
// the user something about his own credentials are not the agent's to give.
func fromResponse(code int, body []byte) error {
	var s metav1.Status
	if err := json.Unmarshal(body, &s); err != nil || s.Status != metav1.StatusFailure {
		s = metav1.Status{
			Reason:  metav1.StatusReasonInternalError,
			Message: "the node agent answered " + http.StatusText(code),
		}
	}
	if code < 400 || code > 599 || code == http.StatusUnauthorized || code == http.StatusForbidden {
		code = http.StatusInternalServerError
		s.Reason = metav1.StatusReasonInternalError
	}
	s.Code = int32(code)
	return &apierrors.StatusError{ErrStatus: toStatus(&apierrors.StatusError{ErrStatus: s})}
}
