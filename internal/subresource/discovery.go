// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"sort"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/internal/version"
)

// groupName is how KubeVirt's group document spells the group. Clients know it so.
const groupName = "subresource.kubevirt.io"

func groupDocument() metav1.APIGroup {
	g := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: groupName}
	for _, v := range versions {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: Group + "/" + v, Version: v})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}

// resourceDocument lists what is implemented.
func resourceDocument(v string) metav1.APIResourceList {
	l := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: Group + "/" + v,
	}
	for resource, subs := range endpoints {
		for sub, e := range subs {
			if e.serve != nil {
				l.APIResources = append(l.APIResources, metav1.APIResource{
					Name:       target{resource: resource, sub: sub}.rbacName(),
					Namespaced: true,
					Verbs:      metav1.Verbs{verbOf(e.method)},
				})
			}
		}
	}
	sort.Slice(l.APIResources, func(i, j int) bool { return l.APIResources[i].Name < l.APIResources[j].Name })
	return l
}

// versionDocument is what KubeVirt's clients show as the server's version.
func versionDocument() map[string]string {
	return map[string]string{
		"gitVersion":   version.Version,
		"gitCommit":    "",
		"gitTreeState": "",
		"buildDate":    "",
		"goVersion":    runtime.Version(),
		"compiler":     runtime.Compiler,
		"platform":     runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// document answers what anybody may read. ok is false when path is none of it.
func (s *Server) document(ctx context.Context, path string) (code int, body any, ok bool) {
	switch strings.TrimSuffix(path, "/") {
	case "/apis":
		return http.StatusOK, metav1.APIGroupList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
			Groups:   []metav1.APIGroup{groupDocument()},
		}, true
	case "/apis/" + Group:
		return http.StatusOK, groupDocument(), true
	case "/openapi/v2":
		// No paths: nothing here is an object that a client could write or explain.
		return http.StatusOK, map[string]any{"swagger": "2.0", "info": openAPIInfo, "paths": map[string]any{}}, true
	case "/openapi/v3":
		paths := map[string]any{}
		for _, v := range versions {
			paths["apis/"+Group+"/"+v] = map[string]string{"serverRelativeURL": "/openapi/v3/apis/" + Group + "/" + v}
		}
		return http.StatusOK, map[string]any{"paths": paths}, true
	}
	for _, v := range versions {
		base := "/apis/" + Group + "/" + v
		switch strings.TrimSuffix(path, "/") {
		case base:
			return http.StatusOK, resourceDocument(v), true
		case base + "/version":
			return http.StatusOK, versionDocument(), true
		case base + "/healthz":
			code, body := s.healthz(ctx)
			return code, body, true
		case base + "/guestfs":
			st := errNotServed("guestfs", "start a pod of your own with libguestfs and the claim").(interface{ Status() metav1.Status }).Status()
			return int(st.Code), st, true
		case "/openapi/v3" + base:
			return http.StatusOK, openAPIv3(v), true
		}
	}
	return 0, nil, false
}

var openAPIInfo = map[string]string{"title": "Skerry subresources", "version": "v1"}

// openAPIv3 describes the paths of one version; the bodies are in the types of
// package api/kubevirt/v1.
func openAPIv3(v string) map[string]any {
	parameter := func(name string) map[string]any {
		return map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]string{"type": "string"}}
	}
	paths := map[string]any{}
	for resource, subs := range endpoints {
		for sub, e := range subs {
			if e.serve == nil {
				continue
			}
			parameters := []any{parameter("namespace"), parameter("name")}
			path := "/apis/" + Group + "/" + v + "/namespaces/{namespace}/" + resource + "/{name}/" + sub
			if sub == "portforward" {
				path += "/{port}"
				parameters = append(parameters, parameter("port"))
			}
			id := v
			for _, word := range strings.FieldsFunc(resource+"/"+sub, func(r rune) bool { return r == '/' || r == '-' }) {
				id += "-" + word
			}
			paths[path] = map[string]any{
				"parameters": parameters,
				strings.ToLower(e.method): map[string]any{
					"operationId": id,
					"responses":   map[string]any{"default": map[string]string{"description": "A Status in case of an error."}},
				},
			}
		}
	}
	return map[string]any{"openapi": "3.0.0", "info": openAPIInfo, "paths": paths}
}

const (
	healthLimit = 2 * time.Second
	// healthAge is how long an answer about the API server is given again: anybody
	// may ask.
	healthAge = 2 * time.Second
)

// healthz tells whether the API server answers.
func (s *Server) healthz(ctx context.Context) (int, any) {
	s.health.Lock()
	defer s.health.Unlock()
	if s.health.body == nil || time.Since(s.health.at) > healthAge {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthLimit)
		defer cancel()
		api := map[string]any{}
		s.health.code = http.StatusOK
		if v, err := s.serverVersion(ctx); err != nil {
			api["connectivity"], api["error"] = "failed", err.Error()
			s.health.code = http.StatusInternalServerError
		} else {
			api["connectivity"], api["version"] = "ok", v
		}
		s.health.body = map[string]any{"apiserver": api, "config-resource-version": ""}
		s.health.at = time.Now()
	}
	return s.health.code, s.health.body
}

func (s *Server) serverVersion(ctx context.Context) (json.RawMessage, error) {
	b, err := s.rest.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("/version of the API server is no JSON")
	}
	return b, nil
}
