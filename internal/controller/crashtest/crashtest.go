// SPDX-License-Identifier: Apache-2.0

// Package crashtest is for tests of controllers: a client that fails at a chosen
// write, before or after the write has taken effect, as when the process dies
// there. A test runs a scenario once for each write and expects the same end.
//
// It must never be linked into a program.
package crashtest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// ErrCrash is what the chosen write returns.
var ErrCrash = errors.New("crash")

// Writer counts the writes of a client and fails one of them.
type Writer struct {
	// FailAt is the write that fails, the first being 1; 0 fails none.
	FailAt int
	// After lets the write take effect before it fails.
	After bool

	mu  sync.Mutex
	n   int
	log []string
}

// Log names the writes so far, such as "create Pod web".
func (w *Writer) Log() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.log...)
}

// do carries out a write, or crashes.
func (w *Writer) do(verb string, obj client.Object, write func() error) error {
	w.mu.Lock()
	w.n++
	crash := w.n == w.FailAt
	w.log = append(w.log, fmt.Sprintf("%s %T %s", verb, obj, obj.GetName()))
	w.mu.Unlock()
	if crash && !w.After {
		return ErrCrash
	}
	if err := write(); err != nil {
		return err
	}
	if crash {
		return ErrCrash
	}
	return nil
}

// Client wraps c. Beside counting it does what the API server does and the fake
// client does not: it honours the UID of a deletion's preconditions.
func (w *Writer) Client(c client.WithWatch) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			return w.do("create", obj, func() error { return c.Create(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return w.do("update", obj, func() error { return c.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			return w.do("patch", obj, func() error { return c.Patch(ctx, obj, p, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return w.do("patch "+sub+" of", obj, func() error { return c.SubResource(sub).Patch(ctx, obj, p, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			return w.do("update "+sub+" of", obj, func() error { return c.SubResource(sub).Update(ctx, obj, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			return w.do("delete", obj, func() error {
				o := (&client.DeleteOptions{}).ApplyOptions(opts)
				if o.Preconditions != nil && o.Preconditions.UID != nil {
					there, ok := obj.DeepCopyObject().(client.Object)
					if !ok {
						return fmt.Errorf("%T is no object", obj)
					}
					if err := c.Get(ctx, client.ObjectKeyFromObject(obj), there); err != nil {
						return err
					}
					if there.GetUID() != *o.Preconditions.UID {
						return apierrors.NewConflict(schema.GroupResource{}, obj.GetName(), errors.New("the UID in the precondition does not match"))
					}
				}
				return c.Delete(ctx, obj, opts...)
			})
		},
	})
}
