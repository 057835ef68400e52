// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition returns the condition of that type, nil if there is none.
func (s *VirtualMachineInstanceStatus) Condition(t VirtualMachineInstanceConditionType) *VirtualMachineInstanceCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// SetCondition writes a condition; the transition time, in whole seconds, changes
// with its status only.
func (s *VirtualMachineInstanceStatus) SetCondition(t VirtualMachineInstanceConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	c := s.Condition(t)
	if c == nil {
		s.Conditions = append(s.Conditions, VirtualMachineInstanceCondition{Type: t})
		c = &s.Conditions[len(s.Conditions)-1]
	}
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	c.Status, c.Reason, c.Message = status, reason, message
}

// RemoveCondition takes the condition of that type away, if there is one.
func (s *VirtualMachineInstanceStatus) RemoveCondition(t VirtualMachineInstanceConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c VirtualMachineInstanceCondition) bool { return c.Type == t })
}

// StampPhase notes when a phase was entered, in whole seconds. A phase that is
// entered again is stamped anew.
func (s *VirtualMachineInstanceStatus) StampPhase(phase VirtualMachineInstancePhase, at time.Time) {
	stamp := metav1.NewTime(at.Truncate(time.Second))
	for i := range s.PhaseTransitionTimestamps {
		if s.PhaseTransitionTimestamps[i].Phase == phase {
			s.PhaseTransitionTimestamps[i].PhaseTransitionTimestamp = &stamp
			return
		}
	}
	s.PhaseTransitionTimestamps = append(s.PhaseTransitionTimestamps,
		VirtualMachineInstancePhaseTransitionTimestamp{Phase: phase, PhaseTransitionTimestamp: &stamp})
}
