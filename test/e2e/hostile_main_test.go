// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostileName is the name by which the tests' own binary, copied into a machine's
// pod, becomes whoever has broken out of the guest.
const hostileName = "hostile"

// hostile does one thing in the pod, as its user and in its cgroup:
//
//	link TARGET PATH...   puts symbolic links in the place of whatever is there
//	fifo PATH...          or FIFOs
//	dir PATH...           or directories
//	move FROM TO          renames
//	serve WHAT PATH       listens there and talks WHAT to whoever connects
//	eat MIB               takes memory
//
// and prints "done" or "ready".
func hostile(args []string) int {
	if err := attack(args); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		return 1
	}
	fmt.Println("done")
	return 0
}

func attack(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("arguments %q", args)
	}
	verb, args := args[0], args[1:]
	each := func(paths []string, do func(string) error) error {
		for _, p := range paths {
			if err := os.RemoveAll(p); err != nil {
				return err
			}
			if err := do(p); err != nil {
				return err
			}
		}
		return nil
	}
	switch verb {
	case "link":
		return each(args[1:], func(p string) error { return os.Symlink(args[0], p) })
	case "fifo":
		return each(args, func(p string) error { return unix.Mkfifo(p, 0o666) })
	case "dir":
		return each(args, func(p string) error { return os.Mkdir(p, 0o777) })
	case "move":
		return os.Rename(args[0], args[1])
	case "serve":
		return serveLies(args[0], args[1])
	case "eat":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		eaten := make([]byte, n<<20)
		for i := 0; i < len(eaten); i += 4096 {
			eaten[i] = 1
		}
		fmt.Println("ready")
		_, err = io.Copy(io.Discard, os.Stdin) // until it is let go
		return err
	}
	return fmt.Errorf("verb %q", verb)
}

func serveLies(what, path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			lie(what, c)
		}()
	}
}

func lie(what string, c net.Conn) {
	endless := func(s string) {
		b := []byte(strings.Repeat(s, 1+(32<<10)/len(s)))
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	switch what {
	case "nonsense":
		_, _ = io.WriteString(c, "SSH-2.0-hostile\r\n\r\n")
	case "silence":
		_, _ = io.Copy(io.Discard, c)
	case "line": // that never ends
		endless("x")
	case "monitor": // as QEMU's, in a machine that runs
		lieAsMonitor(c, nil)
	case "events": // in between, as many as will go through
		lieAsMonitor(c, func() { endless(`{"event":"STOP"}` + "\n" + `{"event":"RESUME"}` + "\n") })
	}
}

// lieAsMonitor answers every command of QMP. Every other time the machine is paused.
func lieAsMonitor(c net.Conn, besides func()) {
	_, _ = io.WriteString(c, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}, "package": ""}, "capabilities": []}}`+"\n")
	dec := json.NewDecoder(c)
	for n := 0; ; n++ {
		var q struct {
			Execute string          `json:"execute"`
			ID      json.RawMessage `json:"id"`
		}
		if dec.Decode(&q) != nil {
			return
		}
		kind, answer := "return", `{}`
		switch q.Execute {
		case "query-status":
			answer = `{"running": true, "status": "running"}`
			if besides != nil && n%2 == 0 {
				answer = `{"running": false, "status": "paused"}`
			}
		case "query-kvm":
			answer = `{"enabled": false, "present": true}`
		case "query-memory-size-summary":
			answer = `{"base-memory": 134217728, "plugged-memory": 0}`
		case "query-chardev", "query-hotpluggable-cpus", "query-memory-devices", "query-cpus-fast":
			answer = `[]`
		case "qmp_capabilities", "quit", "set_link":
		default:
			kind, answer = "error", `{"class": "CommandNotFound", "desc": "this is not QEMU"}`
		}
		if q.ID == nil {
			_, _ = io.WriteString(c, `{"`+kind+`": `+answer+"}\n")
		} else {
			_, _ = io.WriteString(c, `{"`+kind+`": `+answer+`, "id": `+string(q.ID)+"}\n")
		}
		if besides != nil && q.Execute == "query-chardev" {
			go besides()
		}
	}
}
