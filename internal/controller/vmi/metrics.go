// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// stageSeconds is the metric skerry_vmi_stage_seconds.
func stageSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "skerry_vmi_stage_seconds",
		Help:    "Time from the admission of a virtual machine instance to each stage of its start.",
		Buckets: []float64{0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60, 300},
	}, []string{"stage"})
}

// register adds the histogram to the registry, or returns the one that another
// manager of this process has added.
func register(reg prometheus.Registerer) (*prometheus.HistogramVec, error) {
	h := stageSeconds()
	err := reg.Register(h)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if h, ok := already.ExistingCollector.(*prometheus.HistogramVec); ok {
			return h, nil
		}
	}
	return h, err
}

// observeStages counts each stage once, when it first appears in an instance's
// status. Instances that are there already when the controller starts are not counted.
func observeStages(h *prometheus.HistogramVec) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok1 := e.ObjectOld.(*v1.VirtualMachineInstance)
		is, ok2 := e.ObjectNew.(*v1.VirtualMachineInstance)
		if ok1 && ok2 && was.UID == is.UID {
			for stage, after := range newStages(&was.Status, &is.Status) {
				h.WithLabelValues(string(stage)).Observe(after.Seconds())
			}
		}
		return true
	}}
}

// newStages are the stages in is that are not in was, with the time since admission.
func newStages(was, is *v1.VirtualMachineInstanceStatus) map[v1.Stage]time.Duration {
	var admitted time.Time
	for _, s := range is.Stages {
		if s.Stage == v1.StageAdmitted {
			admitted = s.Time.Time
		}
	}
	out := map[v1.Stage]time.Duration{}
	for _, s := range is.Stages {
		if s.Stage == v1.StageAdmitted || admitted.IsZero() || hasStage(was, s.Stage) {
			continue
		}
		out[s.Stage] = max(s.Time.Sub(admitted), 0)
	}
	return out
}
