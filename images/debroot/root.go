// SPDX-License-Identifier: Apache-2.0

package debroot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/internal/ocilayout"
)

// Spec is the recipe of a root file system.
type Spec struct {
	// Name is for people: part of the directory's name in the cache.
	Name string
	// Suite is the Debian release, such as "trixie".
	Suite string
	// Backports adds the suite's backports as a source.
	Backports bool
	// Preferences is the content of an apt_preferences(5) file, for pins.
	Preferences string
	// Include lists the packages wanted; recommended packages are left out.
	Include []string
	// Install runs the packages' maintainer scripts, as on a real system, and
	// includes the essential ones. Without it the packages and what they depend
	// on are only unpacked, which is enough to cut files out and to run programs.
	Install bool
	// DpkgOpts are lines for dpkg.cfg, for instance path-exclude=….
	DpkgOpts []string
	// Files are put into an installed root file system, by their paths in it.
	Files map[string]string
	// Script is then run in it by sh -eu, after everything is installed.
	Script string
}

// Root is a root file system in the cache. Its directory must not be changed.
type Root struct {
	Dir string
	// Packages maps the names of the packages in it to their versions.
	Packages map[string]string
}

// RefreshEnv is an environment variable that, when it is not empty, makes Make
// ignore the cache, to look for newer packages.
const RefreshEnv = "SKERRY_DEBIAN_REFRESH"

// Make returns the root file system that spec describes, from the directory
// cache if it is there.
func Make(ctx context.Context, cache string, spec Spec) (*Root, error) {
	dir, err := filepath.Abs(filepath.Join(cache, "debroot", spec.Name+"-"+spec.key()))
	if err != nil {
		return nil, err
	}
	r := &Root{Dir: filepath.Join(dir, "root")}
	list := filepath.Join(dir, "packages.json")
	if os.Getenv(RefreshEnv) == "" {
		b, err := os.ReadFile(list)
		if err == nil {
			if err := json.Unmarshal(b, &r.Packages); err != nil {
				return nil, fmt.Errorf("%s: %w (remove its directory to make it again)", list, err)
			}
			return r, nil
		}
		if !os.IsNotExist(err) {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if err := sweep(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), unfinished+"*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	packages, err := bootstrap(ctx, tmp, spec, FindMirrors())
	if err != nil {
		return nil, fmt.Errorf("root file system %s of Debian %s: %w", spec.Name, spec.Suite, err)
	}
	b, err := json.MarshalIndent(packages, "", "\t")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tmp, "packages.json"), append(b, '\n'), 0o644); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, err
	}
	r.Packages = packages
	return r, prune(dir)
}

// unfinished starts the names of directories that are being made.
const unfinished = ".making-"

// sweep removes what a killed build left. Builds hold the cache's lock, so nothing
// of another one is there.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	if err != nil {
		return err
	}
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	return nil
}

// Lock makes the calling build the only one that uses the cache directory, and the
// outputs made from it, until release is called. It waits for another one to end.
func Lock(cache string) (release func(), err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// prune removes what older recipes of the same name left in the cache.
func prune(dir string) error {
	base := filepath.Base(dir)
	name := base[:strings.LastIndex(base, "-")]
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		key, ok := strings.CutPrefix(e.Name(), name+"-")
		if !ok || e.Name() == base || len(key) != 2*keyBytes || strings.Trim(key, "0123456789abcdef") != "" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(filepath.Dir(dir), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// keyBytes is how much of a recipe's hash names its directory.
const keyBytes = 6

// key names everything that decides what is in the root file system.
func (s Spec) key() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and bools only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:keyBytes])
}

// sources is the sources.list for spec.
func (s Spec) sources(m Mirrors) string {
	var b strings.Builder
	fmt.Fprintf(&b, "deb %s %s main\n", m.Main, s.Suite)
	if s.Suite != "sid" {
		fmt.Fprintf(&b, "deb %s %s-updates main\n", m.Main, s.Suite)
		fmt.Fprintf(&b, "deb %s %s-security main\n", m.Security, s.Suite)
	}
	if s.Backports {
		fmt.Fprintf(&b, "deb %s %s-backports main\n", m.Main, s.Suite)
	}
	return b.String()
}

// bootstrap runs mmdebstrap into dir/root and returns the packages' versions.
func bootstrap(ctx context.Context, dir string, spec Spec, m Mirrors) (map[string]string, error) {
	root, debs := filepath.Join(dir, "root"), filepath.Join(dir, "debs")
	variant := "extract"
	if spec.Install {
		variant = "minbase"
	}
	args := []string{
		"--variant=" + variant,
		"--include=" + strings.Join(spec.Include, ","),
		"--format=directory",
		`--aptopt=APT::Install-Recommends "false"`,
	}
	if !nullForAll() {
		args = append(args, `--aptopt=APT::Sandbox::User "root"`)
	}
	for _, o := range spec.DpkgOpts {
		args = append(args, "--dpkgopt="+o)
	}
	if spec.Preferences != "" {
		prefs := filepath.Join(dir, "preferences")
		if err := os.WriteFile(prefs, []byte(spec.Preferences), 0o644); err != nil {
			return nil, err
		}
		args = append(args, "--setup-hook=upload "+quote(prefs)+" /etc/apt/preferences.d/skerry")
	}
	custom, err := customize(dir, spec)
	if err != nil {
		return nil, err
	}
	args = append(args, custom...)
	if !spec.Install {
		// Unpacking alone leaves no record of what was unpacked, and the links
		// /lib -> usr/lib have to be there before.
		args = append(args,
			"--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
			`--extract-hook=cd "$1/var/cache/apt/archives" && ls >`+quote(debs)+` &&
				for d in *.deb; do echo "$d"; dpkg-deb --fsys-tarfile "$d" | tar -t; done >`+quote(filepath.Join(dir, ownersFile)))
	}
	args = append(args, spec.Suite, root, "-")
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	// Asked to end, it unmounts what it mounted.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdin = strings.NewReader(spec.sources(m))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("mmdebstrap: %w\n%s", err, log.Bytes())
	}
	if spec.Install {
		b, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
		if err != nil {
			return nil, err
		}
		return parseStatus(string(b)), nil
	}
	b, err := os.ReadFile(debs)
	if err != nil {
		return nil, err
	}
	return parseDebs(string(b))
}

// nullForAll tells whether any user may write to /dev/null. In some containers only
// root may, and then apt's own user, who checks the signatures, fails at the first
// redirection: apt must stay root there.
func nullForAll() bool {
	fi, err := os.Stat(os.DevNull)
	return err != nil || fi.Mode().Perm()&0o006 == 0o006
}

// customize returns the options that bring in the recipe's files and run its
// script.
func customize(dir string, spec Spec) ([]string, error) {
	var args []string
	if len(spec.Files) > 0 {
		var files []ocilayout.File
		for p, content := range spec.Files {
			f := ocilayout.File{Path: p, Content: []byte(content)}
			if strings.HasPrefix(content, "#!") {
				f.Mode = 0o755
			}
			files = append(files, f)
		}
		tar := filepath.Join(dir, "files.tar")
		if _, err := ocilayout.NewLayer(tar, "files", files, ocilayout.Uncompressed); err != nil {
			return nil, err
		}
		args = append(args, "--customize-hook=tar-in "+quote(tar)+" /")
	}
	if spec.Script != "" {
		script := filepath.Join(dir, "script")
		if err := os.WriteFile(script, []byte(spec.Script), 0o644); err != nil {
			return nil, err
		}
		args = append(args, `--customize-hook=chroot "$1" /bin/sh -eu <`+quote(script))
	}
	return args, nil
}

// ownersFile lists each package file's name and then the paths in it, one a line.
const ownersFile = "owners"

// Owners maps paths in the root file system, such as "usr/bin/x", to the names
// of the packages that they came from. It works for roots that are only
// unpacked.
func (r *Root) Owners() (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(r.Dir), ownersFile))
	if err != nil {
		return nil, err
	}
	return parseOwners(string(b)), nil
}

func parseOwners(list string) map[string]string {
	owners := map[string]string{}
	name := ""
	for line := range strings.Lines(list) {
		line = strings.TrimSuffix(line, "\n")
		p, isPath := strings.CutPrefix(line, "./")
		if !isPath {
			name, _, _ = strings.Cut(line, "_")
			continue
		}
		if p == "" || strings.HasSuffix(p, "/") {
			continue
		}
		// Packages of before the merge of /usr still name /lib and the like.
		if top, _, _ := strings.Cut(p, "/"); top == "lib" || top == "lib64" || top == "bin" || top == "sbin" {
			p = "usr/" + p
		}
		owners[p] = name
	}
	return owners
}

// quote protects s from the shell that mmdebstrap runs hooks with.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// parseDebs reads apt's archive file names, NAME_VERSION_ARCH.deb.
func parseDebs(names string) (map[string]string, error) {
	packages := map[string]string{}
	for line := range strings.Lines(names) {
		base, isDeb := strings.CutSuffix(strings.TrimSpace(line), ".deb")
		if !isDeb {
			continue // lock, partial
		}
		f := strings.Split(base, "_")
		if len(f) != 3 {
			return nil, fmt.Errorf("package file %q is not NAME_VERSION_ARCH.deb", line)
		}
		version, err := url.PathUnescape(f[1])
		if err != nil {
			return nil, fmt.Errorf("package file %q: %w", line, err)
		}
		packages[f[0]] = version
	}
	return packages, nil
}

// parseStatus reads dpkg's status file.
func parseStatus(status string) map[string]string {
	packages := map[string]string{}
	name := ""
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			packages[name] = strings.TrimSpace(v)
		}
	}
	return packages
}
