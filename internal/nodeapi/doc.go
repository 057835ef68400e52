// SPDX-License-Identifier: Apache-2.0

// Package nodeapi is the API that a node agent offers to the controller: power
// verbs and byte streams (serial console, VNC) of the machines on its node.
// It holds both ends: [Server] runs in the agent and hands requests to a
// [Backend]; [Client] runs in the controller, which has authorised the user.
//
// Both ends prove who they are with certificates of one CA: the agent answers
// to the DNS name <node>.skerry-node and accepts only a client whose common
// name is skerry-controller.
//
// The protocol is HTTP/1.1:
//
//	PUT /v1/vmis/{namespace}/{name}/{uid}/{pause|unpause|softreboot|reset|renew}
//	GET /v1/vmis/{namespace}/{name}/{uid}/vnc/screenshot[?moveCursor=true]
//	GET /v1/vmis/{namespace}/{name}/{uid}/{console|vnc}[?preserveSession=true]
//
// The last is answered with 101 to a request with "Upgrade: skerry-stream";
// from then on the connection carries the guest's bytes and nothing else.
// Errors are metav1.Status objects in JSON.
//
// It must never decide whether a user may do something, and never know what a
// console or a monitor is.
package nodeapi
