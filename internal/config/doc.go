// SPDX-License-Identifier: Apache-2.0

// Package config reads the controller's configuration from the ConfigMap that
// operators keep for it: what EnhancedVirtualMachines are made from, and how.
//
// Parse is a pure function and reports every mistake at once. A Source keeps the
// last good configuration, so that a slip of the pen stops nothing.
package config
