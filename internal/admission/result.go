// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Result is what a check found.
type Result struct {
	// Causes say why the object is refused; none means that it is accepted.
	Causes []metav1.StatusCause
	// Warnings are shown to the user although the object is accepted.
	Warnings []string
}

// maxCauses is how many causes a rejection's message spells out; the others are
// only in its details.
const maxCauses = 10

// Message is the text of the rejection, or empty.
func (r Result) Message() string {
	var texts []string
	for i, c := range r.Causes {
		if i == maxCauses {
			texts = append(texts, fmt.Sprintf("and %d more", len(r.Causes)-maxCauses))
			break
		}
		texts = append(texts, c.Message)
	}
	return strings.Join(texts, ", ")
}
