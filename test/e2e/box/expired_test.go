// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func pkiFile(name string) string { return filepath.Join(box.DataDir, "pki", name) }

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	return block.Bytes
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificates are those on the disk, by name.
func certificates(t *testing.T) map[string]*x509.Certificate {
	t.Helper()
	files, err := filepath.Glob(pkiFile("*.crt"))
	if err != nil || len(files) < 12 {
		t.Fatalf("certificates: %v, %d", err, len(files))
	}
	all := map[string]*x509.Certificate{}
	for _, f := range files {
		c, err := x509.ParseCertificate(readPEM(t, f))
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".crt")] = c
	}
	return all
}

// expire makes all certificates, the authorities' too, ones that ended a day ago,
// with the same names and keys.
func expire(t *testing.T) {
	t.Helper()
	all := certificates(t)
	for name, old := range all {
		authority := name
		if !old.IsCA {
			authority = "ca"
			if old.CheckSignatureFrom(all[authority]) != nil {
				authority = "front-proxy-ca"
			}
		}
		key, err := x509.ParsePKCS8PrivateKey(readPEM(t, pkiFile(authority+".key")))
		if err != nil {
			t.Fatal(err)
		}
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			t.Fatal(err)
		}
		ended := *old
		ended.SerialNumber, ended.NotBefore, ended.NotAfter = serial, time.Now().Add(-400*24*time.Hour), time.Now().Add(-24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &ended, all[authority], old.PublicKey, key.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, pkiFile(name+".crt"), "CERTIFICATE", der)
	}
}

// tear leaves the certificates as a power cut in the middle of their renewal does:
// one has its new key already, and of another half a file is there.
func tear(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, pkiFile("kubelet.key"), "PRIVATE KEY", der)
	if err := os.WriteFile(pkiFile(".skerry-node.key.123456"), []byte("-----BEGIN PRIV"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// renewed fails the test if a certificate is not good for most of a year.
func renewed(t *testing.T) {
	t.Helper()
	for name, c := range certificates(t) {
		if now := time.Now(); c.NotBefore.After(now) || c.NotAfter.Sub(now) < 300*24*time.Hour {
			t.Errorf("%s is good from %s to %s", name, c.NotBefore, c.NotAfter)
		}
	}
	if left, _ := filepath.Glob(pkiFile(".*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// All certificates ended while the box was off, and the power was cut once more
// while they were being renewed: the next start renews all, nobody has to do
// anything, and what was there goes on.
func TestRebootWithExpiredCertificates(t *testing.T) {
	fresh(t)
	secret := &corev1.Secret{ObjectMeta: meta("kept"), StringData: map[string]string{"word": "kept"}}
	create(t, secret, machine("default", "always", v1.RunStrategyAlways))
	before, _ := ready(t, "always", nil)

	reboot(t)
	expire(t)
	tear(t)
	// The box is off: status says what is wrong and what to do.
	if out, err := box.Skerry(t.Context(), "status"); err == nil || !strings.Contains(out, "`skerry up` renews it") {
		t.Errorf("status of the box that is off: %v\n%s", err, out)
	}
	t.Logf("up with expired certificates:\n%s", up(t))
	renewed(t)
	if err := box.Connect(); err != nil { // the administrator's file was written anew
		t.Fatal(err)
	}
	ready(t, "always", before)
	got := &corev1.Secret{}
	if err := box.Client.Get(t.Context(), client.ObjectKeyFromObject(secret), got); err != nil || string(got.Data["word"]) != "kept" {
		t.Errorf("the Secret is %q, %v", got.Data["word"], err)
	}
	waitFor(t, "the node to say that its certificates are good", func() (bool, string) {
		c, _ := nodeCondition(t, "SkerryCertificatesDue")
		return c.Status == corev1.ConditionFalse, string(c.Status) + " " + c.Message
	})
}
