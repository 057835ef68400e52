// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// maxLogLine bounds what is read of a pod's log, in bytes.
const maxLogLine = 4096

// podLogs reads pods' logs.
type podLogs struct{ client kubernetes.Interface }

func newPodLogs(c *rest.Config) (podLogs, error) {
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return podLogs{}, fmt.Errorf("make client for %s: %w", c.Host, err)
	}
	return podLogs{client}, nil
}

// LastLine is what a pod's container said last.
func (l podLogs) LastLine(ctx context.Context, namespace, pod string) (string, error) {
	line, err := l.client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{TailLines: new(int64(1)), LimitBytes: new(int64(maxLogLine))}).DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("read the log of pod %s/%s: %w", namespace, pod, err)
	}
	return string(line), nil
}
