// SPDX-License-Identifier: Apache-2.0

// Package guestagent asks the QEMU guest agent inside a guest a few questions
// over an open connection. The guest is hostile: every answer is bounded in time
// and size, cut to a fixed number of entries with short printable texts, and
// never more than a claim of the guest about itself.
//
// Beside that it has the guest take plugged vCPUs and memory into use, which some
// guests do not by themselves.
//
// It must never run commands or touch files in the guest, and must never decide
// anything by what the guest says.
//
// Source: QEMU's qga/qapi-schema.json.
package guestagent
