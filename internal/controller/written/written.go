// SPDX-License-Identifier: Apache-2.0

// Package written remembers what a controller wrote last over each version of an
// object in its cache. A pass that begins before the cache has seen the write
// goes on from what was written, where it would otherwise decide the same again
// and be refused for writing over an old version.
//
// It only spares requests: what is remembered may be lost at any time.
package written

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Last is safe for use by several goroutines. Its zero value is empty.
type Last[T client.Object] struct {
	mu sync.Mutex
	m  map[types.NamespacedName]entry[T]
}

type entry[T client.Object] struct {
	over string // the cached object's resource version
	obj  T
}

// Newest is what was written over cached, or else cached itself. The result is
// the caller's as far as cached was.
func (l *Last[T]) Newest(cached T) T {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := client.ObjectKeyFromObject(cached)
	e, ok := l.m[key]
	if !ok {
		return cached
	}
	if e.over != cached.GetResourceVersion() || e.obj.GetUID() != cached.GetUID() {
		delete(l.m, key)
		return cached
	}
	if obj, ok := e.obj.DeepCopyObject().(T); ok {
		return obj
	}
	return cached
}

// Wrote notes that obj, as the API server returned it, was written when the
// cache had the resource version over.
func (l *Last[T]) Wrote(over string, obj T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[types.NamespacedName]entry[T]{}
	}
	l.m[client.ObjectKeyFromObject(obj)] = entry[T]{over, obj}
}

// Forget drops what is known of an object, after a conflict or its end.
func (l *Last[T]) Forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, key)
}

// Deletions remembers the last object that was deleted for each key, so that it
// is not deleted, and told of, once more until the cache has seen it. It is safe
// for use by several goroutines. Its zero value is empty.
type Deletions struct {
	mu sync.Mutex
	m  map[types.NamespacedName]Deletion
}

// Deletion is an object and the grace period in seconds with which it was deleted.
type Deletion struct {
	UID   types.UID
	Grace int64
}

// Done tells whether exactly this was done last for the key.
func (l *Deletions) Done(key types.NamespacedName, d Deletion) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[key] == d
}

// Note notes that the API server has taken the deletion.
func (l *Deletions) Note(key types.NamespacedName, d Deletion) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[types.NamespacedName]Deletion{}
	}
	l.m[key] = d
}

// Forget drops what is known of the key.
func (l *Deletions) Forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, key)
}
