// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNextOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		QEMU: "",
		QEMUCommand("0123456789ab", []string{QEMU, "-S"})[0]: "0123456789ab",
		NextDir + "/0123456789ab":                            "0123456789ab",
		NextDir + "/../etc/x":                                "",
		NextDir + "/0123456789AB/usr":                        "",
		NextDir + "/0123456789abc/usr":                       "",
		"/tmp" + NextDir + "/0123456789ab/x":                 "",
		"":                                                   "",
	} {
		if got := NextOf(path); got != want {
			t.Errorf("NextOf(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestQEMUCommand(t *testing.T) {
	t.Parallel()
	argv := []string{QEMU, "-S", "-name", "a b"}
	if d := cmp.Diff(argv, QEMUCommand("", argv)); d != "" {
		t.Error(d)
	}
	want := strings.Fields("/run/skerry-next/0123456789ab/usr/lib64/ld-linux-x86-64.so.2 --library-path /run/skerry-next/0123456789ab/usr/lib/x86_64-linux-gnu" +
		" /run/skerry-next/0123456789ab/usr/bin/qemu-system-x86_64 -L /run/skerry-next/0123456789ab/usr/share/qemu -L /run/skerry-next/0123456789ab/usr/share/seabios -S -name")
	if d := cmp.Diff(append(want, "a b"), QEMUCommand("0123456789ab", argv)); d != "" {
		t.Error(d)
	}
}
