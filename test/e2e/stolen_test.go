// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// pkiFile is a file of the cluster's certificates.
func pkiFile(name string) string { return filepath.Join(shared.DataDir, "pki", name) }

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	return block.Bytes
}

func readCert(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(readPEM(t, pkiFile(name+".crt")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue signs a certificate with one of the cluster's authorities, or by itself.
func issue(t *testing.T, authority string, template *x509.Certificate, public crypto.PublicKey, self crypto.Signer) []byte {
	t.Helper()
	parent, signer := template, self
	if authority != "" {
		parent = readCert(t, authority)
		k, err := x509.ParsePKCS8PrivateKey(readPEM(t, pkiFile(authority+".key")))
		if err != nil {
			t.Fatal(err)
		}
		signer = k.(crypto.Signer)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// forge makes a certificate with a key of its own. Without an authority it is
// signed by itself.
func forge(t *testing.T, authority, cn string, org []string, notAfter time.Time, usage ...x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert = issue(t, authority, &x509.Certificate{
		Subject: pkix.Name{CommonName: cn, Organization: org}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, BasicConstraintsValid: true,
	}, k.Public(), k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// withCertificate is the way to the API server with a stolen or forged certificate.
func withCertificate(cert, key []byte) *rest.Config {
	c := rest.AnonymousClientConfig(shared.REST)
	c.CertData, c.KeyData = cert, key
	c.QPS, c.Burst = 100, 100
	return c
}

func nodeAgentOf(t *testing.T) (node *corev1.Node, cert, key []byte) {
	t.Helper()
	nodes := &corev1.NodeList{}
	if err := shared.Client.List(t.Context(), nodes); err != nil || len(nodes.Items) != 1 {
		t.Fatalf("nodes: %v, %d", err, len(nodes.Items))
	}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"skerry-node.crt", &cert}, {"skerry-node.key", &key}} {
		b, err := os.ReadFile(pkiFile(f.name))
		if err != nil {
			t.Fatal(err)
		}
		*f.to = b
	}
	return &nodes.Items[0], cert, key
}

// Whoever has a node agent's credentials has that node's machines' status and no
// more: this plays the agent of this node, and one of a node that is not there.
func TestStolenAgentCredentials(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	secret := &corev1.Secret{StringData: map[string]string{"password": "hunter2"}}
	secret.Namespace, secret.Name = ns, "not-a-machines"
	create(t, secret, tinyVM(ns, "victim"))
	victim := running(t, ns, "victim")
	node, cert, key := nodeAgentOf(t)
	otherCert, otherKey := forge(t, "ca", "skerry-node:elsewhere", []string{"skerry:nodes"}, time.Now().Add(time.Hour), x509.ExtKeyUsageClientAuth)
	for _, agent := range []struct {
		name      string
		cert, key []byte
		own       bool // the victim is on its node
	}{{"of this node", cert, key, true}, {"of another node", otherCert, otherKey, false}} {
		t.Run(agent.name, func(t *testing.T) {
			cfg := withCertificate(agent.cert, agent.key)
			c, err := client.New(cfg, client.Options{Scheme: shared.Client.Scheme()})
			if err != nil {
				t.Fatal(err)
			}
			typed, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			patch := func(o client.Object, body string, sub ...string) error {
				p := client.RawPatch(types.MergePatchType, []byte(body))
				if len(sub) > 0 {
					return c.SubResource(sub[0]).Patch(ctx, o, p)
				}
				return c.Patch(ctx, o, p)
			}
			vmi := func() *v1.VirtualMachineInstance {
				return &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: victim.Name}}
			}
			thisNode := func() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}} }
			pod := toolsPod(ns, "mine")

			// What it may do works, or the refusals would prove nothing.
			if err := c.Get(ctx, client.ObjectKeyFromObject(vmi()), vmi()); err != nil {
				t.Errorf("read an instance: %v", err)
			}
			if agent.own {
				if err := patch(vmi(), `{"status": {"reason": ""}}`); err != nil {
					t.Errorf("write the status of an instance here: %v", err)
				}
			} else if err := patch(vmi(), `{"status": {"reason": "Stolen"}}`); !apierrors.IsForbidden(err) {
				t.Errorf("write the status of an instance elsewhere: %v", err)
			}

			if !agent.own {
				if err := patch(thisNode(), `{"metadata": {"labels": {"kubevirt.io/schedulable": "false"}}}`); !apierrors.IsForbidden(err) {
					t.Errorf("label another node: %v", err)
				}
			}
			for what, err := range map[string]error{
				"spec":                       patch(vmi(), `{"spec": {"hostname": "stolen"}}`),
				"status.nodeName":            patch(vmi(), `{"status": {"nodeName": "elsewhere"}}`),
				"status.activePods":          patch(vmi(), `{"status": {"activePods": {"11111111-0000-4000-8000-000000000000": "`+node.Name+`"}}}`),
				"labels":                     patch(vmi(), `{"metadata": {"labels": {"kubevirt.io/nodeName": "elsewhere"}}}`),
				"owners":                     patch(vmi(), `{"metadata": {"ownerReferences": null, "finalizers": null, "annotations": {"a": "b"}}}`),
				"delete the instance":        c.Delete(ctx, vmi()),
				"create an instance":         c.Create(ctx, &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "new"}, Spec: tinyVM(ns, "new").Spec.Template.Spec}),
				"stop the machine":           patch(&v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: victim.Name}}, `{"spec": {"runStrategy": "Halted"}}`),
				"a Secret":                   c.Get(ctx, client.ObjectKeyFromObject(secret), &corev1.Secret{}),
				"all Secrets":                c.List(ctx, &corev1.SecretList{}),
				"a pod":                      c.Create(ctx, pod),
				"pods":                       c.List(ctx, &corev1.PodList{}),
				"ConfigMaps":                 c.List(ctx, &corev1.ConfigMapList{}),
				"the node's taints":          patch(thisNode(), `{"spec": {"unschedulable": true}}`),
				"the node's role":            patch(thisNode(), `{"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}`),
				"the node's addresses":       patch(thisNode(), `{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}`, "status"),
				"the list of nodes":          c.List(ctx, &corev1.NodeList{}),
				"roles":                      c.List(ctx, &rbacv1.ClusterRoleList{}),
				"the kubelet, by the server": typed.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + node.Name + "/proxy/pods").Do(ctx).Error(),
				"exec":                       typed.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/"+ns+"/pods/x/exec").Param("command", "id").Do(ctx).Error(),
				"a certificate": func() error {
					_, err := typed.CertificatesV1().CertificateSigningRequests().Create(ctx, &certificatesv1.CertificateSigningRequest{
						ObjectMeta: metav1.ObjectMeta{GenerateName: "stolen-"},
						Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: "kubernetes.io/kube-apiserver-client", Request: []byte("x"), Usages: []certificatesv1.KeyUsage{"client auth"}},
					}, metav1.CreateOptions{})
					return err
				}(),
				"a token": func() error {
					_, err := typed.CoreV1().ServiceAccounts("skerry-system").CreateToken(ctx, "skerry-controller", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
					return err
				}(),
				"the console": typed.RESTClient().Get().AbsPath("/apis/subresources.kubevirt.io/v1/namespaces/" + ns + "/virtualmachineinstances/victim/console").Do(ctx).Error(),
				"pause":       typed.RESTClient().Put().AbsPath("/apis/subresources.kubevirt.io/v1/namespaces/" + ns + "/virtualmachineinstances/victim/pause").Do(ctx).Error(),
			} {
				if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
					t.Errorf("%s: %v, want it forbidden", what, err)
				}
			}
			for _, who := range []rest.ImpersonationConfig{
				{UserName: "skerry-controller", Groups: []string{"skerry:controllers"}},
				{UserName: "skerry-node:" + node.Name, Groups: []string{"skerry:nodes"}}, {UserName: "root", Groups: []string{"system:masters"}},
			} {
				as := rest.CopyConfig(cfg)
				as.Impersonate = who
				k, err := kubernetes.NewForConfig(as)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := k.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "impersonate") {
					t.Errorf("impersonate %s: %v", who.UserName, err)
				}
			}
		})
	}
	// And nothing of it had an effect.
	after := running(t, ns, "victim")
	if after.UID != victim.UID || after.Spec.Hostname != victim.Spec.Hostname || after.Status.Reason != "" || after.Status.NodeName != node.Name {
		t.Errorf("the victim was changed: %+v", after.Status)
	}
}

func internalIP(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// The agent listens to the controller's certificate and to no other, whoever
// signed it; neither do the kubelet and the controller listen to the agent's.
func TestAgentsEndpointsRefuse(t *testing.T) {
	t.Parallel()
	node, agentCert, agentKey := nodeAgentOf(t)
	ca := x509.NewCertPool()
	ca.AddCert(readCert(t, "ca"))
	hour, client, server := time.Now().Add(time.Hour), x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	const cn = "skerry-controller"
	pair := func(cert, key []byte) *tls.Certificate {
		t.Helper()
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &p
	}
	file := func(name string) *tls.Certificate {
		t.Helper()
		p, err := tls.LoadX509KeyPair(pkiFile(name+".crt"), pkiFile(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return &p
	}
	// ask sends a request; the answer's status, or 0 when the connection is refused.
	ask := func(port int, name, request string, cert *tls.Certificate) int {
		cfg := &tls.Config{RootCAs: ca, ServerName: name}
		if cert != nil {
			// Whatever the server says it would accept.
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		conn, err := tls.Dial("tcp", net.JoinHostPort(internalIP(node), fmt.Sprint(port)), cfg)
		if err != nil {
			return 0
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	agent := func(cert *tls.Certificate) int {
		return ask(8187, node.Name+".skerry-node", "PUT /v1/vmis/default/none/u/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", cert)
	}
	if got := agent(file("skerry-controller")); got != http.StatusNotFound {
		t.Fatalf("the controller's certificate: %d, want 404 for a machine that is not there", got)
	}
	for what, cert := range map[string]*tls.Certificate{
		"none":                      nil,
		"signed by itself":          pair(forge(t, "", cn, nil, hour, client)),
		"signed by another CA":      pair(forge(t, "front-proxy-ca", cn, nil, hour, client)),
		"of another name":           pair(forge(t, "ca", "skerry-controller.example", nil, hour, client)),
		"of another name, our node": pair(agentCert, agentKey),
		"the group as its name":     pair(forge(t, "ca", "mallory", []string{"skerry:controllers", cn}, hour, client)),
		"expired":                   pair(forge(t, "ca", cn, nil, time.Now().Add(-time.Hour), client)),
		"a server's":                pair(forge(t, "ca", cn, nil, hour, server)),
		"the administrator's":       file("admin"),
		"the API server's":          file("apiserver-kubelet-client"),
		"the kubelet's":             file("kubelet"),
		"the controller's serving":  file("skerry-controller-serving"),
	} {
		if got := agent(cert); got != 0 {
			t.Errorf("certificate %s: answered with %d", what, got)
		}
	}
	stolen := pair(agentCert, agentKey)
	if got := ask(10250, node.Name, "GET /pods HTTP/1.1\r\nHost: x\r\n\r\n", stolen); got != http.StatusForbidden {
		t.Errorf("the kubelet answered the agent's certificate with %d, want 403", got)
	}
	// Behind the API server's back, with an identity of one's own choice.
	path := "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachineinstances/x/console"
	for what, cert := range map[string]*tls.Certificate{"none": nil, "the agent's": stolen, "of our CA": pair(forge(t, "ca", "front-proxy-client", nil, hour, client))} {
		got := ask(8443, "skerry-controller.skerry-system.svc", "GET "+path+" HTTP/1.1\r\nHost: x\r\nX-Remote-User: root\r\nX-Remote-Group: system:masters\r\n\r\n", cert)
		if got != http.StatusUnauthorized && got != http.StatusForbidden {
			t.Errorf("the aggregated API answered certificate %s with %d", what, got)
		}
	}
}

// Rights go by user and by machine: who may use one machine's console and switch it
// off may not do so with the machine beside it.
func TestVerbsNeedRBACPerMachine(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	role := &rbacv1.Role{Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"subresources.kubevirt.io"}, ResourceNames: []string{"mine"}, Verbs: []string{"get", "update"},
		Resources: []string{"virtualmachineinstances/console", "virtualmachineinstances/pause", "virtualmachineinstances/unpause"},
	}}}
	role.Namespace, role.Name = ns, "mine"
	rb := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "mine"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"}},
	}
	rb.Namespace, rb.Name = ns, "bob"
	create(t, role, rb, tinyVM(ns, "mine"), tinyVM(ns, "yours"))
	running(t, ns, "mine")
	running(t, ns, "yours")
	as := func(user string) *rest.Config {
		c := rest.CopyConfig(shared.REST)
		c.Impersonate.UserName = user
		return c
	}
	put := func(user, kind, name, verb string) error {
		k, err := kubernetes.NewForConfig(as(user))
		if err != nil {
			t.Fatal(err)
		}
		return k.RESTClient().Put().AbsPath(fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/%s/%s/%s", ns, kind, name, verb)).Body([]byte("{}")).Do(t.Context()).Error()
	}
	waitFor(t, "bob to pause his machine", func() (bool, string) {
		err := put("bob", "virtualmachineinstances", "mine", "pause")
		return err == nil, fmt.Sprint(err)
	})
	// The status may not say yet that it is paused.
	waitFor(t, "bob to unpause his machine", func() (bool, string) {
		err := put("bob", "virtualmachineinstances", "mine", "unpause")
		return err == nil, fmt.Sprint(err)
	})
	for _, who := range []string{"bob", "mallory"} {
		for _, verb := range []string{"pause", "unpause", "softreboot", "reset"} {
			if err := put(who, "virtualmachineinstances", "yours", verb); !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
				t.Errorf("%s: %s: %v, want it forbidden", who, verb, err)
			}
		}
		for _, verb := range []string{"start", "stop", "restart"} {
			if err := put(who, "virtualmachines", "yours", verb); !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
				t.Errorf("%s: %s: %v, want it forbidden", who, verb, err)
			}
		}
		for _, sub := range []string{"console", "vnc", "portforward/80/tcp"} {
			conn, resp, err := stream(t.Context(), as(who), ns, "yours", sub)
			if err == nil {
				conn.Close()
			}
			if resp == nil || resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s: %v %s, want it forbidden", who, sub, err, status(resp))
			}
		}
	}
	if vmi := running(t, ns, "yours"); vmi.Status.Condition(v1.VMIPaused) != nil {
		t.Error("the other machine was paused")
	}
}
