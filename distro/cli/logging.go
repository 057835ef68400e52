// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/skerry-dev/skerry/distro/logfile"
)

// logLimit bounds skerry.log, in bytes; one older file of that size is kept.
const logLimit = 32 << 20

// setUpLogging sends the logs of everything in this process to one file. Go's
// own last words (a panic) still go to standard error.
func setUpLogging(file *logfile.File, verbosity int) error {
	handler := slog.NewTextHandler(file, nil)
	slog.SetDefault(slog.New(handler)) // the standard library's log, too
	ctrl.SetLogger(logr.FromSlogHandler(handler))

	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	for _, f := range []struct{ name, value string }{
		{"logtostderr", "false"}, {"alsologtostderr", "false"}, {"stderrthreshold", "FATAL"}, {"one_output", "true"}, {"v", strconv.Itoa(verbosity)},
	} {
		if err := fs.Set(f.name, f.value); err != nil {
			return err
		}
	}
	klog.SetOutput(file)
	klog.StartFlushDaemon(time.Second)
	// A component's fatal error ends the process from within: say where to look.
	exit := klog.OsExit
	klog.OsExit = func(code int) {
		klog.Flush()
		fmt.Fprintf(os.Stderr, "skerry: a component gave up; see the end of %s\n", file.Path())
		exit(code)
	}
	return nil
}
