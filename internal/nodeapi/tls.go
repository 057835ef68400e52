// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles are the PEM files of one end. They are read again when they change:
// new connections use the new ones, open ones stay.
type TLSFiles struct {
	CertFile, KeyFile string
	// CAFile has the certificates that the other end's certificate must be
	// signed by.
	CAFile string
}

// maxPEM bounds a certificate file.
const maxPEM = 1 << 20

// credentials are the parsed files.
type credentials struct {
	cert tls.Certificate
	ca   *x509.CertPool
}

// reloader reads TLSFiles when they have changed. A set that cannot be used
// (for example a new certificate whose key is not written yet) is reported and
// the last good one stays in use.
type reloader struct {
	files TLSFiles
	log   *slog.Logger

	mu     sync.Mutex
	stamps [3]stamp
	failed [3]stamp // the stamps for which a failure was reported already
	last   *credentials
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func newReloader(files TLSFiles, log *slog.Logger) (*reloader, error) {
	r := &reloader{files: files, log: log}
	if _, err := r.get(); err != nil {
		return nil, err
	}
	return r, nil
}

// get returns the newest usable credentials.
func (r *reloader) get() (*credentials, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamps, err := r.stat()
	if err == nil && r.last != nil && stamps == r.stamps {
		return r.last, nil
	}
	var fresh *credentials
	if err == nil {
		fresh, err = r.files.load()
	}
	if err == nil {
		r.last, r.stamps = fresh, stamps
		return fresh, nil
	}
	if r.last == nil {
		return nil, err
	}
	if stamps != r.failed {
		r.failed = stamps
		r.log.Warn("new TLS files cannot be used; the previous ones stay", "error", err)
	}
	return r.last, nil
}

func (r *reloader) stat() (stamps [3]stamp, err error) {
	for i, name := range []string{r.files.CertFile, r.files.KeyFile, r.files.CAFile} {
		info, statErr := os.Stat(name)
		if statErr != nil {
			err = errors.Join(err, statErr)
			continue
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, err
}

func (f TLSFiles) load() (*credentials, error) {
	certPEM, err := readPEM(f.CertFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readPEM(f.KeyFile)
	if err != nil {
		return nil, err
	}
	caPEM, err := readPEM(f.CAFile)
	if err != nil {
		return nil, err
	}
	c := &credentials{ca: x509.NewCertPool()}
	if c.cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return nil, fmt.Errorf("key pair %s, %s: %w", f.CertFile, f.KeyFile, err)
	}
	if !c.ca.AppendCertsFromPEM(caPEM) {
		return nil, fmt.Errorf("%s holds no PEM certificate", f.CAFile)
	}
	return c, nil
}

func readPEM(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return b, nil
}

// serverConfig accepts the controller alone. Session tickets are off, so that
// every connection is checked against the current CA.
func (r *reloader) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := r.get()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				NextProtos:             []string{"http/1.1"},
				Certificates:           []tls.Certificate{c.cert},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              c.ca,
				SessionTicketsDisabled: true,
				VerifyConnection:       verifyController,
			}, nil
		},
	}
}

func verifyController(s tls.ConnectionState) error {
	if len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
		return errors.New("no verified client certificate")
	}
	if cn := s.PeerCertificates[0].Subject.CommonName; cn != ControllerName {
		return fmt.Errorf("client certificate is for %.80q, only %q may connect", cn, ControllerName)
	}
	return nil
}

// clientConfig accepts the agent of node alone.
func (r *reloader) clientConfig(node string) (*tls.Config, error) {
	c, err := r.get()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"},
		Certificates: []tls.Certificate{c.cert},
		RootCAs:      c.ca,
		ServerName:   ServerName(node),
	}, nil
}
