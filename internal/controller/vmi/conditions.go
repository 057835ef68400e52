// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func podCondition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// setPhase moves the instance to a phase and stamps it. A phase that is entered
// for a second time (its first pod was refused by the node) is stamped anew.
func setPhase(st *v1.VirtualMachineInstanceStatus, phase v1.VirtualMachineInstancePhase, at time.Time) {
	if st.Phase == phase {
		return
	}
	st.Phase = phase
	st.StampPhase(phase, at)
}

// passed tells whether the instance was ever in the phase.
func passed(st *v1.VirtualMachineInstanceStatus, phase v1.VirtualMachineInstancePhase) bool {
	return st.Phase == phase || slices.ContainsFunc(st.PhaseTransitionTimestamps,
		func(t v1.VirtualMachineInstancePhaseTransitionTimestamp) bool { return t.Phase == phase })
}

func setStage(st *v1.VirtualMachineInstanceStatus, stage v1.Stage, at time.Time) {
	t := metav1.NewMicroTime(at.Truncate(time.Microsecond))
	for i := range st.Stages {
		if st.Stages[i].Stage == stage {
			st.Stages[i].Time = t
			return
		}
	}
	st.Stages = append(st.Stages, v1.StageTimestamp{Stage: stage, Time: t})
}

func hasStage(st *v1.VirtualMachineInstanceStatus, stage v1.Stage) bool {
	return slices.ContainsFunc(st.Stages, func(s v1.StageTimestamp) bool { return s.Stage == stage })
}

// maxNote keeps texts within what an Event's note may have (1024 bytes).
const maxNote = 900

// printable makes a text that came from a guest, an image or a registry fit to
// stand in a condition: one line, no control characters, its end when too long
// (the cause stands at the end of a log).
func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxNote {
		s = "…" + strings.ToValidUTF8(s[len(s)-maxNote:], "")
	}
	return s
}
