// SPDX-License-Identifier: Apache-2.0

package debroot

import (
	"os"
	"os/exec"
	"strings"
)

// Environment variables that name the mirrors to use, for instance
// "http://mirror.example/debian".
const (
	MirrorEnv         = "SKERRY_DEBIAN_MIRROR"
	SecurityMirrorEnv = "SKERRY_DEBIAN_SECURITY_MIRROR"
)

// Mirrors says where packages come from.
type Mirrors struct {
	Main, Security string
}

// FindMirrors takes the mirrors from the environment, then from this machine's
// apt configuration if it is a Debian one, then Debian's own.
func FindMirrors() Mirrors {
	// Without apt there is no output, and Debian's own mirrors it is.
	out, _ := exec.Command("apt-get", "indextargets",
		"--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages").Output()
	return chooseMirrors(os.Getenv(MirrorEnv), os.Getenv(SecurityMirrorEnv), string(out))
}

// debianReleases are the names under which apt configurations know the releases
// that a Debian host may have.
var debianReleases = map[string]bool{
	"bookworm": true, "trixie": true, "forky": true, "sid": true,
	"oldstable": true, "stable": true, "testing": true, "unstable": true,
}

// chooseMirrors is FindMirrors without its environment: targets has one line
// "SITE RELEASE COMPONENT" per configured package index.
func chooseMirrors(main, security, targets string) Mirrors {
	m := Mirrors{Main: main, Security: security}
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		release, isSecurity := strings.CutSuffix(f[1], "-security")
		if !debianReleases[release] {
			continue
		}
		switch {
		case isSecurity && m.Security == "":
			m.Security = f[0]
		case !isSecurity && m.Main == "":
			m.Main = f[0]
		}
	}
	if m.Main == "" {
		m.Main = "http://deb.debian.org/debian"
	}
	if m.Security == "" {
		m.Security = "http://deb.debian.org/debian-security"
	}
	return m
}
