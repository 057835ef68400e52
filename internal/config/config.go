// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Where the configuration is.
const (
	Namespace = "mec-images"
	Name      = "hci-controller-config"
	Key       = "config.yaml"
)

// maxSize bounds the document in bytes.
const maxSize = 64 << 10

// Config is the controller's configuration. Its zero value is of no use; Default
// is what holds where nothing is configured.
type Config struct {
	// HealthzPort is where a controller that is a process of its own answers
	// /healthz by plain HTTP.
	HealthzPort int
	// ResyncPeriod is how often everything is looked at again without a cause.
	ResyncPeriod   time.Duration
	LeaderElection LeaderElection

	// BaseImageNamespace is where base images are kept.
	BaseImageNamespace string
	// SnapshotClass is the VolumeSnapshotClass of base images, "" for the default
	// of the storage class's driver.
	SnapshotClass string
	// GlanceBaseURL is an OpenStack image service; not used by this version.
	GlanceBaseURL string
	// RegistryAddr is the registry of images that name none: host, port and path.
	RegistryAddr string

	// BaseImageRetention is how long a base image is kept that no machine was
	// made from; 0 keeps it for good.
	BaseImageRetention time.Duration
	// ReleasedVolumeRetention is how long boot volumes are kept whose machine was
	// deleted; 0 keeps them for good.
	ReleasedVolumeRetention time.Duration
	// ImagePullSecrets are names of Secrets (kubernetes.io/dockerconfigjson) in
	// BaseImageNamespace with the logins of registries.
	ImagePullSecrets []string
	// RegistryCA is the name of a ConfigMap in BaseImageNamespace of which every
	// value is a bundle of certificate authorities (PEM) of registries.
	RegistryCA string
	// InsecureRegistries are host[:port] of registries that may be spoken to
	// without TLS or without a certificate that can be checked.
	InsecureRegistries []string
}

// LeaderElection is how several controllers agree on the one that acts.
type LeaderElection struct {
	LeaderElect                                bool
	LeaseDuration, RenewDeadline, ResyncPeriod time.Duration
	ResourceName, ResourceNamespace            string
}

// Default is the configuration where there is no ConfigMap.
func Default() Config {
	return Config{
		HealthzPort: 8080, ResyncPeriod: 10 * time.Minute, BaseImageNamespace: Namespace, BaseImageRetention: 7 * 24 * time.Hour,
		LeaderElection: LeaderElection{LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, ResyncPeriod: 2 * time.Second},
	}
}

// Parse reads a configuration. Its error tells all that is wrong with it.
func Parse(data string) (Config, error) {
	c := Default()
	if len(data) > maxSize {
		return Config{}, fmt.Errorf("%d bytes are too many; use %d at most", len(data), maxSize)
	}
	var doc any
	if err := yaml.UnmarshalStrict([]byte(data), &doc); err != nil {
		return Config{}, fmt.Errorf("not YAML: %w", err)
	}
	r := &reader{}
	lock := ""
	r.object("", doc, map[string]func(string, any){
		"healthzPort":  r.port(&c.HealthzPort),
		"resyncPeriod": r.duration(&c.ResyncPeriod, time.Second),
		"leaderElection": func(p string, v any) {
			le := &c.LeaderElection
			r.object(p, v, map[string]func(string, any){
				"leaderElect":       r.boolean(&le.LeaderElect),
				"leaseDuration":     r.duration(&le.LeaseDuration, time.Second),
				"renewDeadline":     r.duration(&le.RenewDeadline, time.Second),
				"resyncPeriod":      r.duration(&le.ResyncPeriod, 100*time.Millisecond), // the pause between two tries
				"resourceName":      r.name(&le.ResourceName),
				"resourceNamespace": r.name(&le.ResourceNamespace),
				"resourceLock":      r.text(&lock),
			})
		},
		"controllerConfig": func(p string, v any) {
			r.object(p, v, map[string]func(string, any){
				"baseImageNamespace":      r.name(&c.BaseImageNamespace),
				"snapshotClass":           r.name(&c.SnapshotClass),
				"glanceBaseURL":           r.url(&c.GlanceBaseURL),
				"registryAddr":            r.registry(&c.RegistryAddr),
				"baseImageRetention":      r.duration(&c.BaseImageRetention, 0),
				"releasedVolumeRetention": r.duration(&c.ReleasedVolumeRetention, 0),
				"imagePullSecrets":        r.names(&c.ImagePullSecrets, validName),
				"registryCA":              r.name(&c.RegistryCA),
				"insecureRegistries":      r.names(&c.InsecureRegistries, validHost),
			})
		},
	})
	le := c.LeaderElection
	switch lock {
	// Locks on Endpoints are long gone; who kept both has had leases since.
	case "", "leases", "endpointsleases", "configmapsleases":
	default:
		r.wrong("leaderElection.resourceLock", lock, "use leases")
	}
	if len(r.errs) == 0 && le.RenewDeadline >= le.LeaseDuration {
		r.wrong("leaderElection.renewDeadline", le.RenewDeadline, fmt.Sprintf("use less than leaseDuration (%s)", le.LeaseDuration))
	}
	if len(r.errs) == 0 && le.ResyncPeriod >= le.RenewDeadline {
		r.wrong("leaderElection.resyncPeriod", le.ResyncPeriod, fmt.Sprintf("use less than renewDeadline (%s)", le.RenewDeadline))
	}
	if len(r.errs) > 0 {
		return Config{}, errors.Join(r.errs...)
	}
	return c, nil
}

// reader reads values and collects what is wrong with them.
type reader struct{ errs []error }

// maxShown is the length at which a value is cut in a message.
const maxShown = 64

func (r *reader) wrong(path string, value any, instead string) {
	shown := fmt.Sprint(value)
	if len(shown) > maxShown {
		shown = strings.ToValidUTF8(shown[:maxShown], "") + "..."
	}
	r.errs = append(r.errs, fmt.Errorf("%s: %q is not accepted; %s", path, shown, instead))
}

// object reads each field of an object by its name.
func (r *reader) object(path string, v any, fields map[string]func(string, any)) {
	if v == nil {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		if path == "" {
			path = Key
		}
		r.wrong(path, v, "use an object (lines of `name: value`)")
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		p := k
		if path != "" {
			p = path + "." + k
		}
		read, ok := fields[k]
		switch {
		case !ok:
			r.errs = append(r.errs, fmt.Errorf("%s: there is no such field; there are %s", p, strings.Join(slices.Sorted(maps.Keys(fields)), ", ")))
		case m[k] != nil: // null is the same as absent
			read(p, m[k])
		}
	}
}

func (r *reader) port(to *int) func(string, any) {
	return func(p string, v any) {
		n, ok := v.(float64)
		if !ok || n != float64(int(n)) || n < 1 || n > 65535 {
			r.wrong(p, v, "use a port from 1 to 65535")
			return
		}
		*to = int(n)
	}
}

func (r *reader) duration(to *time.Duration, least time.Duration) func(string, any) {
	return func(p string, v any) {
		s, ok := v.(string)
		d, err := time.ParseDuration(s)
		if v == float64(0) {
			d, ok, err = 0, true, nil
		}
		if !ok || err != nil || d < least || d > 100*365*24*time.Hour {
			r.wrong(p, v, fmt.Sprintf("use a duration such as 30s or 10m, %s or more", least))
			return
		}
		*to = d
	}
}

func (r *reader) boolean(to *bool) func(string, any) {
	return func(p string, v any) {
		b, ok := v.(bool)
		if !ok {
			r.wrong(p, v, "use true or false")
			return
		}
		*to = b
	}
}

func (r *reader) text(to *string) func(string, any) {
	return func(p string, v any) {
		s, ok := v.(string)
		if !ok {
			r.wrong(p, v, "use a text")
			return
		}
		*to = s
	}
}

func validName(s string) string {
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "use the name of an object: lower case letters, digits, - and ."
	}
	return ""
}

// hostPattern is host[:port]; the host may be an IPv6 address in brackets.
var hostPattern = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?$`)

func validHost(s string) string {
	if !hostPattern.MatchString(s) {
		return "use host or host:port"
	}
	return ""
}

func (r *reader) name(to *string) func(string, any) {
	return func(p string, v any) {
		s, ok := v.(string)
		switch {
		case !ok:
			r.wrong(p, v, "use a text")
		case s == "": // as if it were not there
		case validName(s) != "":
			r.wrong(p, v, validName(s))
		default:
			*to = s
		}
	}
}

func (r *reader) names(to *[]string, valid func(string) string) func(string, any) {
	return func(p string, v any) {
		l, ok := v.([]any)
		if !ok {
			r.wrong(p, v, "use a list")
			return
		}
		var out []string
		for i, v := range l {
			s, ok := v.(string)
			if !ok {
				r.wrong(fmt.Sprintf("%s[%d]", p, i), v, "use a text")
			} else if instead := valid(s); instead != "" {
				r.wrong(fmt.Sprintf("%s[%d]", p, i), v, instead)
			} else {
				out = append(out, s)
			}
		}
		*to = out
	}
}

func (r *reader) url(to *string) func(string, any) {
	return func(p string, v any) {
		s, _ := v.(string)
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			r.wrong(p, v, "use a web address such as https://glance.example:9292")
			return
		}
		*to = s
	}
}

// repositoryPath is what stands between a registry's host and an image.
var repositoryPath = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

func (r *reader) registry(to *string) func(string, any) {
	return func(p string, v any) {
		s, ok := v.(string)
		s = strings.TrimSuffix(strings.TrimPrefix(s, "https://"), "/")
		host, path, hasPath := strings.Cut(s, "/")
		if !ok || validHost(host) != "" || hasPath && !repositoryPath.MatchString(path) {
			r.wrong(p, v, "use host, host:port or host/path; name a registry without TLS in controllerConfig.insecureRegistries")
			return
		}
		*to = s
	}
}

// Image is the whole reference of an image as a machine names it: where that says
// no registry, it is in RegistryAddr, and where it says no tag, latest is meant.
func (c Config) Image(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker://"), "oci://")
	first, _, more := strings.Cut(ref, "/")
	if absolute := more && (strings.ContainsAny(first, ".:[") || first == "localhost"); !absolute && c.RegistryAddr != "" {
		ref = c.RegistryAddr + "/" + ref
	}
	if last := ref[strings.LastIndex(ref, "/")+1:]; !strings.ContainsAny(last, ":@") {
		ref += ":latest"
	}
	return ref
}
