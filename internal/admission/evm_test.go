// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

const storedEVM = `{
	"apiVersion": "mececs.io/v1beta1", "kind": "EnhancedVirtualMachine", "metadata": {"name": "a", "namespace": "default"},
	"spec": {
		"template": {"spec": {"running": true, "liveUpdateFeatures": {"cpu": {"maxSockets": 8}},
			"template": {"spec": {"domain": {"cpu": {"sockets": 2}, "memory": {"guest": "1Gi"}, "devices": {}}}}}},
		"source": {"registryImageURL": "kubevirt/fedora36:latest"},
		"bootVolume": {"resources": {"requests": {"storage": "10Gi"}}}
	},
	"status": {}
}`

// TestEVM makes and changes EnhancedVirtualMachines. What is refused is refused by
// the field's path.
func TestEVM(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for _, tc := range []struct {
		name    string
		change  func(spec, meta m)
		update  bool   // rather than to create it so
		refused string // part of the message, "" for accepted
	}{
		{"as it is", func(m, m) {}, false, ""},
		{"from a claim", func(s, _ m) { s["source"] = m{"persistentVolumeClaim": m{"name": "golden"}} }, false, ""},
		{"from a snapshot", func(s, _ m) { s["source"] = m{"volumeSnapshot": m{"name": "golden"}} }, false, ""},
		{"everything of the boot volume", func(s, _ m) {
			s["bootVolume"] = m{"claimName": "disk", "retain": "Delete", "volumeMode": "Block", "accessModes": []any{"ReadWriteMany"}, "resources": m{"requests": m{"storage": "1Gi"}}}
			s["storageClassName"] = "fast"
		}, false, ""},
		{"scheme before the reference", func(s, _ m) { s["source"] = m{"registryImageURL": "docker://registry.example/fedora:42"} }, false, ""},
		{"no source", func(s, _ m) { s["source"] = m{} }, false, "spec.source: has no source; use registryImageURL"},
		{"source missing", func(s, _ m) { delete(s, "source") }, false, "spec.source"},
		{"two sources", func(s, _ m) { s["source"].(m)["volumeSnapshot"] = m{"name": "x"} }, false, `spec.source: "registryImageURL, volumeSnapshot" are 2 sources; give exactly one`},
		{"glance by id", func(s, _ m) { s["source"] = m{"glanceImageID": "x"} }, false, "spec.source.glanceImageID: is not supported by this version; use registryImageURL"},
		{"glance by name", func(s, _ m) { s["source"] = m{"glanceImageName": "x"} }, false, "spec.source.glanceImageName: is not supported"},
		{"http", func(s, _ m) { s["source"] = m{"httpURL": "http://x/y.img"} }, false, "spec.source.httpURL: is not supported"},
		{"a web address as reference", func(s, _ m) { s["source"] = m{"registryImageURL": "https://registry.example/x"} }, false, "spec.source.registryImageURL: "},
		{"a reference with a space", func(s, _ m) { s["source"] = m{"registryImageURL": "a b"} }, false, `spec.source.registryImageURL: "a b" is not an image reference`},
		{"claim without a name", func(s, _ m) { s["source"] = m{"persistentVolumeClaim": m{}} }, false, "spec.source.persistentVolumeClaim.name"},
		{"snapshot's name", func(s, _ m) { s["source"] = m{"volumeSnapshot": m{"name": "A_B"}} }, false, `spec.source.volumeSnapshot.name: "A_B" is not a name`},
		{"no size", func(s, _ m) { s["bootVolume"] = m{} }, false, "spec.bootVolume.resources.requests[storage]: is missing; say how large the boot disk is"},
		{"size of nothing", func(s, _ m) { s["bootVolume"] = m{"resources": m{"requests": m{"storage": "0"}}} }, false, `spec.bootVolume.resources.requests[storage]: "0" is no size`},
		{"retain", func(s, _ m) { s["bootVolume"].(m)["retain"] = "Forever" }, false, `spec.bootVolume.retain: "Forever" is not accepted; use Retain or Delete`},
		{"volume mode", func(s, _ m) { s["bootVolume"].(m)["volumeMode"] = "File" }, false, `spec.bootVolume.volumeMode: "File" is not accepted; use Block or Filesystem`},
		{"access mode", func(s, _ m) { s["bootVolume"].(m)["accessModes"] = []any{"ReadOnlyMany"} }, false, `spec.bootVolume.accessModes[0]: "ReadOnlyMany" is not accepted`},
		{"access mode twice", func(s, _ m) { s["bootVolume"].(m)["accessModes"] = []any{"ReadWriteOnce", "ReadWriteOnce"} }, false, `spec.bootVolume.accessModes[1]: "ReadWriteOnce" is already used`},
		{"limits", func(s, _ m) { s["bootVolume"].(m)["resources"].(m)["limits"] = m{"storage": "1Gi"} }, false, "spec.bootVolume.resources.limits: is not supported"},
		{"claim's name", func(s, _ m) { s["bootVolume"].(m)["claimName"] = "A" }, false, `spec.bootVolume.claimName: "A" is not a name`},
		{"empty class", func(s, _ m) { s["storageClassName"] = "" }, false, `spec.storageClassName: "" is no storage class`},
		{"long name", func(_, meta m) { meta["name"] = strings.Repeat("a", 64) }, false, "metadata.name: "},
		{"template without memory", func(s, _ m) { domain(s)["memory"] = m{} }, false, "spec.template.spec.template.spec.domain.memory.guest: "},
		{"template without a run strategy", func(s, _ m) { delete(s["template"].(m)["spec"].(m), "running") }, false, "spec.template.spec.runStrategy: is missing"},
		{"template's label", func(s, _ m) {
			s["template"].(m)["metadata"] = m{"labels": m{"kubevirt.io/nodeName": "x"}}
		}, false, "spec.template.metadata.labels[kubevirt.io/nodeName]: "},
		{"too small a limit of sockets", func(s, _ m) {
			s["template"].(m)["spec"].(m)["liveUpdateFeatures"] = m{"cpu": m{"maxSockets": 1}}
		}, false, "spec.template.spec.liveUpdateFeatures.cpu.maxSockets: 1 is less than"},
		{"template's device", func(s, _ m) { domain(s)["devices"] = m{"gpus": []any{m{"name": "a", "deviceName": "b"}}} }, false, "spec.template.spec.template.spec.domain.devices.gpus"},

		{"changed source", func(s, _ m) { s["source"] = m{"registryImageURL": "other:latest"} }, true, "spec.source: cannot change"},
		{"changed class", func(s, _ m) { s["storageClassName"] = "fast" }, true, "spec.storageClassName: cannot change"},
		{"changed claim", func(s, _ m) { s["bootVolume"].(m)["claimName"] = "other" }, true, "spec.bootVolume.claimName: cannot change"},
		{"changed mode", func(s, _ m) { s["bootVolume"].(m)["volumeMode"] = "Block" }, true, "spec.bootVolume.volumeMode: cannot change"},
		{"shrunk", func(s, _ m) { s["bootVolume"] = m{"resources": m{"requests": m{"storage": "9Gi"}}} }, true, `spec.bootVolume.resources.requests[storage]: "9Gi" is less than 10Gi`},
		{"grown", func(s, _ m) { s["bootVolume"] = m{"resources": m{"requests": m{"storage": "11Gi"}}} }, true, ""},
		{"kept for good", func(s, _ m) { s["bootVolume"].(m)["retain"] = "Delete" }, true, ""},
		{"changed template", func(s, _ m) { domain(s)["cpu"] = m{"sockets": 4} }, true, ""},
		{"broken template", func(s, _ m) { domain(s)["cpu"] = m{"sockets": -4} }, true, "spec.template.spec.template.spec.domain.cpu.sockets"},
		{"labelled", func(_, meta m) { meta["labels"] = m{"a": "b"} }, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old, obj := decoded(t, storedEVM), decoded(t, storedEVM)
			tc.change(obj["spec"].(m), obj["metadata"].(m))
			obj = decoded(t, string(mustJSON(t, obj)))
			op := admissionv1.Create
			if tc.update {
				op = admissionv1.Update
			} else {
				old = nil
			}
			_, _, err := newAPIServer(someone).admit(t, "EnhancedVirtualMachine", op, obj, old)
			switch {
			case tc.refused == "" && err != nil:
				t.Error(err)
			case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("got %v, want a refusal with %q", err, tc.refused)
			}
		})
	}
}

// domain is the machine's in an EnhancedVirtualMachine's spec.
func domain(spec map[string]any) map[string]any {
	return domainOf(spec["template"].(map[string]any)["spec"].(map[string]any))
}
