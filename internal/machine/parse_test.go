// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// checkArgs reads a command line as QEMU does and fails if anything is in it that
// this package has no business to write. It knows nothing of how Args is made.
func checkArgs(argv []string) error {
	for i := 0; i < len(argv); i++ {
		option := argv[i]
		switch option {
		case "-no-user-config", "-nodefaults", "-S":
			continue
		}
		i++
		if i == len(argv) {
			return fmt.Errorf("%s has no argument", option)
		}
		if err := checkOption(option, argv[i]); err != nil {
			return fmt.Errorf("%s %s: %w", option, argv[i], err)
		}
	}
	return nil
}

// keysOf are the keys that the options in key=value syntax may have; a bare first
// word is allowed where there is an empty one.
var keysOf = map[string]string{
	"-name":    "guest debug-threads",
	"-msg":     "timestamp",
	"-trace":   "enable",
	"-machine": " memory-backend aux-ram-share dump-guest-core mem-merge vmport smm hpet pit acpi graphics pflash0 pflash1",
	"-accel":   " thread tb-size",
	"-smp":     " maxcpus sockets cores threads",
	"-m":       "size slots maxmem",
	"-rtc":     "base clock driftfix",
	"-global":  "ICH9-LPC.disable_s3 ICH9-LPC.disable_s4 kvm-pit.lost_tick_policy",
	"-action":  "panic reboot shutdown watchdog",
	"-boot":    "strict",
	"-smbios":  "type manufacturer product uuid serial family version asset sku",
	"-chardev": " id path server wait logfile logappend",
	"-mon":     "chardev mode",
	"-vnc":     " share",
}

// driversOf are the drivers that each option in JSON syntax may name, and keysIn
// the keys beside them.
var driversOf = map[string]string{
	"-object":   "memory-backend-memfd rng-builtin monitor-qmp",
	"-blockdev": "file host_device raw qcow2",
	"-netdev":   "tap",
	"-device": "pcie-root-port VGA cirrus-vga virtio-vga ramfb bochs-display isa-serial virtio-serial-pci virtserialport " +
		"virtio-balloon-pci virtio-mem-pci virtio-rng-pci pvpanic pvpanic-pci i6300esb qemu-xhci virtio-scsi-pci ich9-ahci usb-tablet " +
		"virtio-tablet-pci virtio-blk-pci scsi-hd scsi-cd usb-bot ide-hd ide-cd virtio-net-pci e1000 e1000e igb ne2k_pci pcnet rtl8139",
}

var keysIn = map[string]string{
	"-object":   "qom-type id size share reserve chardev",
	"-blockdev": "driver node-name filename read-only cache aio discard file detect-zeroes",
	"-netdev":   "type id fd vhost",
	"-device": "driver id bus addr chassis port io-reserve multifunction chardev index disable-legacy max_ports nr name " +
		"deflate-on-oom free-page-reporting memdev requested-size rng p2 p3 num_queues num-queues channel scsi-id lun drive serial bootindex " +
		"logical_block_size physical_block_size discard_granularity write-cache werror rerror netdev mac host_mtu romfile acpi-index",
}

var (
	idForm    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)
	claimForm = regexp.MustCompile(`^/proc/self/fd/[3-9][0-9][0-9]$`)
	cpuForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(,[A-Za-z0-9][A-Za-z0-9._-]*=[A-Za-z0-9 ._:-]+)*$`)
)

func checkOption(option, value string) error {
	if keys, ok := keysOf[option]; ok {
		return checkKeyvals(strings.Split(keys, " "), value)
	}
	if drivers, ok := driversOf[option]; ok {
		return checkObject(option, strings.Fields(drivers), strings.Fields(keysIn[option]), value)
	}
	switch option {
	case "-uuid":
		if !uuidForm.MatchString(value) {
			return fmt.Errorf("not a UUID")
		}
	case "-cpu":
		if !cpuForm.MatchString(value) {
			return fmt.Errorf("unexpected form")
		}
	case "-display":
		if value != "none" {
			return fmt.Errorf("unexpected display")
		}
	case "-kernel", "-initrd":
		if path.Clean(value) != value || !strings.HasPrefix(value, contract.KernelBootDir+"/") || strings.Contains(value, ",") {
			return fmt.Errorf("not in the kernel's image")
		}
	case "-D":
		if value != contract.TerminationLog {
			return fmt.Errorf("not the termination message")
		}
	case "-append": // QEMU takes it as it is
	default:
		return fmt.Errorf("unexpected option")
	}
	return nil
}

func checkKeyvals(keys []string, value string) error {
	// A doubled comma stands for one in a value.
	const comma = "\x00"
	if strings.Contains(value, comma) {
		return fmt.Errorf("has a NUL byte")
	}
	for i, word := range strings.Split(strings.ReplaceAll(value, ",,", comma), ",") {
		key, _, pair := strings.Cut(word, "=")
		if !pair {
			if i > 0 || keys[0] != "" {
				return fmt.Errorf("unexpected word %q", word)
			}
			continue
		}
		if !slices.Contains(keys, key) || key == "" {
			return fmt.Errorf("unexpected key %q", key)
		}
	}
	return nil
}

func checkObject(option string, drivers, keys []string, value string) error {
	var object map[string]any
	if err := json.Unmarshal([]byte(value), &object); err != nil {
		return err
	}
	driver := object["driver"]
	switch option {
	case "-object":
		driver = object["qom-type"]
	case "-netdev":
		driver = object["type"]
	}
	if s, ok := driver.(string); !ok || !slices.Contains(drivers, s) {
		return fmt.Errorf("unexpected driver %v", driver)
	}
	for key, v := range object {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("unexpected key %q", key)
		}
		s, ok := v.(string)
		if !ok {
			continue
		}
		switch key {
		case "id", "node-name", "drive", "file", "netdev":
			if !idForm.MatchString(s) || strings.HasSuffix(key, "node-name") && len(s) > 31 {
				return fmt.Errorf("%s %q is none that QEMU takes", key, s)
			}
		case "filename":
			dir := path.Dir(s)
			if path.Clean(s) != s || dir != contract.DiskDir && dir != contract.MachineDir && s != contract.OVMFCode && !claimForm.MatchString(s) {
				return fmt.Errorf("file %q is in no directory of disks", s)
			}
		}
	}
	return nil
}

// checkContract checks what the launcher is told.
func checkContract(c contract.Machine) error {
	if len(c.Argv) == 0 || c.Argv[0] != contract.QEMU {
		return fmt.Errorf("argv begins with %q", c.Argv)
	}
	for _, d := range c.Disks {
		if path.Dir(d.Path) != contract.DiskDir || path.Clean(d.Path) != d.Path {
			return fmt.Errorf("disk %q is not in %s", d.Path, contract.DiskDir)
		}
		if b := d.Backing; b != nil && strings.Contains("/"+b.Path+"/", "/../") {
			return fmt.Errorf("backing file %q", b.Path)
		}
	}
	for _, f := range c.Files {
		if f.Dir != contract.KernelBootDir || strings.Contains("/"+f.Path+"/", "/../") || strings.HasPrefix(f.Path, "/") {
			return fmt.Errorf("file %+v", f)
		}
	}
	for i, k := range c.Claims {
		if k.FD != contract.FirstClaimFD+i || k.Volume == "" || strings.Contains(k.Volume, "/") || k.Size < 0 || c.Version < contract.ClaimsSince {
			return fmt.Errorf("claim %+v", k)
		}
	}
	for _, t := range c.Taps {
		if t.FD < contract.FirstTapFD || t.Name == "" {
			return fmt.Errorf("tap %+v", t)
		}
	}
	return checkArgs(c.Argv[1:])
}
