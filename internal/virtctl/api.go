// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	vms  = "virtualmachines"
	vmis = "virtualmachineinstances"

	subresources = "subresources.kubevirt.io"
	callLimit    = time.Minute
	maxAnswer    = 64 << 20
)

// apiError is what the server refused a request with.
type apiError struct {
	code    int
	status  *metav1.Status // nil when the answer was no Status
	message string
}

func (e *apiError) Error() string { return e.message }

// code is the HTTP code of a refusal, 0 for other errors.
func code(err error) int {
	var e *apiError
	if errors.As(err, &e) {
		return e.code
	}
	return 0
}

// newAPIError reads the body of an answer that is no success.
func newAPIError(code int, body []byte) *apiError {
	e := &apiError{code: code}
	var s metav1.Status
	if json.Unmarshal(body, &s) == nil && s.Kind == "Status" && s.Message != "" {
		e.status, e.message = &s, printable(s.Message)
		return e
	}
	text := printable(string(bytes.TrimSpace(body)))
	if text == "" {
		text = http.StatusText(code)
	}
	e.message = fmt.Sprintf("%s (%d)", text, code)
	return e
}

// path is below the subresource API for a machine of the connection's namespace.
func (c *conn) path(resource, name, sub string) string {
	return "/apis/" + subresources + "/v1/namespaces/" + url.PathEscape(c.namespace) + "/" + resource + "/" + url.PathEscape(name) + "/" + sub
}

// do sends a request with a JSON body (nil: none) and returns the answer's body.
func (c *conn) do(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	return c.send(ctx, method, path, query, "application/json", body)
}

// send is do with a body of another media type, which is JSON all the same.
func (c *conn) send(ctx context.Context, method, path string, query url.Values, mediaType string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	u := *c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("Accept", "application/json, */*")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", c.base.Host, err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("answer of %s has more than %d bytes", c.base.Host, maxAnswer)
	}
	if resp.StatusCode >= 300 {
		return nil, newAPIError(resp.StatusCode, answer)
	}
	return answer, nil
}

// get reads an object of kubevirt.io.
func (c *conn) get(ctx context.Context, resource, name string, into any) error {
	b, err := c.do(ctx, http.MethodGet, "/apis/"+kubevirtv1.GroupVersion.String()+"/namespaces/"+url.PathEscape(c.namespace)+"/"+resource+"/"+url.PathEscape(name), nil, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s %s: %w", resource, name, err)
	}
	return nil
}

// put sends options to a subresource.
func (c *conn) put(ctx context.Context, resource, name, sub string, options any) error {
	_, err := c.do(ctx, http.MethodPut, c.path(resource, name, sub), nil, options)
	return err
}
