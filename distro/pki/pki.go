// SPDX-License-Identifier: Apache-2.0

package pki

import (
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
	"time"
)

// Lifetimes. A certificate is renewed when less than a third of its life is left.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	LeafLife      = 365 * 24 * time.Hour
	// backdate tolerates a clock that is set back a little after boot.
	backdate = time.Hour
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
// unreadable, near its end, or differs from the plan; its key is made anew too.
func (d Dir) Ensure(plan Plan, now time.Time) (changed []string, err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("make certificate directory: %w", err)
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
		if err == nil && Reason(cur, s.cert, l, now) == "" {
			continue
		}
		if err := d.writeLeaf(l, s, now); err != nil {
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
// its life is left, or it is not valid yet (the clock was wrong when it was made).
func Due(cert *x509.Certificate, now time.Time) bool {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return now.Before(cert.NotBefore) || cert.NotAfter.Sub(now) < life/3
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

// Expiry is a certificate and its end.
type Expiry struct {
	Name     string
	NotAfter time.Time
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
		out = append(out, Expiry{Name: name, NotAfter: c.NotAfter})
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
		key = k
	default:
		return nil, false, fmt.Errorf("its key cannot be read (restore it from a backup, or remove %s and %s to start a new cluster identity): %w",
			d.Cert(a.Name), d.Key(a.Name), keyErr)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, false, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: a.CommonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(AuthorityLife),
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

func (d Dir) writeLeaf(l Leaf, s *signer, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	end := now.Add(LeafLife)
	if end.After(s.cert.NotAfter) {
		end = s.cert.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: l.CommonName, Organization: l.Organization},
		NotBefore:             now.Add(-backdate),
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
	return writePEM(d.Cert(l.Name), 0o644, "CERTIFICATE", der)
}

func (d Dir) ensureSigningKey(name string) (bool, error) {
	key, err := readKey(d.Key(name))
	made := false
	if errors.Is(err, fs.ErrNotExist) {
		var k *ecdsa.PrivateKey
		if k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return false, err
		}
		if err = writeKey(d.Key(name), k); err != nil {
			return false, err
		}
		key, made = k, true
	}
	if err != nil {
		return false, err
	}
	if !made {
		if _, err := os.Stat(d.Pub(name)); err == nil {
			return false, nil
		}
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return false, err
	}
	return true, writePEM(d.Pub(name), 0o644, "PUBLIC KEY", der)
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

// WriteFile replaces path in one step, so that a reader (or a power cut) never
// meets half a file.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
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
