// SPDX-License-Identifier: Apache-2.0

// Package pki keeps the certificates and keys of one embedded cluster in one
// directory: the authorities, the leaf certificates and the service account
// key. It makes what is missing and renews what comes near its end; all
// certificates are ECDSA P-256.
//
// It must never replace the key of an authority that exists: every certificate
// and every copy of the kubeconfig in the world would be void.
package pki
