// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
)

// Where the importer finds things in its pod.
const (
	TargetDir    = "/target" // a Filesystem claim; the disk is DiskFile in it
	DiskFile     = "disk.img"
	TargetDevice = "/dev/target" // a Block claim
	PullDir      = "/run/skerry-pull"
	CADir        = "/run/skerry-ca"
	ScratchDir   = "/tmp"
)

// Result is the importer's termination message, as JSON, and each line of its log
// is one with Progress alone.
type Result struct {
	// Reason and Message are set when it failed.
	Reason   string         `json:"reason,omitempty"`
	Message  string         `json:"message,omitempty"`
	Digest   string         `json:"digest,omitempty"`
	Size     int64          `json:"size,omitempty"` // the disk's, in bytes
	Progress *mecs.Progress `json:"progress,omitempty"`
}

// maxResult bounds what is read of an importer, in bytes.
const maxResult = 4096

// ParseResult reads a termination message or a line of the log. What it says comes
// from an image that may be hostile: texts are cut.
func ParseResult(s string) (Result, error) {
	var r Result
	if len(s) > maxResult {
		return r, fmt.Errorf("the importer's message has %d bytes", len(s))
	}
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		return Result{}, fmt.Errorf("read the importer's message: %w", err)
	}
	if len(r.Message) > maxText {
		r.Message = strings.ToValidUTF8(r.Message[:maxText], "") + "..."
	}
	if !isReason(r.Reason) {
		r.Reason = "ImportFailed"
	}
	return r, nil
}

const maxText = 1024

// isReason tells whether a word can be a condition's reason, or is empty.
func isReason(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return len(s) <= 64
}

// importer makes the pod that fills a base. It has no rights in the cluster, and
// requests no CPU: that is the machines'.
func importer(base *corev1.PersistentVolumeClaim, image string, pull corev1.PullPolicy, c config.Config) *corev1.Pod {
	ref := pinned(base.Annotations[imageAnnotation], base.Annotations[digestAnnotation])
	args := []string{"-image", ref}
	for _, r := range c.InsecureRegistries {
		args = append(args, "-insecure", r)
	}
	container := corev1.Container{
		Name: "importer", Image: image, ImagePullPolicy: pull, Args: args,
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "scratch", MountPath: ScratchDir}},
	}
	volumes := []corev1.Volume{
		{Name: "target", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: base.Name}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	if m := base.Spec.VolumeMode; m != nil && *m == corev1.PersistentVolumeBlock {
		container.VolumeDevices = []corev1.VolumeDevice{{Name: "target", DevicePath: TargetDevice}}
	} else {
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "target", MountPath: TargetDir})
	}
	for i, s := range c.ImagePullSecrets {
		name := fmt.Sprintf("pull-%d", i)
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: s, DefaultMode: new(int32(0o440)), Items: []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}},
		}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path.Join(PullDir, name), ReadOnly: true})
	}
	if c.RegistryCA != "" {
		volumes = append(volumes, corev1.Volume{Name: "ca", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: c.RegistryCA},
		}}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "ca", MountPath: CADir, ReadOnly: true})
	}
	user := int64(v1.QEMUUser)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: base.Namespace, Name: importerName(base.Name), Labels: map[string]string{"mececs.io/importer": base.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(base, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
			TerminationGracePeriodSeconds: new(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
				FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
				SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{container}, Volumes: volumes,
		},
	}
}

// pinned is a reference with its digest in place of its tag.
func pinned(ref, digest string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if slash, colon := strings.LastIndex(ref, "/"), strings.LastIndex(ref, ":"); colon > slash {
		ref = ref[:colon]
	}
	return ref + "@" + digest
}
