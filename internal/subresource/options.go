// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// maxBody bounds the options of a request.
const maxBody = 64 << 10

// readOptions reads a request's body into options: JSON, YAML or nothing.
func readOptions(w http.ResponseWriter, r *http.Request, options any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the options may have %d bytes at most", maxBody))
		}
		return apierrors.NewBadRequest("read the request's body: " + err.Error())
	}
	return parseOptions(body, options)
}

func parseOptions(body []byte, options any) error {
	if strings.TrimSpace(string(body)) == "" {
		return nil
	}
	if err := yaml.UnmarshalStrict(body, options); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot read the request's body as %T: %.500s", options, err))
	}
	return nil
}

// isDryRun checks options' dryRun: the only value is "All".
func isDryRun(values []string) (bool, error) {
	for i, v := range values {
		if v != metav1.DryRunAll {
			return false, apierrors.NewBadRequest(fmt.Sprintf("dryRun[%d]: %.80q is not supported: the only value is %q", i, v, metav1.DryRunAll))
		}
	}
	return len(values) > 0, nil
}
