// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPatchBIOS(t *testing.T) {
	t.Parallel()
	mbr := bytes.Repeat([]byte{0xaa}, sector)
	boot := bytes.Repeat([]byte{0x11}, sector)
	core := bytes.Repeat([]byte{0x22}, 3*sector-100)
	patched, err := patchBIOS(mbr, boot, core, 34, 2014)
	if err != nil {
		t.Fatal(err)
	}
	if mbr[0] != 0x11 || mbr[codeEnd-1] != 0x11 || mbr[codeEnd] != 0xaa || mbr[sector-1] != 0xaa {
		t.Error("the boot code is not where it belongs, or the partition table is gone")
	}
	if got := binary.LittleEndian.Uint64(mbr[kernelSector:]); got != 34 {
		t.Errorf("the boot sector reads sector %d, want 34", got)
	}
	if len(patched) != 3*sector {
		t.Errorf("core of %d bytes, want whole sectors", len(patched))
	}
	if start, n, segment := binary.LittleEndian.Uint64(patched[firstList:]), binary.LittleEndian.Uint16(patched[firstList+8:]), binary.LittleEndian.Uint16(patched[firstList+10:]); start != 35 || n != 2 || segment != 0x820 {
		t.Errorf("the core reads %d sectors from %d to segment %#x", n, start, segment)
	}
	for name, core := range map[string][]byte{"empty": nil, "one sector": make([]byte, sector), "too large": make([]byte, 2015*sector)} {
		if _, err := patchBIOS(mbr, boot, core, 34, 2014); err == nil {
			t.Errorf("%s core was accepted", name)
		}
	}
	if _, err := patchBIOS(mbr[:10], boot, core, 34, 2014); err == nil {
		t.Error("a short boot sector was accepted")
	}
}

func TestCopySparse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := append(append(make([]byte, 1<<20), "data"...), make([]byte, 1<<20)...)
	source := filepath.Join(dir, "source")
	if err := os.WriteFile(source, content, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "disk")
	if err := sized(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := copySparse(f, 1<<20, source); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(content))
	if _, err := f.ReadAt(got, 1<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Error("the copy differs")
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks*512 > 1<<18 {
		t.Errorf("%d bytes on disk for four of data", blocks*512)
	}
}

func TestDerivedUUIDs(t *testing.T) {
	t.Parallel()
	const uuid = "5ce44e00-0000-4000-8000-000000000100"
	if got := derived(uuid, 15); got != "5ce44e00-0000-4000-8000-00000000010f" {
		t.Error(got)
	}
	if err := Write(t.Context(), nil, Spec{UUID: "x"}, filepath.Join(t.TempDir(), "disk")); err == nil {
		t.Error("a bad UUID was accepted")
	}
}
