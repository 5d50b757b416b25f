package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

const (
	todaysTransforms = `
database: {url: "${DATABASE_URL}"}
source: {slot: transform}
transforms:
  - {match: ["pr.*"], filter: payload.amount > 10}
`
	changedTransforms = todaysTransforms + `
  - {match: [pr.submitted], remove: [ssn]}
  - {match: [pr.paid], filter: payload.paid > 1}
`
	recentEvents = `
INSERT INTO posthorn.outbox (id, type, key, payload) VALUES
  ('0198f1d2-0000-7000-8000-000000000001', 'pr.submitted', 'k', '{"amount": 20, "ssn": "123"}'),
  ('0198f1d2-0000-7000-8000-000000000002', 'pr.submitted', NULL, '{"amount": 30}'),
  ('0198f1d2-0000-7000-8000-000000000003', 'pr.submitted', NULL, '{"amount": 1}'),
  ('0198f1d2-0000-7000-8000-000000000004', 'pr.paid', NULL, '{"amount": 20, "paid": 1}');`
	failingEvent = `INSERT INTO posthorn.outbox (id, type, payload) VALUES ('0198f1d2-0000-7000-8000-000000000005', 'pr.paid', '{"amount": 20, "paid": "hunter2"}')`

	comparedText = `4 events of the last 1h

TYPE          EVENTS  SAME  DIFFER  SKIPPED    FAILED
pr.paid       1       0     0       1          0
pr.submitted  3       1     1       1 (0 new)  0

pr.paid, event 0198f1d2-0000-7000-8000-000000000004
--- before
+++ after
@@ -1,6 +1,1 @@
-type: pr.paid
-
-{
-  "amount": 20,
-  "paid": 1
-}
+skipped: transforms[2] (filter): filter is false

pr.submitted, event 0198f1d2-0000-7000-8000-000000000001
--- before
+++ after
@@ -1,6 +1,5 @@
 type: pr.submitted
 
 {
-  "amount": 20,
-  "ssn": "123"
+  "amount": 20
 }
`
)

// transforming is a database with an outbox, and two configurations.
type transforming struct {
	conn           *pgx.Conn
	env            []string
	today, changed string // the configurations' files
}

func newTransforming(t *testing.T) *transforming {
	t.Helper()
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &transforming{env: []string{"DATABASE_URL=" + url}, today: filepath.Join(t.TempDir(), "today.yaml"), changed: filepath.Join(t.TempDir(), "changed.yaml")}
	for name, text := range map[string]string{c.today: todaysTransforms, c.changed: changedTransforms} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.conn, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.run(context.Background(), t, exitOK, "uninstall", "--config", c.today, "--yes")
		_ = c.conn.Close(context.Background())
	})
	c.run(t.Context(), t, exitOK, "init", "--config", c.today)
	c.exec(t, recentEvents)
	return c
}

func (c *transforming) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := c.conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// run returns what posthorn prints, and fails the test unless it ends with code.
func (c *transforming) run(ctx context.Context, t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	g := &globals{stdout: &out, stderr: &errs, env: c.env}
	if got := execute(ctx, g, args); got != code {
		t.Errorf("posthorn %v ended with %d:\n%s%s", args, got, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func TestTransformOfOutboxRows(t *testing.T) {
	c := newTransforming(t)
	out, _ := c.run(t.Context(), t, exitOK, "transform", "--config", c.changed, "--event", "0198f1d2-0000-7000-8000-000000000001")
	if !strings.HasPrefix(out, "event 0198f1d2-0000-7000-8000-000000000001, type pr.submitted, key k\n") || !strings.Contains(out, "\n-  \"ssn\": \"123\"\n") {
		t.Errorf("it prints:\n%s", out)
	}
	_, errs := c.run(t.Context(), t, exitFailed, "transform", "--config", c.changed, "--event", "0198f1d2-0000-7000-8000-000000000009")
	if errs != "posthorn: event 0198f1d2-0000-7000-8000-000000000009: no such row in the outbox\n" {
		t.Errorf("it says: %s", errs)
	}

	// What differs from what is done today.
	out, errs = c.run(t.Context(), t, exitOK, "transform", "--config", c.changed, "--all-since", "1h", "--against", c.today)
	if out != comparedText || errs != "" {
		t.Errorf("it prints:\n%s\nand says: %s", out, errs)
	}
	out, _ = c.run(t.Context(), t, exitOK, "transform", "--config", c.changed, "--all-since", "1h", "--show", "0", "--limit", "3")
	if !strings.HasPrefix(out, "3 events of the last 1h, the newest: --limit 3 leaves older ones out\n") || strings.Contains(out, "---") {
		t.Errorf("it prints:\n%s", out)
	}

	// What fails now, and did not before, is a failure; it is none where it did.
	c.exec(t, failingEvent)
	out, errs = c.run(t.Context(), t, exitFailed, "transform", "--config", c.changed, "--all-since", "1h", "--against", c.today)
	if !strings.Contains(out, "\n+failed (for good): transforms[2] (filter): ") || errs != "posthorn: 1 failed event did not fail before\n" {
		t.Errorf("it prints:\n%s\nand says: %s", out, errs)
	}
	out, _ = c.run(t.Context(), t, exitOK, "transform", "--config", c.changed, "--all-since", "1h", "--against", c.changed)
	if !strings.Contains(out, "\npr.paid       2       0     0       1 (0 new)  1 (0 new)\n") || strings.Contains(out, "---") {
		t.Errorf("it prints:\n%s", out)
	}

	out, _ = c.run(t.Context(), t, exitFailed, "transform", "--config", c.changed, "--all-since", "1h", "--output", "json")
	var result struct {
		OK     bool
		Events int
		Types  []struct {
			Type         string
			Failed, Same int
			NewlyFailed  int `json:"newly_failed"`
			Examples     []struct {
				Before, After struct {
					Payload        json.RawMessage
					Skipped, Error string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.OK || result.Events != 5 || len(result.Types) != 2 || result.Types[0].NewlyFailed != 1 ||
		len(result.Types[0].Examples) != 2 || !strings.HasPrefix(result.Types[0].Examples[0].After.Error, "transforms[2]") || result.Types[0].Examples[1].After.Skipped == "" {
		t.Errorf("it prints %s: %v", out, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, errs = c.run(ctx, t, exitFailed, "transform", "--config", c.changed, "--all-since", "1h"); errs != "posthorn: interrupted\n" {
		t.Errorf("interrupted, it says: %s", errs)
	}
}

func TestDiffsAreColoredByLine(t *testing.T) {
	const unified = "--- before\n+++ after\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n"
	if got := painted(unified, false); got != unified {
		t.Errorf("without colour it is %q", got)
	}
	want := "\x1b[1m--- before\x1b[0m\n\x1b[1m+++ after\x1b[0m\n\x1b[36m@@ -1,2 +1,2 @@\x1b[0m\n same\n\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n"
	if got := painted(unified, true); got != want {
		t.Errorf("with colour it is %q", got)
	}
}

func TestProgressBarFitsTheTerminal(t *testing.T) {
	tests := []struct {
		done, total, width int
		want               string
	}{
		{0, 1000, 79, "[........................................] 0 of 1000 events"},
		{256, 1000, 79, "[##########..............................] 256 of 1000 events"},
		{1000, 1000, 30, "[########] 1000 of 1000 events"},
		{5, 10, 20, "5 of 10 events"},
		{5, 10, 8, "5 of 10 "},
		{0, 0, 79, "[########################################] 0 of 0 events"},
	}
	for _, tt := range tests {
		if got := barLine(tt.done, tt.total, tt.width); got != tt.want || len(got) > tt.width {
			t.Errorf("%d of %d in %d columns: got %q", tt.done, tt.total, tt.width, got)
		}
	}
}

func TestProgressBarIsForTerminals(t *testing.T) {
	var out bytes.Buffer
	b := newProgressBar(&out)
	b.show(1, 2)
	b.clear()
	if out.Len() > 0 {
		t.Errorf("without a terminal it prints %q", out.String())
	}
	b.width = func() int { return 80 }
	b.show(1, 2)
	b.show(2, 2) // at once: too soon for another picture
	b.clear()
	if want := "\r\x1b[K[####################....................] 1 of 2 events\r\x1b[K"; out.String() != want {
		t.Errorf("on a terminal it prints %q, want %q", out.String(), want)
	}
}
