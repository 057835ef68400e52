// SPDX-License-Identifier: Apache-2.0

// Package upgrade tests what an upgrade does to a box that is in use: a build of
// the previous contract's version, with another launcher image, brings up a node
// with guests on it, and the present build takes over. The guests must not notice,
// and what they run in must go on being managed although it is older.
//
// `make previous` makes that build, of the same tree by the tag contract1.
package upgrade
