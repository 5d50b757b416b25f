package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHealthAsksAnAddressOfThisMachine(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080/healthz",
		":8080":          "http://127.0.0.1:8080/healthz",
		"0.0.0.0:8080":   "http://127.0.0.1:8080/healthz",
		"[::]:8080":      "http://[::1]:8080/healthz",
		"relay:8080":     "http://relay:8080/healthz",
	} {
		if got, err := healthURL(listen); err != nil || got != want {
			t.Errorf("%s is asked at %s, %v; want %s", listen, got, err, want)
		}
	}
}

func TestHealthTellsByItsExitCode(t *testing.T) {
	cases := []struct {
		name, answer string
		status, want int
		says         string
	}{
		{"active", `{"status": "ok", "role": "active"}`, 200, exitOK, "ok: active"},
		{"standby", `{"status": "ok", "role": "standby"}`, 200, exitOK, "ok: standby"},
		{"not ok", `{"status": "degraded", "role": "active"}`, 200, exitFinding, "degraded"},
		{"an error", `{"status": "ok"}`, 500, exitFinding, "answered 500"},
		{"something else", `<html>`, 200, exitFinding, "something else answers"},
		{"something else in JSON", `{}`, 200, exitFinding, "something else answers"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer s.Close()
			var out, errs bytes.Buffer
			code := execute(t.Context(), &globals{stdout: &out, stderr: &errs}, []string{"health", "--url", s.URL + "/healthz"})
			if said := out.String() + errs.String(); code != c.want || !strings.Contains(said, c.says) {
				t.Errorf("ended with %d, want %d, and said %q, want %q", code, c.want, said, c.says)
			}
		})
	}
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), &globals{stdout: &out, stderr: &errs}, []string{"health", "--url", s.URL}); code != exitFinding {
		t.Errorf("nobody answers: ended with %d and %q", code, errs.String())
	}
}

// A relay that refused a reload runs on: its health does not depend on what
// the file has become.
func TestHealthDoesNotDependOnTheConfiguration(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status": "ok", "role": "active"}`))
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte("endpoints: nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	listen := strings.TrimPrefix(s.URL, "http://")
	for _, path := range []string{file, file + ".missing"} {
		var out, errs bytes.Buffer
		g := &globals{stdout: &out, stderr: &errs, env: []string{"POSTHORN_HTTP__LISTEN=" + listen}}
		if code := execute(t.Context(), g, []string{"health", "--config", path}); code != exitOK {
			t.Errorf("%s: ended with %d and %q", path, code, errs.String())
		}
	}
	s.Close()
	var out, errs bytes.Buffer
	g := &globals{stdout: &out, stderr: &errs, env: []string{"POSTHORN_HTTP__LISTEN=" + listen}}
	if code := execute(t.Context(), g, []string{"health", "--config", file}); code != exitFinding || !strings.Contains(errs.String(), "endpoints") {
		t.Errorf("nobody answers: ended with %d and %q", code, errs.String())
	}
}
