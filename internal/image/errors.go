// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Kind is what went wrong, for those who decide by it.
type Kind string

// Kinds of errors. Only Unreachable can be expected to go away by itself; the
// others need somebody to change the image, the login or the request.
const (
	Unreachable Kind = "Unreachable"    // no answer, or one that asks to come again
	Untrusted   Kind = "Untrusted"      // the registry's certificate, or no TLS
	Auth        Kind = "Unauthorized"   // the login is refused or missing
	NotFound    Kind = "NotFound"       // no such repository, tag or digest
	Digest      Kind = "DigestMismatch" // the registry's content is not what its digest says
	Truncated   Kind = "Truncated"      // the registry's blob, or the disk in it, is cut short
	NotDisk     Kind = "NotADisk"       // there is no disk in the image, or one of no use
	TooLarge    Kind = "TooLarge"       // the disk does not fit
	OtherFile   Kind = "NeedsOtherFile" // the disk has a backing or data file
	BadName     Kind = "InvalidReference"
)

// Error is every error of this package that is about the image or its registry.
type Error struct {
	Kind Kind
	Ref  string // the image as it was asked for
	Text string // what is wrong and what to do about it
	Err  error  // the cause, may be nil
}

func (e *Error) Error() string {
	s := "image " + e.Ref + ": " + e.Text
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of an error of this package, "" for any other.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func fail(k Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: k, Err: cause, Text: fmt.Sprintf(format, args...)}
}

// named gives an error the reference that it lacks.
func named(ref string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		if e.Ref == "" {
			e.Ref = ref
		}
		return e
	}
	return err
}

// errPlain is what the transport says where a registry would have to be spoken to
// without TLS.
var errPlain = errors.New("it would be spoken to without TLS")

// classify says what a registry's refusal means. user is the login that was used,
// what the thing that was asked for.
func classify(err error, host, user, what string) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var t *transport.Error
	if errors.As(err, &t) {
		switch {
		case t.StatusCode == http.StatusUnauthorized || t.StatusCode == http.StatusForbidden:
			if user == "" {
				return fail(Auth, err, "registry %s gives %s to nobody without a login: name a pull secret for %s, or make the project public", host, what, host)
			}
			return fail(Auth, err, "registry %s refuses the login %q for %s: check user name, password and expiry, and that it may pull there", host, user, what)
		case t.StatusCode == http.StatusNotFound:
			return fail(NotFound, err, "registry %s has no %s: check the name and the tag, or push it", host, what)
		case t.StatusCode == http.StatusTooManyRequests || t.StatusCode >= 500:
			return fail(Unreachable, err, "registry %s does not serve %s now", host, what)
		}
		return fail(NotFound, err, "registry %s does not give %s", host, what)
	}
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var network *net.OpError
	switch {
	case strings.Contains(err.Error(), "does not match requested digest"):
		return fail(Digest, err, "registry %s answered with another content than %s: it is damaged there, push it again", host, what)
	case errors.As(err, &authority):
		return fail(Untrusted, err, "registry %s has a certificate of an authority that is not trusted: add the authority, or allow the registry as insecure", host)
	case errors.As(err, &hostname), errors.As(err, &invalid):
		return fail(Untrusted, err, "registry %s has a certificate that is not valid for it", host)
	case errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, errPlain) && !errors.As(err, &network):
		return fail(Untrusted, err, "registry %s does not speak TLS, and is not allowed as insecure", host)
	}
	return fail(Unreachable, err, "registry %s does not answer: check its address and that it runs", host)
}
