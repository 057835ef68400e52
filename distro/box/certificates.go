// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/distro/pki"
)

// Certificates judges at now those on the disk, which should have been renewed by
// then; failed is the error of the last attempt, nil if it succeeded.
func Certificates(list []pki.Expiry, failed error, now time.Time) Condition {
	c := Condition{Type: CertificatesDue, Reason: "CertificatesGood", Message: "all certificates are good, and renewed by themselves"}
	var due []string
	for _, e := range list {
		if !e.Due(now) {
			continue
		}
		text := fmt.Sprintf("%s ends %s", e.Name, e.NotAfter.UTC().Format(time.RFC3339))
		switch {
		case now.After(e.NotAfter):
			c.Reason = "CertificatesExpired"
			text = fmt.Sprintf("%s ended %s", e.Name, e.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(e.NotBefore):
			text = fmt.Sprintf("%s begins %s", e.Name, e.NotBefore.UTC().Format(time.RFC3339))
		}
		due = append(due, text)
	}
	if len(due) == 0 && failed == nil {
		return c
	}
	c.True = true
	if c.Reason == "CertificatesGood" {
		c.Reason = "CertificatesDue"
	}
	why := "they were not renewed yet"
	if failed != nil {
		why = "the attempt to renew them failed: " + failed.Error()
	}
	// A condition's message is read whole: the first few say it.
	slices.Sort(due)
	if n := len(due); n > 3 {
		due = append(due[:3], fmt.Sprintf("%d more", n-3))
	}
	c.Message = strings.Join(append([]string{why}, due...), "; ") + "; it is tried again every minute: see that the disk has space and is writable, and that the clock is right"
	return c
}
