// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The paths that Handler serves.
const (
	PathMutateVM    = "/mutate-vm"
	PathMutateVMI   = "/mutate-vmi"
	PathValidateVM  = "/validate-vm"
	PathValidateVMI = "/validate-vmi"
	PathValidateEVM = "/validate-evm"
)

// maxReview bounds the body of a request in bytes: an object of the largest size
// that the API server takes, twice (new and old).
const maxReview = 8 << 20

// Options of Handler.
type Options struct {
	Cluster Cluster
	// Trusted tells who may write an instance's status and spec.
	Trusted Identities
	// Log gets a line at debug level for each rejection; nil logs nothing.
	Log *slog.Logger
}

// Handler answers the API server's AdmissionReviews (v1) at these paths.
func Handler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	for path, review := range map[string]reviewer{
		PathMutateVM: o.mutateVM, PathMutateVMI: o.mutateVMI,
		PathValidateVM: o.validateVM, PathValidateVMI: o.validateVMI, PathValidateEVM: o.validateEVM,
	} {
		mux.Handle("POST "+path, o.serve(review))
	}
	return mux
}

// A reviewer answers one request. An error means that the request itself is not
// understood; rejections are answers.
type reviewer func(*admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

func (o Options) serve(review reviewer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
			http.Error(w, "Content-Type: expected application/json", http.StatusUnsupportedMediaType)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, fmt.Sprintf("body: larger than %d bytes", maxReview), http.StatusRequestEntityTooLarge)
			return
		} else if err != nil {
			http.Error(w, "body: "+err.Error(), http.StatusBadRequest)
			return
		}
		var in admissionv1.AdmissionReview
		if err := json.Unmarshal(body, &in); err != nil {
			http.Error(w, "decode AdmissionReview: "+err.Error(), http.StatusBadRequest)
			return
		}
		if in.APIVersion != admissionv1.SchemeGroupVersion.String() || in.Kind != "AdmissionReview" || in.Request == nil {
			http.Error(w, "expected an AdmissionReview of admission.k8s.io/v1 with a request", http.StatusBadRequest)
			return
		}
		resp, err := review(in.Request)
		if err != nil {
			resp = deny(in.Request, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), nil)
		}
		resp.UID = in.Request.UID
		if !resp.Allowed {
			o.Log.DebugContext(r.Context(), "refused", "path", r.URL.Path, "namespace", in.Request.Namespace,
				"vm", in.Request.Name, "user", in.Request.UserInfo.Username, "message", resp.Result.Message)
		}
		w.Header().Set("Content-Type", "application/json")
		out := admissionv1.AdmissionReview{TypeMeta: in.TypeMeta, Response: resp}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			o.Log.DebugContext(r.Context(), "answer not sent", "path", r.URL.Path, "error", err)
		}
	}
}

func allow() *admissionv1.AdmissionResponse { return &admissionv1.AdmissionResponse{Allowed: true} }

// answer turns a check's result into a response.
func answer(req *admissionv1.AdmissionRequest, r Result) *admissionv1.AdmissionResponse {
	resp := allow()
	if len(r.Causes) > 0 {
		resp = deny(req, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, r.Message(), r.Causes)
	}
	resp.Warnings = r.Warnings
	return resp
}

func deny(req *admissionv1.AdmissionRequest, code int32, reason metav1.StatusReason, message string, causes []metav1.StatusCause) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    code,
		Reason:  reason,
		Message: message,
		Details: &metav1.StatusDetails{Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind, Causes: causes},
	}}
}
