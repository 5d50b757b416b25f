package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

const clientConfig = `
database: {url: "${DATABASE_URL}"}
source: {slot: client, publication: client}
egress: {allow: [127.0.0.0/8]}
ledger: {bodies: all}
http:
  listen: 127.0.0.1:0
  tokens:
    - {name: ops, role: operator, token: operator-0102030405060708090a}
    - {name: watcher, role: viewer, token: viewer-0102030405060708090a}
events:
  - {type: pr.made, group: pr, title: PR made, example: {n: 1}, schema: {type: object}}
endpoints:
  - {name: erp, url: "${RECEIVER}/well", events: ["*"]}
  - {name: "a b/c", url: "${RECEIVER}/ill", events: [pr.made], retry: {schedule: []}}
`

// elsewhere is a relay whose API commands ask.
type elsewhere struct {
	t         *testing.T
	file, url string // its configuration, and its API
	env       []string
}

// logLines is a log that a test reads line by line.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// waitFor returns what the group of an expression matches in the next line that
// it does match in.
func (l logLines) waitFor(t *testing.T, expression string) string {
	t.Helper()
	want := regexp.MustCompile(expression)
	limit := time.After(30 * time.Second)
	for {
		select {
		case line := <-l:
			if m := want.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		case <-limit:
			t.Fatalf("the relay does not log %s", expression)
		}
	}
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ill" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(receiver.Close)
	e := &elsewhere{t: t, file: filepath.Join(t.TempDir(), "posthorn.yaml"), env: []string{"DATABASE_URL=" + database, "RECEIVER=" + receiver.URL, "POSTHORN_TOKEN=operator-0102030405060708090a"}}
	if err := os.WriteFile(e.file, []byte(clientConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(e.file, e.env)
	if err != nil {
		t.Fatal(err)
	}
	log := make(logLines, 10_000)
	r, err := relay.New(cfg, version, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.InitFirst = true
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		// The server lets go of the slot a moment after its relay has closed the connection.
		var out, errs bytes.Buffer
		for deadline := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
			if execute(context.Background(), &globals{stdout: &out, stderr: &errs, env: e.env}, []string{"uninstall", "--schema", "--yes", "--config", e.file}) == exitOK {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not uninstalled: %s", errs.String())
			}
		}
	})
	e.url = "http://" + log.waitFor(t, `msg="posthorn starts".* listen=(\S+)`)
	log.waitFor(t, `msg="(slot acquired, delivering)"`)
	return e
}

// run runs a command, which must end with code, and returns what it printed.
func (e *elsewhere) run(env []string, code int, args ...string) (stdout, stderr string) {
	e.t.Helper()
	var out, errs bytes.Buffer
	if got := execute(context.Background(), &globals{stdout: &out, stderr: &errs, env: env}, args); got != code {
		e.t.Errorf("posthorn %q ended with %d, want %d:\n%s%s", args, got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// same runs a command on the spot and by the API, with outputs of both kinds,
// and fails where they differ.
func (e *elsewhere) same(code int, args ...string) string {
	e.t.Helper()
	var text string
	for _, output := range []string{"text", "json"} {
		args := append(args, "--output", output)
		here, _ := e.run(e.env, code, append(args, "--config", e.file)...)
		there, _ := e.run(e.env, code, append(args, "--server", e.url)...)
		if diff := cmp.Diff(varies.ReplaceAllString(here, "-"), varies.ReplaceAllString(there, "-")); diff != "" {
			e.t.Errorf("posthorn %q: here and there differ (-here +there):\n%s", args, diff)
		}
		text += there
	}
	return text
}

// varies is what differs from one run of a command to the next: times, and the
// ids and signatures of tests.
var varies = regexp.MustCompile(`\d+(\.\d+)?(ns|µs|ms|s)\b|"(dns|connect|tls|first_byte|total)_us": \d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b\d{10}\b`)

func TestCommandsDoTheSameByTheAPI(t *testing.T) {
	e := newElsewhere(t)
	ask := func(v any, args ...string) {
		t.Helper()
		out, _ := e.run(e.env, exitOK, append(args, "--server", e.url, "--output", "json")...)
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	var list []struct{ ID, State string }
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	e.publish(3)
	for len(list) < 6 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d deliveries are listed, want 6", len(list))
		}
		ask(&list, "deliveries", "list")
	}
	e.same(exitOK, "deliveries", "list")
	e.same(exitOK, "deliveries", "list", "--limit", "2")
	e.same(exitOK, "deliveries", "list", "--state", "failed", "--state", "delivered", "--from", "1h", "--until", "2126-01-02T15:04:05Z")
	if text := e.same(exitOK, "deliveries", "list", "--until", "2026-01-02T15:04:05Z"); !strings.HasPrefix(text, "no deliveries\n") {
		t.Errorf("before all of them is listed:\n%s", text)
	}
	if text := e.same(exitOK, "deliveries", "list", "--state", "failed", "--endpoint", "a b/c", "--type", "pr.made", "--tenant", "acme", "--since", "1h"); strings.Count(text, "\n") < 6 {
		t.Errorf("of failed deliveries is listed:\n%s", text)
	}
	e.same(exitOK, "deliveries", "list", "--event", "0198f1d2-0000-7000-8000-000000000001")
	for _, d := range list {
		if text := e.same(exitOK, "deliveries", "show", d.ID); d.State == "failed" && !strings.Contains(text, "answer to try 1:\nanswer") {
			t.Errorf("a failed delivery is shown as:\n%s", text)
		}
	}
	if text := e.same(exitOK, "endpoints", "--all"); !strings.Contains(text, "a b/c") {
		t.Errorf("endpoints are listed as:\n%s", text)
	}
	e.same(exitOK, "events")
	e.same(exitOK, "events", "pr.made")
	e.same(exitOK, "events", "posthorn.endpoint.failing")
	e.same(exitOK, "send-test", "erp")
	e.same(exitFailed, "send-test", "a b/c", "--type", "pr.made", "--payload", `{"n":2}`)

	var turned struct{ State, Reason string }
	ask(&turned, "endpoints", "pause", "a b/c", "--reason", "they move")
	if turned.State != "paused" || turned.Reason != "they move" {
		t.Errorf("paused: %+v", turned)
	}
	if out, _ := e.run(e.env, exitOK, "endpoints", "pause", "a b/c", "--server", e.url); !strings.HasPrefix(out, "a b/c: is paused already, since ") {
		t.Errorf("paused again: %s", out)
	}
	if out, _ := e.run(e.env, exitOK, "endpoints", "resume", "a b/c", "--server", e.url); out != "a b/c: resumed; what was parked is sent in order\n" {
		t.Errorf("resumed: %s", out)
	}
	want := list[0].ID + ": due now\n"
	if out, _ := e.run(e.env, exitOK, "deliveries", "retry", list[0].ID, "--server", e.url); out != want {
		t.Errorf("retried: %q, want %q", out, want)
	}
}

// TestReplaysDoTheSameByTheAPI starts replays both ways, and looks at each by
// the other.
func TestReplaysDoTheSameByTheAPI(t *testing.T) {
	e := newElsewhere(t)
	e.publish(3)
	there := []string{"--server", e.url}
	here := []string{"--config", e.file}
	await := func(args []string, done func(out string) bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(30 * time.Second); ; {
			out, _ := e.run(e.env, exitOK, append(args, there...)...)
			if done(out) {
				return
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("posthorn %q says to the end:\n%s", args, out)
			}
		}
	}
	failed := func(out string) bool { return strings.Count(out, "failed") == 3 }
	await([]string{"deliveries", "list", "--state", "failed"}, failed)
	if text := e.same(exitOK, "replay", "preview", "--endpoint", "a b/c", "--state", "failed", "--from", "2026-01-02T15:04:05Z"); !strings.HasPrefix(text, "3 deliveries\n  a b/c  3\n") {
		t.Errorf("the preview is\n%s", text)
	}
	if text := e.same(exitOK, "replay", "list"); !strings.HasPrefix(text, "no replays\n") {
		t.Errorf("before the first replay:\n%s", text)
	}
	for i, where := range [][]string{here, there} {
		var r struct{ ID, State string }
		out, _ := e.run(e.env, exitOK, append([]string{"replay", "start", "--endpoint", "a b/c", "--type", "pr.made", "--from", "1h", "--output", "json"}, where...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.ID == "" || r.State != "running" {
			t.Fatalf("%v in %s", err, out)
		}
		await([]string{"replay", "show", r.ID}, func(out string) bool {
			return strings.HasPrefix(out, r.ID+": done; 3 of 3 deliveries made again, 0 skipped\nabout: delivered/failed/skipped, endpoint a b/c, type pr.made, from ")
		})
		await([]string{"deliveries", "list", "--state", "failed"}, failed)
		e.same(exitOK, "replay", "show", r.ID)
		if text := e.same(exitOK, "replay", "cancel", r.ID); !strings.Contains(text, `"state": "done"`) {
			t.Errorf("a replay that is over is cancelled: %s", text)
		}
		if text := e.same(exitOK, "replay", "list"); strings.Count(text, `"state": "done"`) != i+1 {
			t.Errorf("after %d replays:\n%s", i+1, text)
		}
	}
	e.same(exitOK, "replay", "list", "--limit", "1")
	for where, args := range map[string][]string{"here": here, "there": there} {
		_, stderr := e.run(e.env, exitFailed, append([]string{"replay", "show", "0198f1d2-0000-7000-8000-000000000001"}, args...)...)
		if !strings.Contains(stderr, "no such replay") {
			t.Errorf("%s an unknown replay is shown as %s", where, stderr)
		}
		if _, stderr = e.run(e.env, exitFailed, append([]string{"replay", "start", "--endpoint", "nope"}, args...)...); !strings.Contains(stderr, "nope: no such endpoint") {
			t.Errorf("%s an unknown endpoint is replayed as %s", where, stderr)
		}
	}
}

// publish commits events that both endpoints get.
func (e *elsewhere) publish(n int) {
	e.t.Helper()
	conn, err := pgx.Connect(e.t.Context(), strings.TrimPrefix(e.env[0], "DATABASE_URL="))
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	const sql = `INSERT INTO posthorn.outbox (type, tenant, payload) SELECT 'pr.made', 'acme', json_build_object('n', i) FROM generate_series(1, $1::int) AS i`
	if _, err := conn.Exec(e.t.Context(), sql, n); err != nil {
		e.t.Fatal(err)
	}
}

func TestServersRefusalIsShown(t *testing.T) {
	e := newElsewhere(t)
	viewer := []string{"POSTHORN_TOKEN=viewer-0102030405060708090a"}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("operator-0102030405060708090a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const none = "0198f1d2-0000-7000-8000-000000000001"
	tests := []struct {
		name string
		env  []string
		args []string
		want string // of standard error
	}{
		{"unknown endpoint", e.env, []string{"endpoints", "pause", "nope"}, `^posthorn: the relay answers 404: pause endpoint nope: no such endpoint`},
		{"unknown delivery", e.env, []string{"deliveries", "show", none}, `^posthorn: the relay answers 404: delivery ` + none + `: no such delivery\n$`},
		{"retry of an unknown one", e.env, []string{"deliveries", "retry", none}, `^posthorn: the relay answers 404: .*no such delivery\n$`},
		{"a low role", viewer, []string{"endpoints", "resume", "erp"}, `^posthorn: the relay answers 403: this takes the role operator; the token's is viewer\n$`},
		{"a wrong token", []string{"POSTHORN_TOKEN=wrong-0102030405060708090a"}, []string{"endpoints"}, `^posthorn: the relay answers 401: `},
		{"the file before the variable", []string{"POSTHORN_TOKEN=wrong-0102030405060708090a"}, []string{"endpoints", "resume", "nope", "--token-file", file}, `^posthorn: the relay answers 404: `},
		{"a wrong field", e.env, []string{"deliveries", "list", "--since", "999999h"}, `^posthorn: the relay answers 422: validation failed: query.since: is a positive duration such as 1h30m\n$`},
		{"unknown event type", e.env, []string{"events", "nope"}, `^posthorn: the catalogue has no event type nope\n$`},
		{"a test that cannot be sent", e.env, []string{"send-test", "nope"}, `^posthorn: send a test to endpoint nope: the relay answers 404: `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr := e.run(tt.env, exitFailed, append(tt.args, "--server", e.url)...)
			if !regexp.MustCompile(tt.want).MatchString(stderr) {
				t.Errorf("it says %q, want %s", stderr, tt.want)
			}
		})
	}
}

// TestServerIsNotTrusted asks servers that are none, or that lie.
func TestServerIsNotTrusted(t *testing.T) {
	const token = "operator-0102030405060708090a"
	leaked := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked <- r.Header.Get("Authorization") }))
	defer other.Close()
	problem := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	asked := 0
	tests := []struct {
		name   string
		answer http.HandlerFunc
		args   []string
		code   int
		want   string // of both outputs
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }, []string{"endpoints"}, exitFailed, `answers 302 and no problem: --server is not the address of a relay's API`},
		{"a page", text("<html>"), []string{"endpoints"}, exitFailed, `none of its API`},
		{"no list", text(`{}`), []string{"endpoints"}, exitFailed, `none of its API: it has no endpoints`},
		{"another list", text(`{"endpoints": {"a": 1}}`), []string{"endpoints"}, exitFailed, `none of its API`},
		{"a problem of no words", problem(502, `{"title": "Bad\u001b[31m Gateway"}`), []string{"endpoints"}, exitFailed, `the relay answers 502: Bad�\[31m Gateway`},
		{"a long problem", problem(409, `{"detail": "`+strings.Repeat("x", 5000)+`"}`), []string{"endpoints"}, exitFailed, `^posthorn: the relay answers 409: x{1000}x{24}…\n$`},
		{"control characters", text(`{"endpoints": [{"name": "a\u001b]0;owned\u0007", "state": "enabled"}]}`), []string{"endpoints"}, exitOK, `a�]0;owned�`},
		{"the same page for ever", func(w http.ResponseWriter, _ *http.Request) {
			asked++
			_, _ = io.WriteString(w, `{"deliveries": [{"state": "failed"}, {"state": "failed"}], "next": "x"}`)
		}, []string{"deliveries", "list", "--limit", "5"}, exitOK, `the first 5: --limit`},
		{"empty pages for ever", text(`{"deliveries": [], "next": "x"}`), []string{"deliveries", "list"}, exitOK, `no deliveries`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.answer)
			defer s.Close()
			e := &elsewhere{t: t}
			stdout, stderr := e.run([]string{"POSTHORN_TOKEN=" + token}, tt.code, append(tt.args, "--server", s.URL)...)
			if !regexp.MustCompile(tt.want).MatchString(stdout + stderr) {
				t.Errorf("it says %q and %q, want %s", stdout, stderr, tt.want)
			}
		})
	}
	if asked != 3 {
		t.Errorf("%d pages of 2 were asked for, for 5 deliveries", asked)
	}
	select {
	case got := <-leaked:
		t.Errorf("another server was asked, with %q", got)
	default:
	}
}

func TestServerIsAskedBelowItsPath(t *testing.T) {
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, fmt.Sprint(r.Method, " ", r.URL.EscapedPath(), " ", r.URL.RawQuery, " ", r.Header.Get("Authorization") != ""))
		_, _ = io.WriteString(w, `{"endpoints": []}`)
	}))
	defer s.Close()
	e := &elsewhere{t: t}
	env := []string{"POSTHORN_TOKEN=operator-0102030405060708090a"}
	e.run(env, exitOK, "endpoints", "--server", s.URL+"/ops/posthorn/")
	e.run(env, exitOK, "endpoints", "pause", "ä/b?c", "--server", s.URL+"/ops/posthorn")
	want := []string{"GET /ops/posthorn/api/v1/endpoints limit=500 true", "POST /ops/posthorn/api/v1/endpoints/%C3%A4%2Fb%3Fc/pause  true"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
