// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

// The API server publishes here how to recognise its aggregator.
const (
	authNamespace = "kube-system"
	authConfigMap = "extension-apiserver-authentication"
)

// frontProxy recognises requests of the API server's aggregator: the client
// certificate must be signed by the request-header CA and carry an allowed
// name. Both come from a ConfigMap that is watched.
type frontProxy struct {
	authenticator.Request
	headers *headerrequest.RequestHeaderAuthRequestController
	ca      *dynamiccertificates.ConfigMapCAController
}

func newFrontProxy(c kubernetes.Interface) (*frontProxy, error) {
	ca, err := dynamiccertificates.NewDynamicCAFromConfigMapController("front-proxy", authNamespace, authConfigMap, "requestheader-client-ca-file", c)
	if err != nil {
		return nil, fmt.Errorf("front proxy CA: %w", err)
	}
	h := headerrequest.NewRequestHeaderAuthRequestController(authConfigMap, authNamespace, c,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")
	provide := func(f func() []string) headerrequest.StringSliceProvider {
		return headerrequest.StringSliceProviderFunc(f)
	}
	return &frontProxy{
		Request: headerrequest.NewDynamicVerifyOptionsSecure(ca.VerifyOptions,
			provide(h.AllowedClientNames), provide(h.UsernameHeaders), provide(h.UIDHeaders), provide(h.GroupHeaders), provide(h.ExtraHeaderPrefixes)),
		headers: h,
		ca:      ca,
	}, nil
}

// run follows the ConfigMap until ctx is done.
func (p *frontProxy) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.headers.Run(ctx, 1) })
	wg.Go(func() { p.ca.Run(ctx, 1) })
	wg.Wait()
}

// authenticate returns the user for whom the aggregator asks.
func (s *Server) authenticate(r *http.Request) (user.Info, error) {
	resp, ok, err := s.auth.AuthenticateRequest(r)
	switch {
	case err != nil:
		s.log.Debug("request refused", "path", r.URL.Path, "error", err)
		return nil, denied{"the client certificate is not the one of the API server's aggregator: send requests to the API server, not here"}
	case !ok:
		return nil, denied{"no client certificate of the API server's aggregator, or no user in its headers: send requests to the API server, not here"}
	}
	return resp.User, nil
}
