package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay"
	"github.com/posthorn/posthorn/relay/signing"
)

const sendTestConfig = `{
  "database": {"url": "postgres://127.0.0.1:1/nowhere"},
  "egress": {"allow": ["127.0.0.0/8"]},
  "events": [
    {"type": "po.issued", "example": {"poId": "clx456"}},
    {"type": "pr.submitted", "example": {"prId": "clx123"}}
  ],
  "endpoints": [
    {"name": "erp", "enabled": false, "url": "${RECEIVER}/erp?key=hunter2", "events": ["pr.*"], "tenant": "acme", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
     "headers": {"X-Event": "{{ .Event.Type }} of {{ .Event.Tenant }}", "authoriZation": "Token hunter2", "Cookie": "a=hunter2", "X-Api-Key": "hunter2"}},
    {"name": "inside", "url": "http://192.168.1.1/", "events": ["none.such"]}
  ]
}`

// TestSendTest needs no database: none listens where the configuration says.
func TestSendTest(t *testing.T) {
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	var arrived string // what the newest request said
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = signer.Verify(r.Header, body, []signing.Key{key}, time.Now())
		}
		if err != nil || r.Header.Get(relay.TestHeader) != "true" {
			t.Errorf("a request with header %v: %v", r.Header, err)
		}
		if r.Header.Get("Authorization") != "Token hunter2" || r.Header.Get("Cookie") != "a=hunter2" || r.Header.Get("X-Api-Key") != "hunter2" {
			t.Errorf("credentials were not sent: %v", r.Header)
		}
		arrived = r.Header.Get("X-Event") + " " + string(body)
		if strings.Contains(arrived, "refuse") {
			http.Error(w, "we are closed\x1b[2J", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("thanks"))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "posthorn.json")
	payload := filepath.Join(t.TempDir(), "payload.json")
	for name, text := range map[string]string{file: sendTestConfig, payload: `{"from": "a file"}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		args    []string
		code    int
		arrived string
		says    string
	}{
		{"the catalogue's example", []string{"erp"}, exitOK, `pr.submitted of acme {"prId":"clx123"}`, "\n200 OK\ndns "},
		{"another type", []string{"erp", "--type", "po.issued"}, exitOK, `po.issued of acme {"poId":"clx456"}`, "\nposthorn: endpoint erp does not get events of type po.issued: sent all the same\n"},
		{"a type without example", []string{"erp", "--type", "pr.b"}, exitOK, `pr.b of acme {"test":true}`, "\nposthorn: the catalogue has no example of type pr.b: the payload is {\"test\":true}\n"},
		{"a payload", []string{"erp", "--payload", `{"x": 1.0}`}, exitOK, `pr.submitted of acme {"x": 1.0}`, "\nX-Api-Key: ***\n"},
		{"a payload from a file", []string{"erp", "--payload", "@" + payload}, exitOK, `pr.submitted of acme {"from": "a file"}`, "thanks"},
		{"refused", []string{"erp", "--type", "refuse"}, exitFailed, `refuse of acme {"test":true}`, "the test failed: answered 503 Service Unavailable"},
		{"not JSON", []string{"erp", "--payload", "{"}, exitFailed, "", "the payload is not JSON"},
		{"no such file", []string{"erp", "--payload", "@/nowhere"}, exitFailed, "", "read the payload: open /nowhere: no such file"},
		{"no such endpoint", []string{"erb"}, exitFailed, "", `no endpoint "erb" in the configuration`},
		{"guarded", []string{"inside"}, exitFailed, "", "the test failed: address 192.168.1.1 is blocked"},
		{"no endpoint", nil, exitUsage, "", "\nposthorn: send-test needs an endpoint's name\n"},
		{"two endpoints", []string{"erp", "inside"}, exitUsage, "", "accepts 1 arg(s), received 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			arrived = ""
			var out, errs bytes.Buffer
			g := &globals{stdout: &out, stderr: &errs, env: []string{"RECEIVER=" + server.URL}}
			code := execute(t.Context(), g, append([]string{"send-test", "--config", file}, tt.args...))
			said := out.String() + "\n" + errs.String()
			if code != tt.code || arrived != tt.arrived || !strings.Contains(said, tt.says) {
				t.Errorf("ended with %d, %q arrived, and said:\n%s", code, arrived, said)
			}
			if strings.Contains(said, "hunter2") || strings.Contains(said, "\x1b") {
				t.Errorf("it prints what it must not:\n%q", said)
			}
			if tt.name == "the catalogue's example" && errs.Len() > 0 {
				t.Errorf("it notes:\n%s", errs.String())
			}
		})
	}
	var out, errs bytes.Buffer
	g := &globals{stdout: &out, stderr: &errs, env: []string{"RECEIVER=" + server.URL}}
	code := execute(t.Context(), g, []string{"send-test", "--config", file, "--output", "json", "erp", "--type", "refuse"})
	var result struct {
		OK       bool
		Error    string
		Status   int
		Response string
		Notes    []string
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil || code != exitFailed || result.OK || result.Status != 503 ||
		result.Error != "answered 503 Service Unavailable" || strings.Contains(out.String(), "hunter2") || !strings.HasPrefix(result.Response, "we are closed") || len(result.Notes) != 2 {
		t.Errorf("ended with %d and %s: %v", code, out.String(), err)
	}
}
