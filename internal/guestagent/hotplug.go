// SPDX-License-Identifier: Apache-2.0

package guestagent

import (
	"context"
	"errors"
	"fmt"
)

// Limits of what is believed of a guest.
const (
	maxVCPUs  = 4096
	maxBlocks = 1 << 16
)

// VCPU is a virtual CPU as the guest sees it.
type VCPU struct {
	ID         int64 `json:"logical-id"`
	Online     bool  `json:"online"`
	CanOffline bool  `json:"can-offline"`
}

// VCPUs asks guest-get-vcpus.
func (c *Client) VCPUs(ctx context.Context) ([]VCPU, error) {
	var l []VCPU
	if err := c.call(ctx, "guest-get-vcpus", nil, &l); err != nil {
		return nil, err
	}
	if len(l) > maxVCPUs {
		return nil, fmt.Errorf("guest agent: guest-get-vcpus: %w: %d vCPUs", ErrTooLarge, len(l))
	}
	return l, nil
}

// OnlineVCPUs takes the vCPUs online that are not, and tells how many of all are
// afterwards. A guest that lacks the command is an *Error.
func (c *Client) OnlineVCPUs(ctx context.Context) (online int, err error) {
	l, err := c.VCPUs(ctx)
	if err != nil {
		return 0, err
	}
	var off []VCPU
	for _, v := range l {
		if v.Online {
			online++
			continue
		}
		v.Online = true
		off = append(off, v)
	}
	if len(off) == 0 {
		return online, nil
	}
	var done int
	if err := c.call(ctx, "guest-set-vcpus", map[string]any{"vcpus": off}, &done); err != nil {
		return online, err
	}
	if done < 0 || done > len(off) {
		return online, fmt.Errorf("guest agent: guest-set-vcpus: changed %d of %d vCPUs", done, len(off))
	}
	return online + done, nil
}

// MemoryBlock is a block of memory that the guest can take online and offline.
type MemoryBlock struct {
	Index      int64 `json:"phys-index"`
	Online     bool  `json:"online"`
	CanOffline bool  `json:"can-offline"`
}

// Blocks are a guest's memory blocks.
type Blocks struct {
	Size            int64 // of each, in bytes
	Online, Offline int
}

// OnlineMemory takes the memory blocks online that are not, and tells what is
// afterwards. A guest that lacks the commands is an *Error.
func (c *Client) OnlineMemory(ctx context.Context) (Blocks, error) {
	var info struct {
		Size int64 `json:"size"`
	}
	if err := c.call(ctx, "guest-get-memory-block-info", nil, &info); err != nil {
		return Blocks{}, err
	}
	var l []MemoryBlock
	if err := c.call(ctx, "guest-get-memory-blocks", nil, &l); err != nil {
		return Blocks{}, err
	}
	if info.Size <= 0 || info.Size > 1<<40 || len(l) > maxBlocks {
		return Blocks{}, fmt.Errorf("guest agent: guest-get-memory-blocks: %w: %d blocks of %d bytes", ErrTooLarge, len(l), info.Size)
	}
	b := Blocks{Size: info.Size}
	var off []MemoryBlock
	for _, m := range l {
		if m.Online {
			b.Online++
			continue
		}
		m.Online = true
		off = append(off, m)
	}
	b.Offline = len(off)
	if len(off) == 0 {
		return b, nil
	}
	var results []struct {
		Response string `json:"response"`
	}
	if err := c.call(ctx, "guest-set-memory-blocks", map[string]any{"mem-blks": off}, &results); err != nil {
		return b, err
	}
	if len(results) > len(off) {
		return b, errors.New("guest agent: guest-set-memory-blocks: more results than blocks")
	}
	for _, r := range results {
		if r.Response == "success" {
			b.Online++
			b.Offline--
		}
	}
	return b, nil
}
