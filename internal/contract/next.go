// SPDX-License-Identifier: Apache-2.0

package contract

import "strings"

// First versions of the contract that have something.
const (
	// NextSince is the first version whose pods have NextVolume and whose
	// launchers know the verb renew: QEMU can be replaced while the guest runs.
	NextSince = 2
)

// NextVolume is an emptyDir on the node's disk, read-only in the pod. The agent
// puts newer launcher images into it, one directory each named after the first
// NextDigits digits of the image's digest, for QEMU to be replaced from.
const NextVolume = "next"

// NextDir is where NextVolume is mounted in the container.
const NextDir = "/run/skerry-next"

// NextDigits is the length of a directory's name in NextVolume.
const NextDigits = 12

// Where things are in a launcher image, relative to its root. The loader and the
// libraries' directory are Debian's for amd64.
const (
	loaderPath   = "/usr/lib64/ld-linux-x86-64.so.2"
	libraryPath  = "/usr/lib/x86_64-linux-gnu"
	firmwarePath = "/usr/share/qemu"
	seabiosPath  = "/usr/share/seabios"
	modulesPath  = "/usr/lib/x86_64-linux-gnu/qemu"
)

// ModuleDirEnv is the environment variable that tells QEMU where its modules are.
const ModuleDirEnv = "QEMU_MODULE_DIR"

// NextRoot is the directory of a launcher image in the container's NextDir.
func NextRoot(next string) string { return NextDir + "/" + next }

// IsNext tells whether s can be the name of a directory in NextVolume.
func IsNext(s string) bool {
	return len(s) == NextDigits && strings.Trim(s, "0123456789abcdef") == ""
}

// NextOf is the name of the launcher image that a program is from, by its path as
// the pod sees it; empty for the image that the container was started with.
func NextOf(path string) string {
	rest, ok := strings.CutPrefix(path, NextDir+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	if !IsNext(name) {
		return ""
	}
	return name
}

// QEMUCommand is the command that runs QEMU with the arguments argv[1:] from the
// launcher image next, or from the container's own for an empty one. QEMU of
// another image needs that image's loader, libraries and firmware: what it found
// in the container's would be of another version.
func QEMUCommand(next string, argv []string) []string {
	if next == "" {
		return append([]string{QEMU}, argv[1:]...)
	}
	return append(ImageCommand(NextRoot(next)), argv[1:]...)
}

// ImageCommand is the beginning of the command that runs QEMU of the launcher
// image at root.
func ImageCommand(root string) []string {
	return []string{
		root + loaderPath, "--library-path", root + libraryPath,
		root + QEMU, "-L", root + firmwarePath, "-L", root + seabiosPath,
	}
}

// ImageEnv are the variables that QEMU of the launcher image next needs, as
// NAME=value.
func ImageEnv(next string) []string {
	if next == "" {
		return nil
	}
	return []string{ModuleDirEnv + "=" + NextRoot(next) + modulesPath}
}
