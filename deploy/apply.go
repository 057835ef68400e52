// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// FieldManager owns every field that Apply writes.
const FieldManager = "skerry-deploy"

// applyTimeout bounds Apply where the caller's context does not.
const applyTimeout = 2 * time.Minute

// retryInterval is the pause between two looks at something that is not ready.
const retryInterval = 50 * time.Millisecond

// Params is what differs between clusters.
type Params struct {
	// Namespace of Skerry's own objects; empty means DefaultNamespace.
	Namespace string
	// CABundle holds, in PEM form, the CA of the certificate with which the
	// controller serves webhooks and the aggregated API as
	// skerry-controller.<namespace>.svc.
	CABundle []byte
}

// Apply puts Skerry's cluster-wide objects into the cluster by server-side
// apply and returns once its custom resources are served. It may be called any
// number of times; fields that others changed are set right again. It waits for
// an API server that is still starting, for two minutes at most.
func Apply(ctx context.Context, c *rest.Config, p Params) error {
	groups, err := Objects(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = -1, -1 // a start-up burst, limited by the number of our objects
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("make client for %s: %w", c.Host, err)
	}
	md, err := metadata.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("make client for %s: %w", c.Host, err)
	}
	for _, objs := range groups {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(4)
		for _, o := range objs {
			g.Go(func() error {
				if o.GetKind() == "CustomResourceDefinition" {
					return applyDefinition(gctx, client, md, o)
				}
				_, err := apply(gctx, client, o)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func apply(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := failpoint.Hit(ctx, "cluster.objects.before-apply"); err != nil {
		return nil, err
	}
	var got *unstructured.Unstructured
	err := untilDone(ctx, func(ctx context.Context) (bool, error) {
		var err error
		got, err = resourceFor(client, o).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w", o.GetKind(), objectName(o), err)
	}
	return got, nil
}

// untilDone calls f until it says that it is done, its error is a lasting one,
// or ctx ends; then the error tells f's last trouble too.
func untilDone(ctx context.Context, f func(context.Context) (bool, error)) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, retryInterval, true, func(ctx context.Context) (bool, error) {
		done, err := f(ctx)
		if err == nil || transient(err) {
			last = err
			return done, nil
		}
		return false, err
	})
	if err != nil && last != nil {
		return errors.Join(err, last)
	}
	return err
}

// transient tells whether an API server that is still starting may give err.
func transient(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true // the poll sees that ctx has ended and reports it
	}
	// NotFound: the namespace kube-system is made by the API server after it has started to serve.
	return apierrors.IsNotFound(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsConflict(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err)
}

func resourceFor(client dynamic.Interface, o *unstructured.Unstructured) dynamic.ResourceInterface {
	gvr, scope := resourceOf(o)
	if scope.Name() == meta.RESTScopeNameNamespace {
		return client.Resource(gvr).Namespace(o.GetNamespace())
	}
	return client.Resource(gvr)
}

func objectName(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return ns + "/" + o.GetName()
	}
	return o.GetName()
}
