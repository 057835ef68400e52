// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
)

// Reasons in conditions and Events.
const (
	ReasonInvalidConfiguration = config.ReasonInvalid
	ReasonNoStorageClass       = "NoStorageClass"
	ReasonResolveFailed        = "ResolveFailed"
	ReasonImporting            = "Importing"
	ReasonImported             = "Imported"
	ReasonTooLarge             = "ImageTooLarge"
	ReasonBaseEnding           = "BaseVolumeEnding"
	ReasonWaiting              = "Waiting"
	ReasonCloning              = "Cloning"
	ReasonBound                = "Bound"
	ReasonClaimInUse           = "ClaimInUse"
	ReasonClaimExists          = "ClaimExists"
	ReasonClaimEnding          = "ClaimEnding"
	ReasonClaimLost            = "ClaimLost"
	ReasonFailedCreate         = "FailedCreate"
	ReasonNameTaken            = "NameTaken"
	ReasonNoMachine            = "NoVirtualMachine"
	ReasonTerminating          = "Terminating"

	EventReattached = "ReattachedBootVolume"
	EventReleased   = "ReleasedBootVolume"
	EventDeleted    = "DeletedBootVolume"
)

// Class is a storage class.
type Class struct {
	Name, Provisioner string
	// WaitForConsumer: volumes are made when a pod that uses them is scheduled.
	WaitForConsumer bool
}

// Input is what a decision is made from.
type Input struct {
	EVM       *mecs.EnhancedVirtualMachine
	Now       time.Time
	Config    config.Config
	ConfigErr error
	Claim     *corev1.PersistentVolumeClaim // of the boot volume's name, whoever's
	VM        *v1.VirtualMachine            // of the machine's name, whoever's

	// The rest is read while there is no bound claim.

	Class    *Class
	ClassErr error
	// Digest is what the image's reference means, or was found to mean.
	Digest    string
	DigestErr error
	// Base is the image's, read from the API server just now.
	Base *corev1.PersistentVolumeClaim
}

// Plan is what is to be done, in the order of the fields.
type Plan struct {
	// EVM is the machine as it should be. A finalizer that it lacks is written
	// first, its status after what is made and changed, the end of a finalizer last.
	EVM *mecs.EnhancedVirtualMachine
	// Create are objects to make; what is there already is as good.
	Create []client.Object
	// Delete are objects to delete, by their UID where it is known.
	Delete []client.Object
	// Claim and VM are existing ones as they should be, nil for as they are.
	Claim  *corev1.PersistentVolumeClaim
	VM     *v1.VirtualMachine
	Events []Event
	// After asks for another pass then, 0 for none.
	After time.Duration
}

// Event is an Event about the machine.
type Event struct{ Type, Reason, Note string }

// Next decides what to do for a machine. It never changes its input.
func Next(in Input) Plan {
	d := &decision{in: in, evm: in.EVM.DeepCopy()}
	d.st = &d.evm.Status
	d.plan.EVM = d.evm
	if in.EVM.DeletionTimestamp != nil {
		d.deleting()
		return d.plan
	}
	if !slices.Contains(d.evm.Finalizers, Finalizer) {
		d.evm.Finalizers = append(d.evm.Finalizers, Finalizer)
		return d.plan // and nothing that it would have to undo before it is there
	}
	d.st.ObservedGeneration = d.evm.Generation
	d.st.BootVolume = claimName(d.evm)
	d.st.Phase = mecs.PhasePending
	if d.bootVolume() {
		d.machine()
	}
	d.report()
	return d.plan
}

type decision struct {
	in   Input
	evm  *mecs.EnhancedVirtualMachine // becomes plan.EVM
	st   *mecs.EnhancedVirtualMachineStatus
	plan Plan
}

// set writes a condition.
func (d *decision) set(t string, ok bool, reason, format string, args ...any) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	text := fmt.Sprintf(format, args...)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	meta.SetStatusCondition(&d.st.Conditions, metav1.Condition{
		Type: t, Status: status, Reason: reason, Message: text, ObservedGeneration: d.evm.Generation,
		LastTransitionTime: metav1.NewTime(d.in.Now.Truncate(time.Second)),
	})
}

// wait asks for another look at what nothing tells us of: the longer it has been in
// the way, the later.
func (d *decision) wait(condition string) {
	const least, most = 2 * time.Second, time.Minute
	after := least
	if c := meta.FindStatusCondition(d.st.Conditions, condition); c != nil && c.Status != metav1.ConditionTrue {
		after = min(max(d.in.Now.Sub(c.LastTransitionTime.Time)/2, least), most)
	}
	d.again(after)
}

func (d *decision) again(after time.Duration) {
	if d.plan.After == 0 || after < d.plan.After {
		d.plan.After = after
	}
}

func (d *decision) event(reason, format string, args ...any) {
	d.plan.Events = append(d.plan.Events, Event{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)})
}

// owned tells whether the claim is this machine's.
func (d *decision) owned() bool {
	return d.in.Claim != nil && d.in.Claim.Annotations[OwnerAnnotation] == string(d.evm.UID)
}

// bootVolume sees to the boot volume. It returns whether a machine can be made.
func (d *decision) bootVolume() bool {
	claim := d.in.Claim
	switch {
	case claim == nil && d.in.VM != nil && metav1.IsControlledBy(d.in.VM, d.evm):
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimLost,
			"claim %s is gone: make a claim of that name, for example from a snapshot, and set spec.bootVolume.claimName of a new machine to it, or delete this machine and create it again for a new disk", claimName(d.evm))
		return true
	case claim == nil:
		d.create()
		return false
	case claim.DeletionTimestamp != nil:
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimEnding, "claim %s is being deleted; a new one is made when it is gone", claim.Name)
		d.wait(mecs.ConditionBootVolumeReady)
		return false
	case !d.owned() && !d.adopt():
		return false
	}
	if d.owned() {
		d.grow()
	}
	switch claim.Status.Phase {
	case corev1.ClaimBound:
		if d.evm.Spec.Source.RegistryImageURL != "" && d.st.ImageDigest != "" {
			d.set(mecs.ConditionImageReady, true, ReasonImported, "")
		}
		d.st.Progress = nil
		d.set(mecs.ConditionBootVolumeReady, true, ReasonBound, "")
		if claim.Annotations[cloneAnnotation] != "" && d.owned() {
			// First what it was cloned from, then the mark of that. Its name is not
			// taken from the mark, which anybody in the namespace may write.
			name := cloneName(d.evm.UID)
			d.plan.Delete = append(d.plan.Delete, plain(SnapshotKind, claim.Namespace, name), plain(SnapshotContentKind, "", name))
			delete(d.claim().Annotations, cloneAnnotation)
		}
		return true
	case corev1.ClaimLost:
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimLost, "claim %s has lost its volume: restore it, or delete the machine and the claim", claim.Name)
		return true
	}
	d.st.Phase = mecs.PhaseCloning
	d.set(mecs.ConditionBootVolumeReady, false, ReasonCloning, "claim %s waits for its volume: `kubectl describe pvc %s -n %s` says what for", claim.Name, claim.Name, claim.Namespace)
	d.wait(mecs.ConditionBootVolumeReady)
	// A volume that waits for its first user never comes without a machine.
	return d.in.Class != nil && d.in.Class.WaitForConsumer && claim.Annotations[selectedNode] == ""
}

// claim is the boot volume's claim, to be changed.
func (d *decision) claim() *corev1.PersistentVolumeClaim {
	if d.plan.Claim == nil {
		d.plan.Claim = d.in.Claim.DeepCopy()
		if d.plan.Claim.Annotations == nil {
			d.plan.Claim.Annotations = map[string]string{}
		}
		if d.plan.Claim.Labels == nil {
			d.plan.Claim.Labels = map[string]string{}
		}
	}
	return d.plan.Claim
}

// adopt takes a claim that nobody uses: one that was released, by this machine's
// forerunner or by another one if it is asked for by name, or one that somebody made
// and names.
func (d *decision) adopt() bool {
	is := d.in.Claim
	named := d.evm.Spec.BootVolume.ClaimName == is.Name
	_, released := is.Annotations[ReleasedAnnotation]
	owner := is.Annotations[OwnerAnnotation]
	switch {
	case is.Labels[VolumeLabel] == BaseVolume:
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimInUse, "claim %s is a base volume, from which machines are made; choose another name in spec.bootVolume.claimName", is.Name)
	case !released && owner != "":
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimInUse, "claim %s is the boot volume of machine %s; delete that, or choose another name in spec.bootVolume.claimName of a new machine",
			is.Name, is.Labels[OwnerLabel])
	case !named && is.Labels[OwnerLabel] != d.evm.Name:
		d.set(mecs.ConditionBootVolumeReady, false, ReasonClaimExists, "there is a claim %s that is not this machine's; to boot from it, create the machine with spec.bootVolume.claimName: %s", is.Name, is.Name)
	default:
		c := d.claim()
		from := c.Annotations[ReleasedFromAnnotation]
		c.Labels[VolumeLabel], c.Labels[OwnerLabel] = BootVolume, d.evm.Name
		c.Annotations[OwnerAnnotation] = string(d.evm.UID)
		delete(c.Annotations, ReleasedAnnotation)
		delete(c.Annotations, ReleasedFromAnnotation)
		if from != "" {
			d.event(EventReattached, "Booting from claim %s, which machine %s has left", is.Name, from)
		} else {
			d.event(EventReattached, "Booting from claim %s, which was there already", is.Name)
		}
		return true
	}
	d.wait(mecs.ConditionBootVolumeReady)
	return false
}

// grow asks for more where the machine does.
func (d *decision) grow() {
	want, is := *d.evm.Spec.BootVolume.Resources.Requests.Storage(), *d.in.Claim.Spec.Resources.Requests.Storage()
	if d.in.Claim.Status.Phase == corev1.ClaimBound && want.Cmp(is) > 0 {
		d.claim().Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: want}
	}
}

// create makes the boot volume's claim, from where its content comes.
func (d *decision) create() {
	if d.in.ConfigErr != nil {
		d.set(mecs.ConditionBootVolumeReady, false, ReasonInvalidConfiguration, "%s", d.in.ConfigErr)
		d.wait(mecs.ConditionBootVolumeReady)
		return
	}
	if d.in.ClassErr != nil || d.in.Class == nil {
		d.set(mecs.ConditionBootVolumeReady, false, ReasonNoStorageClass, "%s", errors.Join(d.in.ClassErr))
		d.wait(mecs.ConditionBootVolumeReady)
		return
	}
	s := d.evm.Spec.Source
	size := *d.evm.Spec.BootVolume.Resources.Requests.Storage()
	switch {
	case s.PersistentVolumeClaim != nil:
		d.boot(size, &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: s.PersistentVolumeClaim.Name}, nil)
	case s.VolumeSnapshot != nil:
		d.boot(size, &corev1.TypedLocalObjectReference{APIGroup: new(SnapshotKind.Group), Kind: SnapshotKind.Kind, Name: s.VolumeSnapshot.Name}, nil)
	default:
		d.fromImage(size)
	}
}

// fromImage makes the base volume, waits for it, and has the boot volume cloned.
func (d *decision) fromImage(size resource.Quantity) {
	d.st.Image = d.in.Config.Image(d.evm.Spec.Source.RegistryImageURL)
	if at := strings.Index(d.st.Image, "@"); at >= 0 {
		d.st.Image = d.st.Image[:at]
	}
	d.set(mecs.ConditionBootVolumeReady, false, ReasonWaiting, "the image is not there yet")
	if d.in.DigestErr != nil {
		d.st.Progress = nil
		d.set(mecs.ConditionImageReady, false, reasonOf(d.in.DigestErr), "%s", d.in.DigestErr)
		d.wait(mecs.ConditionImageReady)
		return
	}
	d.st.ImageDigest = d.in.Digest
	mode := volumeMode(d.evm)
	name := baseName(d.in.Digest, d.in.Class.Name, mode)
	d.st.Phase = mecs.PhaseImporting
	was := d.st.BaseVolume
	d.st.BaseVolume = &mecs.BaseVolumeStatus{Namespace: d.in.Config.BaseImageNamespace, Name: name}
	// What the machine uses is written down before it is used: whoever collects
	// unused bases sees it.
	noted := was != nil && was.Namespace == d.st.BaseVolume.Namespace && was.Name == name

	base := d.in.Base
	switch {
	case base != nil && (base.DeletionTimestamp != nil || base.Annotations[collectAnnotation] != ""):
		d.set(mecs.ConditionImageReady, false, ReasonBaseEnding, "the image's old base volume is being collected; it is fetched again")
		d.wait(mecs.ConditionImageReady)
		return
	case base == nil:
		d.set(mecs.ConditionImageReady, false, ReasonImporting, "the image is fetched")
		if noted {
			d.plan.Create = append(d.plan.Create, d.base(name, mode, size))
		}
		d.again(time.Second) // the status' write, too, brings the next pass
		return
	}
	s := stateOf(base)
	d.st.Progress = s.Progress
	capacity := *base.Spec.Resources.Requests.Storage()
	switch {
	case s.VirtualSize > size.Value():
		d.set(mecs.ConditionImageReady, false, ReasonTooLarge, "the image's disk has %d bytes (%s): ask for as much or more in spec.bootVolume.resources.requests.storage", s.VirtualSize, gib(s.VirtualSize))
	case s.Failure != nil && s.Failure.Reason == tooLarge && size.Cmp(capacity) > 0:
		// It was made for a machine with a smaller disk.
		d.set(mecs.ConditionImageReady, false, ReasonImporting, "the image is fetched again, onto a larger volume")
		d.plan.Delete = append(d.plan.Delete, base)
		d.again(time.Second)
	case s.Failure != nil:
		d.set(mecs.ConditionImageReady, false, s.Failure.Reason, "%s", s.Failure.Message)
		d.wait(mecs.ConditionImageReady)
	case s.Handle == "":
		d.set(mecs.ConditionImageReady, false, ReasonImporting, "the image is fetched")
		d.again(10 * time.Second) // the base brings a pass whenever it changes
	default:
		d.set(mecs.ConditionImageReady, true, ReasonImported, "")
		d.st.BaseVolume.Snapshot = base.Name
		d.st.Progress = nil
		d.st.Phase = mecs.PhaseCloning
		if !noted {
			d.again(time.Second)
			return
		}
		content, snapshot := clones(d.evm, s)
		d.plan.Create = append(d.plan.Create, content, snapshot)
		if capacity.Cmp(size) > 0 {
			size = capacity // a clone is no smaller than what it is made from
		}
		d.boot(size, &corev1.TypedLocalObjectReference{APIGroup: new(SnapshotKind.Group), Kind: SnapshotKind.Kind, Name: snapshot.GetName()}, base)
	}
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

// tooLarge is the importer's reason where the disk does not fit.
const tooLarge = "TooLarge"

// reasonOf is the reason that an error has of its own.
func reasonOf(err error) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) && r.Reason() != "" && isReason(r.Reason()) {
		return r.Reason()
	}
	return ReasonResolveFailed
}

// base makes the claim of an image's base volume.
func (d *decision) base(name string, mode corev1.PersistentVolumeMode, size resource.Quantity) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.in.Config.BaseImageNamespace, Name: name, Finalizers: []string{Finalizer},
			Labels:      map[string]string{VolumeLabel: BaseVolume},
			Annotations: map[string]string{imageAnnotation: d.st.Image, digestAnnotation: d.in.Digest},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: &d.in.Class.Name,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
		},
	}
}

// boot makes the boot volume's claim. base is what it is cloned from, nil if that is
// the user's own.
func (d *decision) boot(size resource.Quantity, from *corev1.TypedLocalObjectReference, base *corev1.PersistentVolumeClaim) {
	mode, modes := volumeMode(d.evm), d.evm.Spec.BootVolume.AccessModes
	if len(modes) == 0 {
		modes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.evm.Namespace, Name: claimName(d.evm),
			Labels:      map[string]string{VolumeLabel: BootVolume, OwnerLabel: d.evm.Name},
			Annotations: map[string]string{OwnerAnnotation: string(d.evm.UID)},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, VolumeMode: &mode, StorageClassName: &d.in.Class.Name, DataSource: from,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
		},
	}
	if base != nil {
		c.Annotations[cloneAnnotation] = from.Name
		if node := base.Annotations[selectedNode]; node != "" {
			// The volume is made at once, where the base is, although the class
			// waits for a first user.
			c.Annotations[selectedNode] = node
		}
	}
	d.st.Phase = mecs.PhaseCloning
	d.set(mecs.ConditionBootVolumeReady, false, ReasonCloning, "claim %s is made", c.Name)
	d.plan.Create = append(d.plan.Create, c)
	d.again(2 * time.Second)
}

// machine makes the VirtualMachine, or carries a changed template over to it.
func (d *decision) machine() {
	want, err := Machine(d.evm, claimName(d.evm))
	if err != nil {
		d.set(mecs.ConditionReady, false, ReasonFailedCreate, "%s", err)
		return
	}
	is := d.in.VM
	switch {
	case is == nil:
		if c := meta.FindStatusCondition(d.st.Conditions, mecs.ConditionBootVolumeReady); c.Reason == ReasonClaimLost {
			return
		}
		d.plan.Create = append(d.plan.Create, want)
	case !metav1.IsControlledBy(is, d.evm):
		return
	case is.DeletionTimestamp == nil && is.Annotations[templateAnnotation] != want.Annotations[templateAnnotation]:
		vm := is.DeepCopy()
		vm.Spec = want.Spec
		if vm.Annotations == nil {
			vm.Annotations = map[string]string{}
		}
		for k, v := range want.Annotations {
			vm.Annotations[k] = v
		}
		for k, v := range want.Labels {
			if vm.Labels == nil {
				vm.Labels = map[string]string{}
			}
			vm.Labels[k] = v
		}
		d.plan.VM = vm
	}
}

// report sums up.
func (d *decision) report() {
	vm := d.in.VM
	switch {
	case vm == nil:
		d.st.VirtualMachine = ""
		d.set(mecs.ConditionReady, false, ReasonNoMachine, "the VirtualMachine is not made yet")
		return
	case !metav1.IsControlledBy(vm, d.evm):
		d.st.VirtualMachine = ""
		d.set(mecs.ConditionReady, false, ReasonNameTaken, "there is a VirtualMachine %s that is not this machine's: delete it, or create this machine under another name", vm.Name)
		d.wait(mecs.ConditionReady)
		return
	}
	d.st.VirtualMachine = vm.Name
	switch vm.Status.PrintableStatus {
	case v1.StatusRunning, v1.StatusPaused, v1.StatusMigrating:
		d.st.Phase = mecs.PhaseRunning
	case v1.StatusStopped:
		d.st.Phase = mecs.PhaseStopped
	default:
		d.st.Phase = mecs.PhaseStarting
	}
	ready, reason, message := false, "Starting", ""
	for _, c := range vm.Status.Conditions {
		if c.Type == v1.VMReady {
			ready, message = c.Status == corev1.ConditionTrue, c.Message
			switch {
			case c.Reason != "" && isReason(c.Reason):
				reason = c.Reason
			case ready:
				reason = "Running"
			}
		}
	}
	d.set(mecs.ConditionReady, ready, reason, "%s", message)
}

// deleting ends the machine: first the VirtualMachine, then the boot volume is
// released, then nothing is left to do.
func (d *decision) deleting() {
	d.st.Phase = mecs.PhaseTerminating
	if !slices.Contains(d.evm.Finalizers, Finalizer) {
		return
	}
	d.set(mecs.ConditionReady, false, ReasonTerminating, "the machine is being deleted")
	if vm := d.in.VM; vm != nil && metav1.IsControlledBy(vm, d.evm) {
		if vm.DeletionTimestamp == nil {
			d.plan.Delete = append(d.plan.Delete, vm)
		}
		d.again(5 * time.Second) // its end brings the next pass
		return
	}
	name := cloneName(d.evm.UID)
	d.plan.Delete = append(d.plan.Delete, plain(SnapshotKind, d.evm.Namespace, name), plain(SnapshotContentKind, "", name))
	if claim := d.in.Claim; d.owned() && claim.DeletionTimestamp == nil {
		switch {
		case claim.Status.Phase != corev1.ClaimBound:
			// It has no content yet, and would never get any.
			d.plan.Delete = append(d.plan.Delete, claim)
		case d.evm.Spec.BootVolume.Retain == mecs.DeleteVolume:
			d.plan.Delete = append(d.plan.Delete, claim)
			d.event(EventDeleted, "Deleted claim %s, as spec.bootVolume.retain says", claim.Name)
		default:
			c := d.claim()
			delete(c.Annotations, OwnerAnnotation)
			delete(c.Annotations, cloneAnnotation)
			c.Annotations[ReleasedAnnotation] = d.in.Now.UTC().Format(time.RFC3339)
			c.Annotations[ReleasedFromAnnotation] = d.evm.Name + "/" + string(d.evm.UID)
			d.event(EventReleased, "Kept claim %s; create the machine again, or another with spec.bootVolume.claimName: %s, to boot from it", claim.Name, claim.Name)
		}
	}
	d.evm.Finalizers = slices.DeleteFunc(d.evm.Finalizers, func(f string) bool { return f == Finalizer })
}
