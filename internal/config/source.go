// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Recorder tells Events (k8s.io/client-go/tools/events).
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Reasons of the Events about the ConfigMap.
const (
	ReasonInvalid = "InvalidConfiguration"
	ReasonLoaded  = "ConfigurationLoaded"
)

// Source is the configuration as it is in the cluster. It is safe for use by
// several goroutines.
type Source struct {
	Client client.Reader // may be a cache
	Events Recorder

	mu      sync.Mutex
	version string // of the ConfigMap that was read last
	good    *Config
	bad     error
}

// Current is the configuration that holds now: the ConfigMap's, the last good one
// while that is broken, or the default where there is none. An error means that the
// ConfigMap was broken from the start, or could not be read.
func (s *Source) Current(ctx context.Context) (Config, error) {
	cm := &corev1.ConfigMap{}
	err := s.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: Name}, cm)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case apierrors.IsNotFound(err):
		s.version, s.good, s.bad = "", new(Default()), nil
		return *s.good, nil
	case err != nil:
		return Config{}, fmt.Errorf("read configuration %s/%s: %w", Namespace, Name, err)
	}
	if version := string(cm.UID) + "/" + cm.ResourceVersion; version != s.version {
		s.version = version
		s.take(cm)
	}
	if s.good == nil {
		return Config{}, s.bad
	}
	return *s.good, nil
}

// maxNote is what an Event's note may have, in bytes.
const maxNote = 1000

func (s *Source) take(cm *corev1.ConfigMap) {
	c, err := Config{}, error(nil)
	if data, ok := cm.Data[Key]; ok {
		c, err = Parse(data)
	} else {
		err = fmt.Errorf("it has no key %s", Key)
	}
	if err == nil {
		if s.bad != nil {
			s.Events.Eventf(cm, nil, corev1.EventTypeNormal, ReasonLoaded, "Load", "The configuration is used again")
		}
		s.good, s.bad = &c, nil
		return
	}
	bad := fmt.Errorf("configuration %s/%s: %w", Namespace, Name, err)
	if s.bad == nil || s.bad.Error() != bad.Error() {
		note := err.Error()
		if s.good != nil {
			note = "The last good configuration stays in use: " + note
		}
		if len(note) > maxNote {
			note = strings.ToValidUTF8(note[:maxNote], "")
		}
		s.Events.Eventf(cm, nil, corev1.EventTypeWarning, ReasonInvalid, "Load", "%s", note)
	}
	s.bad = bad
}
