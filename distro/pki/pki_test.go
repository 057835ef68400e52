// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func plan() Plan {
	return Plan{
		Authorities: []Authority{{Name: "ca", CommonName: "test-ca"}, {Name: "other", CommonName: "other-ca"}},
		Leaves: []Leaf{
			{Name: "server", Authority: "ca", CommonName: "s", Server: true, DNSNames: []string{"b", "a"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}},
			{Name: "client", Authority: "other", CommonName: "c", Organization: []string{"o"}, Client: true},
		},
		SigningKey: "sa",
	}
}

func ensure(t *testing.T, d Dir, p Plan, at time.Time) []string {
	t.Helper()
	changed, err := d.Ensure(p, at)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestDue(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for _, c := range []struct {
		name       string
		from, till time.Time
		want       bool
	}{
		{"new", now, now.Add(90 * day), false},
		{"a little more than a third left", now.Add(-59 * day), now.Add(31 * day), false},
		{"a little less than a third left", now.Add(-61 * day), now.Add(29 * day), true},
		{"expired", now.Add(-90 * day), now.Add(-day), true},
		{"made while the clock was a day ahead", now.Add(day), now.Add(90 * day), false},
		{"made while the clock was a month ahead", now.Add(30 * day), now.Add(120 * day), true},
		{"short-lived, new", now, now.Add(time.Minute), false},
		{"short-lived, near its end", now.Add(-50 * time.Second), now.Add(10 * time.Second), true},
	} {
		if got := Due(&x509.Certificate{NotBefore: c.from.Add(-Backdate), NotAfter: c.till}, now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestEnsureMakesEverythingOnce(t *testing.T) {
	t.Parallel()
	d := Dir(filepath.Join(t.TempDir(), "pki"))
	if diff := cmp.Diff([]string{"ca", "other", "server", "client", "sa"}, ensure(t, d, plan(), now)); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	if again := ensure(t, d, plan(), now); len(again) != 0 {
		t.Errorf("second start made %v again", again)
	}
	for _, name := range []string{"ca.key", "server.key", "sa.key"} {
		st, err := os.Stat(filepath.Join(string(d), name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v, want 0600", name, err, st.Mode())
		}
	}
	ca, err := d.read("ca")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	server, err := d.read("server")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a", CurrentTime: now}); err != nil {
		t.Errorf("server certificate: %v", err)
	}
	if err := server.VerifyHostname("10.0.0.1"); err != nil {
		t.Error(err)
	}
}

func TestEnsureRenews(t *testing.T) {
	t.Parallel()
	edit := func(f func(p *Plan)) Plan { p := plan(); f(&p); return p }
	for _, c := range []struct {
		name string
		mess func(t *testing.T, d Dir)
		plan Plan
		at   time.Time
		want []string
	}{
		{name: "leaves near their end", plan: plan(), at: now.Add(LeafLife * 3 / 4), want: []string{"server", "client"}},
		{name: "authorities near their end", plan: plan(), at: now.Add(AuthorityLife * 3 / 4), want: []string{"ca", "other", "server", "client"}},
		{name: "another address", plan: edit(func(p *Plan) { p.Leaves[0].IPs = []net.IP{net.IPv4(10, 0, 0, 2)} }), at: now, want: []string{"server"}},
		{name: "another name", plan: edit(func(p *Plan) { p.Leaves[0].DNSNames = []string{"a"} }), at: now, want: []string{"server"}},
		{name: "another subject", plan: edit(func(p *Plan) { p.Leaves[1].Organization = []string{"p"} }), at: now, want: []string{"client"}},
		{name: "another use", plan: edit(func(p *Plan) { p.Leaves[1].Server = true }), at: now, want: []string{"client"}},
		{name: "another authority", plan: edit(func(p *Plan) { p.Leaves[1].Authority = "ca" }), at: now, want: []string{"client"}},
		{name: "names in another order", plan: edit(func(p *Plan) { p.Leaves[0].DNSNames = []string{"a", "b"} }), at: now},
		{name: "damaged leaf", plan: plan(), at: now, want: []string{"server"},
			mess: func(t *testing.T, d Dir) { write(t, d.Cert("server"), "not a certificate") }},
		{name: "a key without its certificate, as a power cut leaves it", plan: plan(), at: now, want: []string{"server"},
			mess: func(t *testing.T, d Dir) { copyFile(t, d.Key("client"), d.Key("server")) }},
		{name: "another's public key", plan: plan(), at: now, want: []string{"sa"},
			mess: func(t *testing.T, d Dir) { write(t, d.Pub("sa"), "not a key") }},
		{name: "a shorter life", plan: edit(func(p *Plan) { p.LeafLife = time.Hour }), at: now},
		{name: "a clock set back by an hour", plan: plan(), at: now.Add(-time.Hour)},
		{name: "a clock set forth by an hour", plan: plan(), at: now.Add(time.Hour)},
		{name: "a clock that begins in 1970", plan: plan(), at: time.Unix(0, 0), want: []string{"ca", "other", "server", "client"}},
		{name: "lost authority certificate", plan: plan(), at: now, want: []string{"ca"},
			mess: func(t *testing.T, d Dir) { remove(t, d.Cert("ca")) }},
		{name: "lost public key", plan: plan(), at: now, want: []string{"sa"},
			mess: func(t *testing.T, d Dir) { remove(t, d.Pub("sa")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(t.TempDir())
			ensure(t, d, plan(), now)
			if c.mess != nil {
				c.mess(t, d)
			}
			if diff := cmp.Diff(c.want, ensure(t, d, c.plan, c.at)); diff != "" {
				t.Errorf("renewed (-want +got):\n%s", diff)
			}
			if again := ensure(t, d, c.plan, c.at); len(again) != 0 {
				t.Errorf("renewed again: %v", again)
			}
		})
	}
}

// An authority's key is its identity: certificates signed before a renewal stay good.
func TestRenewedAuthorityKeepsItsKey(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ensure(t, d, plan(), now)
	leaf, err := d.read("server")
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, d, plan(), now.Add(AuthorityLife*3/4))
	ca, err := d.read("ca")
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
}

func TestEnsureRefusesToReplaceAnAuthority(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		mess func(t *testing.T, d Dir)
	}{
		{"lost key", func(t *testing.T, d Dir) { remove(t, d.Key("ca")) }},
		{"damaged key", func(t *testing.T, d Dir) { write(t, d.Key("ca"), "x") }},
	} {
		d := Dir(t.TempDir())
		ensure(t, d, plan(), now)
		c.mess(t, d)
		_, err := d.Ensure(plan(), now.Add(AuthorityLife*3/4))
		if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestEnsureNamesAnUnknownAuthority(t *testing.T) {
	t.Parallel()
	p := plan()
	p.Leaves[0].Authority = "nobody"
	if _, err := Dir(t.TempDir()).Ensure(p, now); err == nil || !strings.Contains(err.Error(), `no authority "nobody"`) {
		t.Errorf("got %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ensure(t, d, plan(), now)
	got, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	from := now.Add(-Backdate)
	want := []Expiry{
		{"ca", from, now.Add(AuthorityLife)}, {"client", from, now.Add(LeafLife)}, {"other", from, now.Add(AuthorityLife)}, {"server", from, now.Add(LeafLife)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What was signed while the clock was wrong by years is good when it is right.
func TestSignedWithAWrongClock(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ensure(t, d, plan(), now)
	ensure(t, d, plan(), time.Unix(3600, 0))
	check(t, d, time.Unix(3600, 0))
	check(t, d, now)
	ensure(t, d, plan(), now.Add(time.Minute))
	check(t, d, now.Add(time.Minute))
	for name, life := range map[string]time.Duration{"ca": AuthorityLife, "server": LeafLife} {
		c, err := d.read(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.NotAfter.Sub(now); got < life || got > life+time.Hour {
			t.Errorf("%s is good for %s after the clock was set right, want %s", name, got, life)
		}
	}
}

// check verifies the leaves with their authorities and keys at a time.
func check(t *testing.T, d Dir, at time.Time) {
	t.Helper()
	for leaf, authority := range map[string]string{"server": "ca", "client": "other"} {
		ca, err := d.read(authority)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(ca)
		c, err := d.read(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s at %s: %v", leaf, at, err)
		}
		if !d.holdsKey(leaf, c) {
			t.Errorf("%s: the key is another certificate's", leaf)
		}
	}
}

// Whatever file a power cut has torn on a disk that lies about its writes: the
// next start makes it anew or says what to do, and never puts another key in the
// place of one that signed something.
func TestTornFiles(t *testing.T) {
	t.Parallel()
	orig := Dir(t.TempDir())
	ensure(t, orig, plan(), now)
	files, err := os.ReadDir(string(orig))
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	irreplaceable := map[string]bool{"ca.key": true, "other.key": true, "sa.key": true}
	for _, f := range files {
		for _, size := range []int64{0, 60} {
			d := Dir(t.TempDir())
			for _, o := range files {
				copyFile(t, filepath.Join(string(orig), o.Name()), filepath.Join(string(d), o.Name()))
			}
			torn := filepath.Join(string(d), f.Name())
			if err := os.Truncate(torn, size); err != nil {
				t.Fatal(err)
			}
			_, err := d.Ensure(plan(), now)
			if irreplaceable[f.Name()] {
				if err == nil || !strings.Contains(err.Error(), "from a backup") || !strings.Contains(err.Error(), torn) {
					t.Errorf("%s cut to %d bytes: got %v, want to be told to restore it", f.Name(), size, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s cut to %d bytes: %v", f.Name(), size, err)
				continue
			}
			check(t, d, now)
			for key := range irreplaceable {
				was, err1 := os.ReadFile(filepath.Join(string(orig), key))
				is, err2 := os.ReadFile(filepath.Join(string(d), key))
				if err1 != nil || err2 != nil || string(was) != string(is) {
					t.Errorf("%s cut to %d bytes: %s is another one", f.Name(), size, key)
				}
			}
		}
	}
}

// The rest of a write that was cut short is not taken for anything.
func TestLeftOverTemporaryFile(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ensure(t, d, plan(), now)
	write(t, filepath.Join(string(d), ".server.crt.123"), "half")
	if again := ensure(t, d, plan(), now); len(again) != 0 {
		t.Errorf("made again: %v", again)
	}
	if _, err := d.List(); err != nil {
		t.Error(err)
	}
	files, _ := os.ReadDir(string(d))
	if len(files) != 10 {
		t.Errorf("%d files, want 10 and no left-over", len(files))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
