package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay"
)

func TestDeliveryIsShownWithWhatComesNextOrWentWrong(t *testing.T) {
	due := time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC)
	tests := []struct {
		name     string
		delivery relay.Delivery
		want     string // the row; "" for none of the kind
	}{
		{"failed", relay.Delivery{State: "failed", Error: "answered 500"}, "error      answered 500"},
		{"pending after a failure", relay.Delivery{State: "pending", DueAt: &due, Reason: "retry", Error: "answered 500"}, "next       due 2026-05-22 09:30:00Z; retry; answered 500"},
		{"pending behind another", relay.Delivery{State: "pending"}, "next       waits for an earlier event of its key"},
		{"skipped", relay.Delivery{State: "skipped", Reason: "filter"}, "reason     filter"},
		{"delivered", relay.Delivery{State: "delivered"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			g := &globals{stdout: &out}
			if err := g.printDetail(&relay.DeliveryDetail{Delivery: tt.delivery}); err != nil {
				t.Fatal(err)
			}
			var rows []string
			for line := range strings.Lines(out.String()) {
				if name, _, _ := strings.Cut(line, " "); name == "next" || name == "error" || name == "reason" {
					rows = append(rows, strings.TrimRight(line, "\n"))
				}
			}
			if got := strings.Join(rows, "\n"); got != tt.want {
				t.Errorf("got %q, want %q in\n%s", got, tt.want, out.String())
			}
		})
	}
}

// TestRetryOfADeliveryWithoutARequest is of one whose transform failed: no
// request was rendered, so that none can have been lost.
func TestRetryOfADeliveryWithoutARequest(t *testing.T) {
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	const text = `
database: {url: "${DATABASE_URL}"}
source: {slot: retry, publication: retry}
endpoints: [{name: a, id: 0198f1d2-0000-7000-8000-00000000000a, url: "https://a.example/", events: ["*"]}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, args ...string) string {
		var out, errs bytes.Buffer
		g := &globals{stdout: &out, stderr: &errs, env: []string{"DATABASE_URL=" + url}}
		if code := execute(ctx, g, append(args, "--config", file)); code != exitOK {
			t.Errorf("posthorn %v ended with %d:\n%s%s", args, code, out.String(), errs.String())
		}
		return out.String()
	}
	run(t.Context(), "init")
	defer run(context.Background(), "uninstall", "--schema", "--yes")
	run(t.Context(), "endpoints", "resume", "a") // the ledger knows it now
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	const id = "0198f1d2-0000-7000-8000-000000000001"
	_, err = conn.Exec(t.Context(), `
CREATE TABLE posthorn.deliveries_any PARTITION OF posthorn.deliveries DEFAULT; -- a relay makes one for each day
INSERT INTO posthorn.deliveries (created_at, id, endpoint_id, event_id, type, lsn, index, state, attempts, error, finished_at, payload)
VALUES (now(), '`+id+`', '0198f1d2-0000-7000-8000-00000000000a', gen_random_uuid(), 'a.b', '0/1', 0, 'failed', 1, 'transform: transforms[0] (plugin p): no luck', now(), '{}')`)
	if err != nil {
		t.Fatal(err)
	}
	want := id + ": due now; the ledger has no request of it: it is transformed and rendered again\n"
	if got := run(t.Context(), "deliveries", "retry", id); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
