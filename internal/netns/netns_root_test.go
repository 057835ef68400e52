// SPDX-License-Identifier: Apache-2.0

//go:build root

package netns_test

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/skerry-dev/skerry/internal/netns"
	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

func links() ([]string, error) {
	all, err := net.Interfaces()
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names, err
}

func TestDo(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	netnstest.IP(t, ns, "link add only-here type bridge")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := netns.Do(ns, func() error {
				if _, err := net.InterfaceByName("only-here"); err != nil {
					return err
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := net.InterfaceByName("only-here"); err == nil {
				t.Error("the namespace leaked out of Do")
			}
		})
	}
	wg.Wait()
	inside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	thread, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil || inside != thread {
		t.Errorf("main thread is in %s, this one in %s (%v)", inside, thread, err)
	}
}

func TestDoErrors(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	if err := netns.Do(netnstest.New(t), func() error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Do: %v, want f's error", err)
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := netns.Do(f, func() error { t.Error("f was called"); return nil }); err == nil {
		t.Error("Do entered /dev/null")
	}
	names, err := links()
	if err != nil || len(names) == 0 {
		t.Errorf("links here: %v, %v", names, err)
	}
}
