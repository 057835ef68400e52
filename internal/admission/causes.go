// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validator collects what is wrong with one object. Its methods check one part
// of the API each and never stop at the first mistake.
type validator struct {
	cluster Cluster
	result  Result
	root    *field.Path // of the object in what the user sent, nil for itself
}

// maxShown is the length at which a user's value is cut in a message.
const maxShown = 64

// invalid refuses a value; accepted says what would have been taken.
func (v *validator) invalid(p *field.Path, value any, format string, args ...any) {
	v.add(metav1.CauseTypeFieldValueInvalid, p, show(value)+" "+fmt.Sprintf(format, args...))
}

// required refuses a missing value.
func (v *validator) required(p *field.Path, format string, args ...any) {
	v.add(metav1.CauseTypeFieldValueRequired, p, "is missing; "+fmt.Sprintf(format, args...))
}

// lacks refuses an object in which something is missing; the text says what.
func (v *validator) lacks(p *field.Path, format string, args ...any) {
	v.add(metav1.CauseTypeFieldValueRequired, p, fmt.Sprintf(format, args...))
}

// duplicate refuses a second use of something that must be unique.
func (v *validator) duplicate(p *field.Path, value any, first *field.Path) {
	v.add(metav1.CauseTypeFieldValueDuplicate, p, show(value)+" is already used by "+first.String()+"; each must have its own")
}

// unsupported refuses what the API knows and this version does not do; instead
// says what to do.
func (v *validator) unsupported(p *field.Path, instead string) {
	v.add(metav1.CauseTypeFieldValueNotSupported, p, "is not supported by this version; "+instead)
}

// oneOf refuses a value that is none of the given ones. Empty values pass where
// they are optional; callers check those that are not.
func (v *validator) oneOf(p *field.Path, value string, allowed ...string) bool {
	if value == "" || slices.Contains(allowed, value) {
		return true
	}
	v.add(metav1.CauseTypeFieldValueNotSupported, p, show(value)+" is not accepted; use "+orList(allowed))
	return false
}

func (v *validator) add(t metav1.CauseType, p *field.Path, text string) {
	v.result.Causes = append(v.result.Causes, metav1.StatusCause{Type: t, Field: p.String(), Message: p.String() + ": " + text})
}

func (v *validator) warn(p *field.Path, text string) {
	v.result.Warnings = append(v.result.Warnings, p.String()+": "+text)
}

// orList writes "a", "a or b", "a, b or c".
func orList(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " or " + items[len(items)-1]
}

// show writes a user's value for a message, bounded in length and in one line.
func show(value any) string {
	s, ok := value.(string)
	if !ok {
		s = fmt.Sprint(value)
		if len(s) > maxShown {
			s = s[:maxShown] + "..."
		}
		return s
	}
	cut := ""
	if len(s) > maxShown {
		s, cut = strings.ToValidUTF8(s[:maxShown], ""), "..."
	}
	return strconv.Quote(s) + cut
}

// quantity writes an optional quantity for a message.
func quantity(q *resource.Quantity) string {
	if q == nil {
		return "unset"
	}
	return q.String()
}
