// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package failpoint_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/failpoint/arm"
)

const place = "agent.x.before-y"

// child is set in a process that a test starts to die at the place.
const child = "FAILPOINT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		if err := failpoint.Hit(context.Background(), place); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func armed(t *testing.T, action string) arm.Dir {
	t.Helper()
	d, err := arm.Make(t.TempDir())
	if err == nil && action != "" {
		err = d.Arm(place, action)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(failpoint.Environment, string(d))
	return d
}

func hits(t *testing.T, d arm.Dir, want int) {
	t.Helper()
	if n, err := d.Count(place); err != nil || n != want {
		t.Errorf("%d hits, %v, want %d", n, err, want)
	}
}

func TestNotArmed(t *testing.T) {
	d := armed(t, "")
	if err := failpoint.Hit(t.Context(), place); err != nil {
		t.Error(err)
	}
	hits(t, d, 0)
	t.Setenv(failpoint.Environment, "")
	if err := failpoint.Hit(t.Context(), place); err != nil {
		t.Error(err)
	}
}

func TestErrorNTimes(t *testing.T) {
	d := armed(t, "3*error(no space)")
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for range 10 {
		wg.Go(func() {
			err := failpoint.Hit(t.Context(), place)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				if !strings.HasSuffix(err.Error(), place+": no space") {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if failed != 3 {
		t.Errorf("%d hits failed, want 3", failed)
	}
	hits(t, d, 3)
	if left, err := d.Disarm(place); left || err != nil {
		t.Errorf("still armed: %v, %v", left, err)
	}
}

func TestHang(t *testing.T) {
	d := armed(t, "hang")
	done := make(chan error)
	go func() { done <- failpoint.Hit(t.Context(), place) }()
	for at, err := d.Hanging(); len(at) == 0; at, err = d.Hanging() {
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			t.Fatalf("did not hang: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := d.LetGo(place); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	if err := d.Arm(place, "hang"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := failpoint.Hit(ctx, place); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	if at, err := d.Hanging(); len(at) > 0 || err != nil {
		t.Errorf("hanging: %v, %v", at, err)
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	hits(t, d, 0)
}

// TestProcessDies: a place that was armed once kills one process and not the next.
func TestProcessDies(t *testing.T) {
	for action, want := range map[string]string{"crash": "signal: killed", "exit(64)": "exit status 64"} {
		d := armed(t, action)
		for _, want := range []string{want, "<nil>"} {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), child+"=1")
			got := "<nil>"
			if err := cmd.Run(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s: process ended with %s, want %s", action, got, want)
			}
		}
		hits(t, d, 1)
	}
}
