// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// disk is a raw disk with the records numbered first to last.
func disk(first, last uint64) []byte {
	const places = 8
	b := make([]byte, places*block)
	for n := first; n <= last; n++ {
		r := b[n%places*block:][:block]
		clear(r)
		copy(r, magic)
		binary.LittleEndian.PutUint64(r[atNumber:], n)
		binary.LittleEndian.PutUint32(r[atPlaces:], places)
		r[100] = byte(n)
		binary.LittleEndian.PutUint32(r[atChecksum:], crc32.Checksum(r, crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		disk  []byte
		acked uint64
		want  Log
		wrong string
	}{
		"empty":       {make([]byte, 8*block), 0, Log{Places: 8, First: 1}, ""},
		"lost all":    {make([]byte, 8*block), 3, Log{Places: 8, First: 1}, "writes 1 to 3"},
		"first round": {disk(1, 5), 5, Log{Places: 8, Records: 5, First: 1, Last: 5}, ""},
		"went round":  {disk(1, 21), 20, Log{Places: 8, Records: 8, First: 14, Last: 21}, ""},
		"lost one":    {disk(1, 21), 22, Log{Places: 8, Records: 8, First: 14, Last: 21}, "writes 22 to 22"},
		"torn": {func() []byte { d := disk(1, 21); d[3*block+2000]++; return d }(), 21,
			Log{Places: 8, Records: 7, First: 14, Last: 21, Torn: 1, Gaps: 1}, "1 records are torn"},
		"gap": {func() []byte { d := disk(1, 21); clear(d[3*block : 4*block]); return d }(), 21,
			Log{Places: 8, Records: 7, First: 14, Last: 21, Gaps: 1}, "1 records between 14 and 21"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadLog(bytes.NewReader(c.disk), int64(len(c.disk)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			err = got.Check(c.acked)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("check: %v, want %q", err, c.wrong)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const line = "SKERRY-WITNESS report boot=b uptime_us=2500000 beats=7 gap_us=12000 gap_at_us=9 disk=/dev/vda acked=4 write_errors=0 " +
		"slowest_us=5 read_back=1 bad_reads=0 udp_in=1 udp_out=2 tcp_in=3 tcp_out=4 printed=5\r\n"
	got, err := ParseReport("noise " + line + "# ")
	if err != nil {
		t.Fatal(err)
	}
	want := Report{Boot: "b", Uptime: 2500 * time.Millisecond, Beats: 7, Gap: 12 * time.Millisecond, GapAt: 9 * time.Microsecond,
		Disk: "/dev/vda", Acked: 4, Slowest: 5 * time.Microsecond, ReadBack: 1, UDPIn: 1, UDPOut: 2, TCPIn: 3, TCPOut: 4, Printed: 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	later := want
	later.Uptime, later.Beats, later.Acked = 3*time.Second, 9, 6
	if err := later.Since(want); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Report){
		"another boot":   func(r *Report) { r.Boot = "c" },
		"uptime back":    func(r *Report) { r.Uptime = time.Second },
		"no beats":       func(r *Report) { r.Beats = 7 },
		"writes back":    func(r *Report) { r.Acked = 3 },
		"a failed write": func(r *Report) { r.WriteErrors = 1 },
		"a wrong read":   func(r *Report) { r.BadReads = 1 },
	} {
		r := later
		change(&r)
		if r.Since(want) == nil {
			t.Errorf("%s goes unnoticed", name)
		}
	}
	for _, bad := range []string{"", "SKERRY-WITNESS report boot=b", strings.Replace(line, "beats=7", "beats=x", 1), "SKERRY-WITNESS error no disk\n"} {
		if _, err := ParseReport(bad); err == nil {
			t.Errorf("%q is taken for a report", bad)
		}
	}
	v, err := ParseVerify("SKERRY-WITNESS verify places=8 records=7 first=14 last=21 acked=21 torn=0 gaps=1 io_errors=0\n")
	if err != nil {
		t.Fatal(err)
	}
	if v.Check(21) == nil {
		t.Error("a gap goes unnoticed")
	}
}

func TestOpenQcow2(t *testing.T) {
	t.Parallel()
	// Clusters of 512 bytes: header, first table, one second table, one data cluster.
	f := make([]byte, 4*512)
	copy(f, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(f[4:], 3)
	be.PutUint32(f[20:], 9)
	be.PutUint64(f[24:], 64*512)
	be.PutUint32(f[36:], 1)
	be.PutUint64(f[40:], 512)
	be.PutUint64(f[512:], 1024|1<<63)
	be.PutUint64(f[1024+2*8:], 1536|1<<63)
	copy(f[1536:], "here")
	r, size, err := OpenQcow2(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if _, err := r.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 64*512)
	copy(want[2*512:], "here")
	if !bytes.Equal(got, want) {
		t.Error("the disk is not what the tables say")
	}
	if _, err := r.ReadAt(got, 512); err != io.EOF {
		t.Errorf("reading past the end: %v, want EOF", err)
	}
	be.PutUint64(f[8:], 100)
	if _, _, err := OpenQcow2(bytes.NewReader(f)); err == nil {
		t.Error("a file with a backing file is read as if it had none")
	}
}

func TestListener(t *testing.T) {
	t.Parallel()
	l, err := Listen("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("udp", l.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, beat := range []string{"beat 5 1 0\n", "noise", "beat 5 2 0\n", "beat x 3 0\n", "beat 5 6 0\n", "beat 6 1 0\n"} {
		if _, err := io.WriteString(c, beat); err != nil {
			t.Fatal(err)
		}
	}
	for l.Heard(6).Count == 0 {
		time.Sleep(time.Millisecond)
	}
	if h := l.Heard(5); h.Count != 3 || h.Lost != 3 || h.Gap <= 0 {
		t.Errorf("heard %+v, want 3 beats with 3 lost", h)
	}
	l.Reset()
	if h := l.Heard(5); h.Count != 0 || h.Lost != 0 {
		t.Errorf("heard %+v after a reset", h)
	}
}
