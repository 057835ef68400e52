// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Report is what the guest says of itself.
type Report struct {
	// Boot is the kernel's boot_id: another one means that the guest began anew.
	Boot string
	// Uptime is since the boot.
	Uptime time.Duration
	// Beats is how many heartbeats there were, Gap the longest time between two
	// since the last reset, GapAt the uptime at its end.
	Beats      uint64
	Gap, GapAt time.Duration
	// Disk is its device, or "none".
	Disk string
	// Acked is the number of the last record that was written and flushed.
	Acked       uint64
	WriteErrors uint64
	// Slowest is the longest time that a write took since the last reset.
	Slowest time.Duration
	// ReadBack and BadReads count the records that were read at random.
	ReadBack, BadReads uint64
	// UDP counts datagrams, TCP bytes, on the echo ports.
	UDPIn, UDPOut, TCPIn, TCPOut uint64
	// Printed counts bytes of `witness print`.
	Printed uint64
}

// ParseReport finds the last report in what a guest printed.
func ParseReport(text string) (Report, error) {
	f, err := fields(text, "report")
	if err != nil {
		return Report{}, err
	}
	r := Report{
		Boot: f.text("boot"), Uptime: f.micros("uptime_us"), Beats: f.number("beats"),
		Gap: f.micros("gap_us"), GapAt: f.micros("gap_at_us"), Disk: f.text("disk"),
		Acked: f.number("acked"), WriteErrors: f.number("write_errors"), Slowest: f.micros("slowest_us"),
		ReadBack: f.number("read_back"), BadReads: f.number("bad_reads"),
		UDPIn: f.number("udp_in"), UDPOut: f.number("udp_out"), TCPIn: f.number("tcp_in"), TCPOut: f.number("tcp_out"),
		Printed: f.number("printed"),
	}
	return r, f.err
}

// Since says what is wrong with a report that comes after an earlier one of the
// same guest; nil when the guest ran on.
func (r Report) Since(before Report) error {
	switch {
	case r.Boot != before.Boot:
		return fmt.Errorf("the guest began anew: boot %s after %v, was %s", r.Boot, r.Uptime, before.Boot)
	case r.Uptime <= before.Uptime:
		return fmt.Errorf("the guest's uptime went from %v to %v", before.Uptime, r.Uptime)
	case r.Beats <= before.Beats:
		return fmt.Errorf("the guest's heart stood still at %d", r.Beats)
	case r.Acked < before.Acked:
		return fmt.Errorf("%d writes were acknowledged, now %d", before.Acked, r.Acked)
	case r.WriteErrors != 0 || r.BadReads != 0:
		return fmt.Errorf("%d writes failed, %d reads brought something else", r.WriteErrors, r.BadReads)
	}
	return nil
}

// Verify is what the guest read back from its disk.
type Verify struct {
	// Log is what is there.
	Log
	// Acked is what the running witness had acknowledged at that time, 0 if none runs.
	Acked uint64
	// IOErrors counts blocks that could not be read.
	IOErrors uint64
}

// ParseVerify finds the last answer to verify in what a guest printed.
func ParseVerify(text string) (Verify, error) {
	f, err := fields(text, "verify")
	if err != nil {
		return Verify{}, err
	}
	v := Verify{
		Log: Log{
			Places: f.number("places"), Records: f.number("records"), First: f.number("first"), Last: f.number("last"),
			Torn: f.number("torn"), Gaps: f.number("gaps"),
		},
		Acked: f.number("acked"), IOErrors: f.number("io_errors"),
	}
	return v, f.err
}

// Check says what is wrong: acked is the last number that the guest, in an earlier
// report, called acknowledged.
func (v Verify) Check(acked uint64) error {
	if v.IOErrors != 0 {
		return fmt.Errorf("%d blocks could not be read", v.IOErrors)
	}
	return v.Log.Check(max(acked, v.Acked))
}

// values are the fields of one line; the first that is missing is err.
type values struct {
	m   map[string]string
	err error
}

func fields(text, kind string) (*values, error) {
	prefix := "SKERRY-WITNESS " + kind + " "
	i := strings.LastIndex(text, prefix)
	if i < 0 {
		if _, problem, ok := strings.Cut(text, "SKERRY-WITNESS error "); ok {
			line, _, _ := strings.Cut(problem, "\n")
			return nil, fmt.Errorf("the witness says: %s", strings.TrimSpace(line))
		}
		return nil, fmt.Errorf("no %q in %q", strings.TrimSpace(prefix), text)
	}
	line, _, _ := strings.Cut(text[i+len(prefix):], "\n")
	v := &values{m: map[string]string{}}
	for w := range strings.FieldsSeq(line) {
		if k, val, ok := strings.Cut(w, "="); ok {
			v.m[k] = val
		}
	}
	return v, nil
}

func (v *values) text(key string) string {
	s, ok := v.m[key]
	if (!ok || s == "") && v.err == nil {
		v.err = fmt.Errorf("the witness's line has no %s: %v", key, v.m)
	}
	return s
}

func (v *values) number(key string) uint64 {
	n, err := strconv.ParseUint(v.text(key), 10, 64)
	if err != nil && v.err == nil {
		v.err = fmt.Errorf("the witness's %s: %w", key, err)
	}
	return n
}

func (v *values) micros(key string) time.Duration {
	return time.Duration(v.number(key)) * time.Microsecond
}
