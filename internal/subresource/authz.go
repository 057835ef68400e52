// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"fmt"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// verbOf is the RBAC verb of an HTTP method.
func verbOf(method string) string {
	if method == http.MethodPut {
		return "update"
	}
	return "get"
}

// review is the question to the API server whether u may use t.
func review(u user.Info, method string, t target) *authorizationv1.SubjectAccessReview {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range u.GetExtra() {
		extra[k] = v
	}
	return &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:   u.GetName(),
		UID:    u.GetUID(),
		Groups: u.GetGroups(),
		Extra:  extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace:   t.namespace,
			Verb:        verbOf(method),
			Group:       Group,
			Version:     t.version,
			Resource:    t.resource,
			Subresource: t.sub,
			Name:        t.name,
		},
	}}
}

// authorize asks the API server. An error of type denied is a refusal.
func (s *Server) authorize(ctx context.Context, u user.Info, method string, t target) error {
	sar := review(u, method, t)
	if err := s.client.Create(ctx, sar); err != nil {
		return fmt.Errorf("ask whether user %q may %s %s: %w", u.GetName(), verbOf(method), t.rbacName(), err)
	}
	if sar.Status.Allowed && !sar.Status.Denied {
		return nil
	}
	text := fmt.Sprintf("user %q cannot %s resource %q in API group %q in the namespace %q", u.GetName(), verbOf(method), t.rbacName(), Group, t.namespace)
	switch {
	case sar.Status.Reason != "":
		text += ": " + sar.Status.Reason
	case sar.Status.EvaluationError != "":
		text += ": " + sar.Status.EvaluationError
	}
	return denied{text}
}
