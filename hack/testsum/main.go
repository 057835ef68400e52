// SPDX-License-Identifier: Apache-2.0

// Command testsum reads the event streams that `go test -json` wrote to the
// files it is given, prints what failed or was skipped with its output, and ends
// with the one line "N passed, N failed". It exits non-zero when a test failed,
// a package did not build, a test was skipped, or nothing ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// key names a test, or with an empty test a whole package.
type key struct{ pkg, test string }

// summary is what the streams said, added up.
type summary struct {
	passed, failed, skipped int
	output                  map[key][]string
	bad                     []key
	slow                    []event
}

func main() {
	s := &summary{output: map[key][]string{}}
	for _, name := range os.Args[1:] {
		f, err := os.Open(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(2)
		}
		err = s.read(f)
		f.Close()
		if err != nil {
			fmt.Fprintf(os.Stderr, "testsum: read %s: %v\n", name, err)
			os.Exit(2)
		}
	}
	s.print(os.Stdout)
	if s.failed > 0 || s.skipped > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

// read adds one stream. Lines that are no events (a crash of the go command
// itself) are passed on to the reader.
func (s *summary) read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text())
			continue
		}
		s.add(e)
	}
	return in.Err()
}

func (s *summary) add(e event) {
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		s.output[k] = append(s.output[k], e.Output)
	case "pass":
		if e.Test != "" {
			s.passed++
			s.slow = append(s.slow, e)
		}
		delete(s.output, k)
	case "skip":
		// A package without test files reports a skip too: only tests count.
		if e.Test != "" {
			s.skipped++
			s.bad = append(s.bad, k)
		}
	case "fail", "build-fail":
		s.bad = append(s.bad, k)
		// A package that fails by itself (a panic, no build) counts once; one
		// that fails because of a test is counted by the test.
		if e.Test != "" || e.Action == "build-fail" || !s.anyBad(e.Package) {
			s.failed++
		}
	}
}

func (s *summary) anyBad(pkg string) bool {
	for _, k := range s.bad {
		if k.pkg == pkg && k.test != "" {
			return true
		}
	}
	return false
}

func (s *summary) print(w io.Writer) {
	for _, k := range s.bad {
		fmt.Fprintf(w, "--- %s %s\n", k.pkg, k.test)
		out := s.output[k]
		if len(out) > 400 {
			out = append([]string{"…\n"}, out[len(out)-400:]...)
		}
		fmt.Fprint(w, strings.Join(out, ""))
	}
	sort.Slice(s.slow, func(i, j int) bool { return s.slow[i].Elapsed > s.slow[j].Elapsed })
	for i, e := range s.slow {
		if i == 10 || e.Elapsed < 1 {
			break
		}
		fmt.Fprintf(w, "slow: %6.1fs %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	if s.skipped > 0 {
		fmt.Fprintf(w, "%d skipped: a skipped test counts as a failure here\n", s.skipped)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", s.passed, s.failed+s.skipped)
}
