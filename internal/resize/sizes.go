// SPDX-License-Identifier: Apache-2.0

package resize

import (
	"encoding/json"
	"fmt"
	"math/big"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// SizesAnnotation is on the instance of a VirtualMachine and holds its Origin as
// JSON: what requests in proportion are worked out from.
const SizesAnnotation = "skerry.dev/sizes"

const (
	maxVCPUs  = 4096
	maxMemory = 16 << 40
)

// Sizes are those parts of a machine's template that can change while it runs.
type Sizes struct {
	// VCPUs and Memory (bytes) of the guest.
	VCPUs  int64 `json:"vcpus"`
	Memory int64 `json:"memory"`
	// Requests and Limits as the template has them.
	Requests corev1.ResourceList `json:"requests,omitempty"`
	Limits   corev1.ResourceList `json:"limits,omitempty"`
}

// Origin is what an instance's sizes come from.
type Origin struct {
	// Boot is what the machine was started with.
	Boot Sizes `json:"boot"`
	// Base is when the template's requests and limits were last written: they are
	// meant for a guest of that size, and follow it in proportion from there.
	Base Sizes `json:"base"`
	// Live is what the template had when it was last carried over to the running
	// instance; nil when it never was.
	Live *Sizes `json:"live,omitempty"`
}

// NewOrigin is the origin of an instance that is about to start.
func NewOrigin(s Sizes) Origin { return Origin{Boot: s, Base: s} }

// ParseOrigin reads the annotation. Without one, as on an instance that no
// VirtualMachine made or that an older version did, ok is false.
func ParseOrigin(vmi *v1.VirtualMachineInstance) (o Origin, ok bool, err error) {
	text, ok := vmi.Annotations[SizesAnnotation]
	if !ok {
		return Origin{}, false, nil
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return Origin{}, false, fmt.Errorf("metadata.annotations[%s]: %w", SizesAnnotation, err)
	}
	// Whoever may write the instance may write this too.
	for _, s := range []*Sizes{&o.Boot, &o.Base, o.Live} {
		if s != nil && (s.VCPUs < 1 || s.VCPUs > maxVCPUs || s.Memory < 1 || s.Memory > maxMemory) {
			return Origin{}, false, fmt.Errorf("metadata.annotations[%s]: vcpus must be from 1 to %d and memory from 1 to %d", SizesAnnotation, maxVCPUs, int64(maxMemory))
		}
	}
	return o, true, nil
}

// String is the annotation's text.
func (o Origin) String() (string, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encode sizes: %w", err)
	}
	return string(b), nil
}

// Follow is the origin with the template as it is now: whoever writes requests or
// limits writes them for the guest's size of that moment.
func (o Origin) Follow(now Sizes) Origin {
	for _, r := range []struct {
		name corev1.ResourceName
		size *int64
		now  int64
	}{{corev1.ResourceCPU, &o.Base.VCPUs, now.VCPUs}, {corev1.ResourceMemory, &o.Base.Memory, now.Memory}} {
		if same(o.Base.Requests, now.Requests, r.name) && same(o.Base.Limits, now.Limits, r.name) {
			continue
		}
		*r.size = r.now
		o.Base.Requests = put(o.Base.Requests, now.Requests, r.name)
		o.Base.Limits = put(o.Base.Limits, now.Limits, r.name)
	}
	return o
}

func same(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	x, hasX := a[name]
	y, hasY := b[name]
	return hasX == hasY && x.Cmp(y) == 0
}

func put(into, from corev1.ResourceList, name corev1.ResourceName) corev1.ResourceList {
	out := into.DeepCopy()
	q, ok := from[name]
	if !ok {
		delete(out, name)
		return out
	}
	if out == nil {
		out = corev1.ResourceList{}
	}
	out[name] = q.DeepCopy()
	return out
}

// Resources are the requests and limits of a guest of that size: what the
// template says, in proportion to what it was written for. A guest of 8 GiB with a
// request of 2 GiB that grows to 9 asks for 2.25.
func (o Origin) Resources(vcpus, memory int64) v1.ResourceRequirements {
	out := v1.ResourceRequirements{Requests: o.Base.Requests.DeepCopy(), Limits: o.Base.Limits.DeepCopy()}
	// As admission does for a new instance.
	if limit, ok := out.Limits[corev1.ResourceCPU]; ok {
		if _, has := out.Requests[corev1.ResourceCPU]; !has {
			out.Requests = put(out.Requests, corev1.ResourceList{corev1.ResourceCPU: limit}, corev1.ResourceCPU)
		}
	}
	for _, l := range []corev1.ResourceList{out.Requests, out.Limits} {
		if q, ok := l[corev1.ResourceCPU]; ok {
			l[corev1.ResourceCPU] = Scale(q, CPU, vcpus, o.Base.VCPUs)
		}
		if q, ok := l[corev1.ResourceMemory]; ok {
			l[corev1.ResourceMemory] = Scale(q, Memory, memory, o.Base.Memory)
		}
	}
	return out
}

// Scale is q × to ÷ from, rounded up to a whole MiB or thousandth of a CPU.
func Scale(q resource.Quantity, r Resource, to, from int64) resource.Quantity {
	if to == from || from <= 0 {
		return q.DeepCopy()
	}
	n := q.Value()
	if r == CPU {
		n = q.MilliValue()
	}
	x := new(big.Int).Mul(big.NewInt(n), big.NewInt(to))
	x.Add(x, big.NewInt(from-1)).Div(x, big.NewInt(from))
	if !x.IsInt64() {
		return q.DeepCopy()
	}
	if r == CPU {
		return *resource.NewMilliQuantity(x.Int64(), q.Format)
	}
	return *resource.NewQuantity(roundUp(x.Int64(), mib), q.Format)
}

// Same tells whether two sizes are the same.
func (s Sizes) Same(t Sizes) bool { return equality.Semantic.DeepEqual(s, t) }
