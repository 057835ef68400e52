// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package renew

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
)

// session is a user's connection to a channel of a machine, as virtctl makes it.
type session struct {
	conn *websocket.Conn
	mu   sync.Mutex
	seen bytes.Buffer
	err  error
}

func open(t *testing.T, g *guest, channel string) *session {
	t.Helper()
	tls, err := rest.TLSConfigFor(box.REST)
	if err != nil {
		t.Fatal(err)
	}
	d := websocket.Dialer{TLSClientConfig: tls, Subprotocols: []string{"plain.kubevirt.io"}, HandshakeTimeout: time.Minute}
	s := &session{}
	waitFor(t, channel+" of "+g.name, func() (bool, string) {
		var resp *http.Response
		s.conn, resp, err = d.DialContext(t.Context(), strings.Replace(box.REST.Host, "https://", "wss://", 1)+
			fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/%s", g.namespace, g.name, channel), nil)
		if resp != nil {
			resp.Body.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	t.Cleanup(func() { s.conn.Close() })
	go func() {
		for {
			_, b, err := s.conn.ReadMessage()
			s.mu.Lock()
			s.seen.Write(b)
			s.err = err
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *session) text() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String(), s.err
}

// echo has the guest's shell say a word on this session.
func (s *session) echo(t *testing.T, word string) {
	t.Helper()
	var next time.Time
	waitFor(t, "the guest to say "+word, func() (bool, string) {
		text, err := s.text()
		if err != nil {
			t.Fatalf("the console was closed: %v; it ends with %q", err, text[max(0, len(text)-300):])
		}
		if strings.Contains(text, "<"+word+">") {
			return true, ""
		}
		if time.Now().After(next) {
			// The shell joins the halves, so that what was typed is no answer.
			if err := s.conn.WriteMessage(websocket.BinaryMessage, []byte("\necho '<''"+word+"'\\>\n")); err != nil {
				t.Fatalf("write to the console: %v", err)
			}
			next = time.Now().Add(10 * time.Second)
		}
		return false, text[max(0, len(text)-300):]
	})
}
