package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func TestDemo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	g := &globals{stdout: &stdout, stderr: &stderr}
	if code := execute(t.Context(), g, []string{"demo", "--events", "200", "--rate", "0", "--output", "json"}); code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
	var s demoSummary
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		t.Fatalf("%v in %s", err, stdout.String())
	}
	if s.Events != 200 || s.Committed+s.RolledBack != 200 || s.RolledBack == 0 {
		t.Errorf("got %d events, %d committed and %d rolled back; want 200, some of them rolled back", s.Events, s.Committed, s.RolledBack)
	}
	if s.Delivered != s.Committed || s.Missing != 0 || s.RolledBackArrived != 0 || s.Unexpected != 0 || s.WrongSignatures != 0 || !s.OK {
		t.Errorf("got %+v", s)
	}
	if s.Retried == 0 || s.FailedAttempts < s.Retried {
		t.Errorf("got %d retried after %d failed attempts, want some", s.Retried, s.FailedAttempts)
	}
	if l := s.Latency; l.P50 <= 0 || l.P50 > l.P95 || l.P95 > l.P99 || l.P99 > l.Max {
		t.Errorf("latencies do not rise: %+v", l)
	}
}

func TestDemoThatIsInterruptedDrainsAndEndsWell(t *testing.T) {
	r := start(t, nil, "demo", "--events", "100000", "--output", "json")
	r.stderr.waitFor(t, "Relaying;")
	r.stop() // as Ctrl-C does
	if code := r.wait(t); code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, r.stdout, r.stderr)
	}
	var s demoSummary
	if err := json.Unmarshal([]byte(r.stdout.String()), &s); err != nil || !s.OK || s.Events >= 100_000 || s.Delivered != s.Committed {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestDemoIsWorthWatching runs the demo as on a terminal, with people who think
// quickly.
func TestDemoIsWorthWatching(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, stderr := newStream(), newStream()
	ended := make(chan error, 1)
	go func() {
		o := demoOptions{rate: 500, seed: 1, dashboard: true, step: 20 * time.Millisecond}
		ended <- runDemo(ctx, &globals{stdout: stdout, stderr: stderr, Output: "json"}, o)
	}()
	said := stderr.waitFor(t, `Dashboard  (http://\S+)/admin/webhooks\n +Token +(\S+)\n`)
	base, err := url.Parse(said[1])
	if err != nil {
		t.Fatal(err)
	}
	visitor := newClient(base, said[2])
	defer visitor.close()

	missing := map[string]bool{}
	for _, action := range []string{
		"endpoint.create", "endpoint.edit", "endpoint.rotate", "endpoint.pause", "endpoint.resume", "endpoint.disable", "endpoint.delete",
		"delivery.retry", "replay.start", "portal.token",
	} {
		missing[action] = true
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); len(missing) > 0; <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("nobody did %v", slices.Collect(maps.Keys(missing)))
		}
		for action := range missing {
			var audit struct{ Entries []struct{ Actor string } }
			if err := visitor.ask(ctx, http.MethodGet, "/audit", url.Values{"action": {action}}, nil, &audit); err == nil && len(audit.Entries) > 0 {
				delete(missing, action)
			}
		}
	}
	endpoints, err := visitor.Endpoints(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range demoCustomers {
		if !slices.ContainsFunc(endpoints, func(e relay.EndpointStatus) bool { return e.Name == c.name }) {
			t.Errorf("there is no endpoint %s", c.name)
		}
	}

	stop() // as Ctrl-C does
	if err := <-ended; err != nil {
		t.Fatalf("the demo ended with %v:\n%s", err, stderr)
	}
	var s demoSummary
	if err := json.Unmarshal([]byte(stdout.String()), &s); err != nil || !s.OK || s.Committed == 0 || s.Delivered != s.Committed || s.Unexpected+s.Duplicates > 0 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestDemoHasNoAPIUnlessItIsWatched(t *testing.T) {
	cfg, err := demoConfig(t.Context(), "postgres://127.0.0.1/demo", "http://127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.HTTP.Tokens) > 0 || len(cfg.Ledger.EncryptionKeys) > 0 {
		t.Errorf("got %d tokens and %d keys", len(cfg.HTTP.Tokens), len(cfg.Ledger.EncryptionKeys))
	}
}

func TestDemoSaysInOneLineThatPostgresIsMissing(t *testing.T) {
	t.Setenv("POSTHORN_POSTGRES_BIN", t.TempDir())
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), &globals{stdout: &stdout, stderr: &stderr}, []string{"demo"})
	_, problem, _ := strings.Cut(stderr.String(), "posthorn: ")
	if code != exitFailed || strings.Count(problem, "\n") != 1 || !strings.Contains(problem, "POSTHORN_POSTGRES_BIN") {
		t.Errorf("got exit code %d and %q", code, stderr.String())
	}
}

// TestTrackerFindsWhatWentWrong sends a tracker what a broken relay would.
func TestTrackerFindsWhatWentWrong(t *testing.T) {
	const byro, danbyte = 0, 1
	tests := []struct {
		name    string
		play    func(t *testing.T, tr *tracker)
		want    demoSummary // what it has beside one committed event
		problem string
	}{
		{"nothing", func(*testing.T, *tracker) {}, demoSummary{Missing: 1}, "1 deliveries of committed events did not arrive"},
		{"it arrives", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), true)
		}, demoSummary{Delivered: 1}, ""},
		{"it arrives after a failure, twice", func(t *testing.T, tr *tracker) {
			for _, accepted := range []bool{false, true, true} {
				tr.arrived(byro, idOf(t, 0), accepted)
			}
		}, demoSummary{Delivered: 1, Retried: 1, FailedAttempts: 1, Duplicates: 1}, ""},
		{"it fails only", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), false)
		}, demoSummary{FailedAttempts: 1, Missing: 1}, "did not arrive"},
		{"elsewhere", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), true)
			tr.arrived(danbyte, idOf(t, 0), true)
		}, demoSummary{Delivered: 1, Unexpected: 1}, "1 requests arrived that nobody wanted"},
		{"of an unknown event", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), true)
			tr.arrived(byro, "", true)
			tr.arrived(byro, idOf(t, 7), true)
		}, demoSummary{Delivered: 1, Unexpected: 2}, "nobody wanted"},
		{"a rolled back event", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), true)
			write(t, tr, "acme", "pr.closed")
			write(t, tr, "acme", "pr.closed")
			tr.arrived(byro, idOf(t, 1), false) // before
			tr.rolledBack([]uint64{1, 2})
			tr.arrived(byro, idOf(t, 2), true) // and after
		}, demoSummary{Delivered: 1, FailedAttempts: 1, RolledBack: 2, RolledBackArrived: 2}, "2 events arrived although they were rolled back"},
		{"a wrong signature", func(t *testing.T, tr *tracker) {
			tr.arrived(byro, idOf(t, 0), true)
			tr.wrongSignature()
		}, demoSummary{Delivered: 1, WrongSignatures: 1}, "1 requests had a wrong signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTracker([]config.Endpoint{
				{Tenant: "acme", Events: []string{"pr.*"}, Enabled: true},
				{Objects: []string{"*"}, Triggers: []string{"create"}, Enabled: true},
				{Events: []string{"*"}}, // disabled
			})
			number := write(t, tr, "acme", "pr.submitted")
			tr.committing([]uint64{number}, time.Now())
			tr.committed([]uint64{number})
			tt.play(t, tr)

			got := tr.summarize(0)
			problem := got.problem()
			if (problem == nil) != (tt.problem == "") || problem != nil && !strings.Contains(problem.Error(), tt.problem) {
				t.Errorf("got problem %v, want %q", problem, tt.problem)
			}
			want := tt.want
			want.Events, want.Transactions, want.Committed, want.OK = len(tr.events), 1, 1, problem == nil
			want.Latency, want.EventsPerSecond = got.Latency, got.EventsPerSecond
			if got != want {
				t.Errorf("\ngot  %+v\nwant %+v", got, want)
			}
			if free := tr.room.TryAcquire(maxOpen); free != (want.Missing == 0) {
				t.Errorf("all room is free: %t, with %d missing", free, want.Missing)
			}
		})
	}
}

// idOf returns an event id of this number.
func idOf(t *testing.T, number uint64) string {
	t.Helper()
	id, err := numberedID(number)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func write(t *testing.T, tr *tracker, tenant, eventType string) (number uint64) {
	t.Helper()
	if !tr.room.TryAcquire(1) {
		t.Fatal("no room")
	}
	id, number, err := tr.write(tenant, eventType)
	if got, ok := numberOf(id); err != nil || !ok || got != number {
		t.Fatalf("got id %q of number %d, %v", id, number, err)
	}
	return number
}

func TestHistogramQuantilesAreWithinTwoPercent(t *testing.T) {
	var h histogram
	if got := h.quantile(0.99); got != 0 {
		t.Errorf("empty: got %v", got)
	}
	for i := 1; i <= 10_000; i++ {
		h.observe(time.Duration(i) * time.Millisecond)
	}
	for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
		if got, want := h.quantile(q), q*10_000; math.Abs(got-want) > 0.02*want {
			t.Errorf("quantile %v: got %v ms, want %v ms within 2 %%", q, got, want)
		}
	}
}

func TestLogTailKeepsWholeLinesOfTheEnd(t *testing.T) {
	var l logTail
	for range maxLogTail {
		_, _ = l.Write([]byte("abc\n"))
	}
	if got := l.String(); len(got) < maxLogTail-8 || len(got) > maxLogTail || strings.Trim(strings.ReplaceAll(got, "abc\n", ""), "\n") != "" {
		t.Errorf("got %d bytes beginning with %q", len(got), got[:min(10, len(got))])
	}
}

func TestDemoConfigHasAllCataloguesAndLeavesNoFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	cfg, err := demoConfig(t.Context(), "postgres://127.0.0.1/demo", "http://127.0.0.1:1", newDemoTokens())
	if err != nil {
		t.Fatal(err)
	}
	enabled := 0
	for i := range cfg.Endpoints {
		if cfg.Endpoints[i].Enabled {
			enabled++
		}
	}
	if enabled != len(demoProducts) {
		t.Errorf("got %d enabled endpoints, want one for each of %d products", enabled, len(demoProducts))
	}
	types := map[string]bool{}
	for _, e := range cfg.Events {
		product, _, _ := strings.Cut(e.Type, ".")
		types[product] = true
	}
	for _, product := range []string{"pr", "device", "connector", "leave_request"} {
		if !types[product] {
			t.Errorf("the catalogue has no type of %s", product)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
