// SPDX-License-Identifier: Apache-2.0

// Package resizedoc is for tests: it holds the tables in docs/resize.md against
// what the tests saw, and writes them when asked to.
//
// It must never be linked into a program.
package resizedoc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Row is a row of a table.
type Row []string

// Check compares the table of that name in docs/resize.md, which stands between
// the lines "<!-- table NAME -->" and "<!-- end NAME -->", with what is. root is
// the repository's top folder as seen from the test. With update it is written
// instead.
func Check(root, name string, head Row, rows []Row, update bool) error {
	file := filepath.Join(root, "docs", "resize.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "<!-- table "+name+" -->\n", "<!-- end "+name+" -->"
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: has no lines %q and %q", file, strings.TrimSpace(begin), end)
	}
	want := table(head, rows)
	if was == want {
		return nil
	}
	if update {
		return os.WriteFile(file, []byte(before+begin+want+end+after), 0o644)
	}
	return fmt.Errorf("%s: table %s is not what the tests saw; run them with -update. It should be:\n%s", file, name, want)
}

func table(head Row, rows []Row) string {
	var b strings.Builder
	line := func(r Row) {
		for _, cell := range r {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for _, r := range rows {
		line(r)
	}
	return b.String()
}
