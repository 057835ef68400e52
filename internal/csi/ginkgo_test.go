// SPDX-License-Identifier: Apache-2.0

//go:build root

package csi

import (
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

// runSpecs runs what was registered; csi-test is written for Ginkgo.
func runSpecs(t *testing.T) {
	gomega.RegisterFailHandler(ginkgo.Fail)
	if !ginkgo.RunSpecs(t, "CSI sanity") {
		t.Error("the suite failed")
	}
}
