// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// AppliedAnnotation is on the CustomResourceDefinitions that Apply has written
// and says what was written and to which generation of the object that led.
const AppliedAnnotation = "skerry.dev/applied"

// SharedAnnotation is on definitions in our files that others bring too: one that is
// there already is left alone.
const SharedAnnotation = "skerry.dev/shared"

// applyDefinition applies a CustomResourceDefinition and returns once it is
// served. To apply one costs the API server a few tenths of a second of CPU even
// where nothing changes, more than all other objects together, so one that is as
// we left it is not touched.
func applyDefinition(ctx context.Context, client dynamic.Interface, meta metadata.Interface, o *unstructured.Unstructured) error {
	data, err := json.Marshal(o.Object)
	if err != nil {
		return fmt.Errorf("encode CustomResourceDefinition %s: %w", o.GetName(), err)
	}
	sum := sha256.Sum256(data)
	mark := func(generation int64) string { return fmt.Sprintf("%s/%d", hex.EncodeToString(sum[:]), generation) }

	gvr, _ := resourceOf(o)
	there := false
	err = untilDone(ctx, func(ctx context.Context) (bool, error) {
		got, err := meta.Resource(gvr).Get(ctx, o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		there = got.DeletionTimestamp == nil && (got.Annotations[AppliedAnnotation] == mark(got.Generation) ||
			// Somebody else's, who knows its newest schema.
			o.GetAnnotations()[SharedAnnotation] == "true" && got.Annotations[AppliedAnnotation] == "")
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("look at CustomResourceDefinition %s: %w", o.GetName(), err)
	}
	if there {
		return nil
	}
	got, err := apply(ctx, client, o)
	if err != nil {
		return err
	}
	if err := waitEstablished(ctx, client, o); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "cluster.definition.before-mark"); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{AppliedAnnotation: mark(got.GetGeneration())}}})
	if err != nil {
		return fmt.Errorf("encode annotation of CustomResourceDefinition %s: %w", o.GetName(), err)
	}
	err = untilDone(ctx, func(ctx context.Context) (bool, error) {
		_, err := meta.Resource(gvr).Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("annotate CustomResourceDefinition %s: %w", o.GetName(), err)
	}
	return nil
}

// waitEstablished returns once a CustomResourceDefinition is served.
func waitEstablished(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured) error {
	reason := "no conditions yet"
	err := untilDone(ctx, func(ctx context.Context) (bool, error) {
		got, err := resourceFor(client, o).Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status, _ := got.Object["status"].(map[string]any)
		conds, _ := status["conditions"].([]any) // null in a new object
		for _, c := range conds {
			m, _ := c.(map[string]any)
			switch {
			case m["type"] == "Established" && m["status"] == "True":
				return true, nil
			case m["type"] == "NamesAccepted" && m["status"] == "False":
				reason = fmt.Sprintf("its names are not accepted: %v", m["message"])
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait until CustomResourceDefinition %s is served (%s): %w", o.GetName(), reason, err)
	}
	return nil
}
