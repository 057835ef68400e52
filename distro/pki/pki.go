// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Lifetimes. A certificate is renewed when less than a third of its life is left.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	LeafLife      = 365 * 24 * time.Hour
	// Backdate is how far before its making a certificate begins to be valid: a
	// clock that ran ahead and is set right must not end it. Whoever could make
	// use of that has the authority's key.
	Backdate = 7 * 24 * time.Hour
)

// Authority is a certificate authority, stored as <Name>.crt and <Name>.key.
type Authority struct {
	Name       string
	CommonName string
}

// Leaf is a certificate that an authority signs, stored as <Name>.crt and <Name>.key.
type Leaf struct {
	Name         string
	Authority    string // Authority.Name
	CommonName   string
	Organization []string
	Server       bool // extended key usage serverAuth
	Client       bool // extended key usage clientAuth
	DNSNames     []string
	IPs          []net.IP
}

// Plan is everything that a directory holds.
type Plan struct {
	Authorities []Authority
	Leaves      []Leaf
	// SigningKey is the name of a bare key pair (<name>.key, <name>.pub), used
	// to sign service account tokens.
	SigningKey string
	// LeafLife is how long a leaf is valid from its making on. Zero means LeafLife,
	// the constant.
	LeafLife time.Duration
}

func (p Plan) leafLife() time.Duration {
	if p.LeafLife > 0 {
		return p.LeafLife
	}
	return LeafLife
}

// Dir is a directory of certificates.
type Dir string

// Cert is the path of the certificate called name.
func (d Dir) Cert(name string) string { return filepath.Join(string(d), name+".crt") }

// Key is the path of the private key called name.
func (d Dir) Key(name string) string { return filepath.Join(string(d), name+".key") }

// Pub is the path of the public key called name.
func (d Dir) Pub(name string) string { return filepath.Join(string(d), name+".pub") }

// Ensure makes or renews at now whatever plan asks for. It returns the names of
// what it wrote, in the plan's order. A leaf is signed anew when it is missing,
// unreadable, near its end, not its key's, or differs from the plan; its key is
// made anew too.
//
// It may be cut short anywhere, by a power cut too: each file is replaced in one
// step and is on the disk before the next is begun, and the next Ensure finishes
// the job.
func (d Dir) Ensure(plan Plan, now time.Time) (changed []string, err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("make certificate directory: %w", err)
	}
	if err := syncDir(filepath.Dir(string(d))); err != nil {
		return nil, err
	}
	if err := removeLeftOvers(string(d)); err != nil {
		return nil, err
	}
	signers := map[string]*signer{}
	for _, a := range plan.Authorities {
		s, wrote, err := d.ensureAuthority(a, now)
		if err != nil {
			return changed, fmt.Errorf("certificate authority %s: %w", a.Name, err)
		}
		signers[a.Name] = s
		if wrote {
			changed = append(changed, a.Name)
		}
	}
	for _, l := range plan.Leaves {
		s := signers[l.Authority]
		if s == nil {
			return changed, fmt.Errorf("certificate %s: no authority %q in the plan", l.Name, l.Authority)
		}
		cur, err := d.read(l.Name)
		if err == nil && Reason(cur, s.cert, l, now) == "" && d.holdsKey(l.Name, cur) {
			continue
		}
		if err := d.writeLeaf(l, s, plan.leafLife(), now); err != nil {
			return changed, fmt.Errorf("certificate %s: %w", l.Name, err)
		}
		changed = append(changed, l.Name)
	}
	if plan.SigningKey != "" {
		wrote, err := d.ensureSigningKey(plan.SigningKey)
		if err != nil {
			return changed, fmt.Errorf("service account key: %w", err)
		}
		if wrote {
			changed = append(changed, plan.SigningKey)
		}
	}
	return changed, nil
}

// Due says whether a certificate is to be renewed at now: less than a third of
// its life since it was made is left, or it is not valid yet (the clock was wrong
// when it was made, or is wrong now).
func Due(cert *x509.Certificate, now time.Time) bool {
	return Expiry{NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}.Due(now)
}

// holdsKey tells whether the key on the disk is cert's. It is not when the power
// was cut between the writes of the two.
func (d Dir) holdsKey(name string, cert *x509.Certificate) bool {
	key, err := readKey(d.Key(name))
	return err == nil && samePublic(key.Public(), cert.PublicKey)
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Reason says why cert, signed by authority, cannot stay as leaf l at now. It is
// empty when it can.
func Reason(cert, authority *x509.Certificate, l Leaf, now time.Time) string {
	switch {
	case Due(cert, now):
		return "expires " + cert.NotAfter.UTC().Format(time.RFC3339)
	case cert.CheckSignatureFrom(authority) != nil:
		return "signed by another authority"
	case cert.Subject.CommonName != l.CommonName || !sameSet(cert.Subject.Organization, l.Organization):
		return "subject differs"
	case !slices.Equal(cert.ExtKeyUsage, l.usages()):
		return "usage differs"
	case !sameSet(cert.DNSNames, l.DNSNames) || !sameSet(texts(cert.IPAddresses), texts(l.IPs)):
		return "names differ"
	}
	return ""
}

// Expiry is a certificate and when it is good.
type Expiry struct {
	Name                string
	NotBefore, NotAfter time.Time
}

// Due is Due of the certificate.
func (e Expiry) Due(now time.Time) bool {
	life := e.NotAfter.Sub(e.NotBefore)
	if life > Backdate {
		life -= Backdate
	}
	return now.Before(e.NotBefore) || e.NotAfter.Sub(now) < life/3
}

// List returns the certificates of the directory, by name.
func (d Dir) List() ([]Expiry, error) {
	files, err := filepath.Glob(filepath.Join(string(d), "*.crt"))
	if err != nil {
		return nil, err
	}
	var out []Expiry
	for _, f := range files {
		name := filepath.Base(f[:len(f)-len(".crt")])
		c, err := d.read(name)
		if err != nil {
			return out, err
		}
		out = append(out, Expiry{Name: name, NotBefore: c.NotBefore, NotAfter: c.NotAfter})
	}
	return out, nil
}

type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (d Dir) ensureAuthority(a Authority, now time.Time) (*signer, bool, error) {
	cert, certErr := d.read(a.Name)
	key, keyErr := readKey(d.Key(a.Name))
	switch {
	case certErr == nil && keyErr == nil && !samePublic(key.Public(), cert.PublicKey):
		return nil, false, fmt.Errorf("%s is not the certificate of the key %s: restore both from one backup, or remove the certificate if the key is the right one",
			d.Cert(a.Name), d.Key(a.Name))
	case certErr == nil && keyErr == nil && !Due(cert, now):
		return &signer{cert, key}, false, nil
	case keyErr == nil:
		// The certificate is lost or near its end: the same key signs it again,
		// so that all that was signed before stays good.
	case errors.Is(keyErr, fs.ErrNotExist) && errors.Is(certErr, fs.ErrNotExist):
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, false, err
		}
		if err := writeKey(d.Key(a.Name), k); err != nil {
			return nil, false, err
		}
		if err := failpoint.Hit(context.Background(), "pki.authority.after-write-key"); err != nil {
			return nil, false, err
		}
		key = k
	default:
		return nil, false, fmt.Errorf("its key cannot be read (restore it from a backup, or remove %s and %s to start a new cluster identity): %w",
			d.Cert(a.Name), d.Key(a.Name), keyErr)
	}
	// A clock that is behind the last certificate's making is most likely wrong:
	// the new one is good at both times.
	known := now
	if certErr == nil && made(cert).After(known) {
		known = made(cert)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, false, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: a.CommonName},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              known.Add(AuthorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, false, err
	}
	if err := writePEM(d.Cert(a.Name), 0o644, "CERTIFICATE", der); err != nil {
		return nil, false, err
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		return nil, false, err
	}
	return &signer{cert, key}, true, nil
}

func (l Leaf) usages() []x509.ExtKeyUsage {
	var u []x509.ExtKeyUsage
	if l.Server {
		u = append(u, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		u = append(u, x509.ExtKeyUsageClientAuth)
	}
	return u
}

// made is when a certificate was made by this package.
func made(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(Backdate) }

func (d Dir) writeLeaf(l Leaf, s *signer, life time.Duration, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	known := now
	if m := made(s.cert); m.After(known) {
		known = m
	}
	if old, err := d.read(l.Name); err == nil && made(old).After(known) && made(old).Before(s.cert.NotAfter) {
		known = made(old)
	}
	end := known.Add(life)
	if end.After(s.cert.NotAfter) {
		end = s.cert.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: l.CommonName, Organization: l.Organization},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.usages(),
		BasicConstraintsValid: true,
		DNSNames:              l.DNSNames,
		IPAddresses:           l.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, s.cert, key.Public(), s.key)
	if err != nil {
		return err
	}
	// Whoever reloads between the two writes sees a pair that does not match and
	// tries again: all readers here do.
	if err := writeKey(d.Key(l.Name), key); err != nil {
		return err
	}
	if err := failpoint.Hit(context.Background(), "pki.leaf.after-write-key"); err != nil {
		return err
	}
	return writePEM(d.Cert(l.Name), 0o644, "CERTIFICATE", der)
}

func (d Dir) ensureSigningKey(name string) (bool, error) {
	key, err := readKey(d.Key(name))
	switch {
	case err == nil:
		if pub, err := os.ReadFile(d.Pub(name)); err == nil && bytes.Equal(pub, publicPEM(key)) {
			return false, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("restore it from a backup, or remove it: a new one is made then, and every token that was signed with the old one is void: %w", err)
	default:
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return false, err
		}
		if err := writeKey(d.Key(name), k); err != nil {
			return false, err
		}
		if err := failpoint.Hit(context.Background(), "pki.signing-key.after-write-key"); err != nil {
			return false, err
		}
		key = k
	}
	return true, WriteFile(d.Pub(name), publicPEM(key), 0o644)
}

// publicPEM is the key's public half, nil if it has no encoding.
func publicPEM(key crypto.Signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (d Dir) read(name string) (*x509.Certificate, error) {
	b, err := os.ReadFile(d.Cert(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no PEM certificate", d.Cert(name))
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Cert(name), err)
	}
	return c, nil
}

func readKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no PEM private key", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a %T cannot sign", path, k)
	}
	return s, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, 0o600, "PRIVATE KEY", der)
}

func writePEM(path string, mode os.FileMode, kind string, der []byte) error {
	return WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// WriteFile replaces path in one step, so that a reader never meets half a file,
// and returns when the new one is on the disk, name and all: after a power cut
// there is the old file or the new one.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := failpoint.Hit(context.Background(), "pki.file.before-rename"); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// removeLeftOvers removes what WriteFile had not renamed when it was cut short.
func removeLeftOvers(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") && f.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncDir puts a directory's entries on the disk (fsync(2): a file's own fsync
// does not do that).
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write directory %s: %w", dir, err)
	}
	return nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func texts(ips []net.IP) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}
