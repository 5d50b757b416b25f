package integration

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/posthorn/posthorn/integration/postgres"
)

// newServer returns a server of the test's own.
func newServer(t *testing.T, settings map[string]string) *postgres.Server {
	t.Helper()
	s, err := postgres.Start(t.Context(), postgres.Options{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const loadConfig = `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
  - {name: b, url: "${RECEIVER}/b", events: ["*"], secret: "${SECRET}", ordering: key}
`

// load inserts small transactions of events numbered from from until stop is
// called, through failures of the server, of which no number is used again.
func load(t *testing.T, db *database, from int) (stop func() (tried, failed int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	tried, failed := 0, 0
	go func() {
		defer close(done)
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// The statement itself is not cancelled: whether it was committed
			// is asked later.
			if (bulk{From: from + 5*tried, To: from + 5*tried + 4}).insert(context.WithoutCancel(ctx), db.pool) != nil {
				failed++
			}
			tried++
		}
	}()
	return func() (int, int) {
		cancel()
		<-done
		return tried, failed
	}
}

// checkCommitted fails the test unless exactly the events that the outbox
// holds were delivered.
func checkCommitted(t *testing.T, db *database, e *endpoint) (n int) {
	t.Helper()
	rows, err := db.pool.Query(t.Context(), `SELECT (payload->>'n')::int FROM posthorn.outbox ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var committed []int
	for rows.Next() {
		var number int
		if err := rows.Scan(&number); err != nil {
			t.Fatal(err)
		}
		committed = append(committed, number)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	eventually(t, time.Minute, func() error {
		return sameNumbers(committed, e.delivered())
	})
	return len(committed)
}

func TestPostgresCrashesUnderLoad(t *testing.T) {
	s := newServer(t, serverSettings("on"))
	db, rcv := newDatabaseOn(t, s), newReceiver(t, "/a", "/b")
	r := startRelay(t, db, rcv, loadConfig)
	r.waitReady()
	stop := load(t, db, 1)
	crashes := max(2, scaled(10))
	for i := range crashes {
		enough := rcv.endpoints["/a"].counts().Delivered + 500
		eventually(t, time.Minute, func() error { return atLeast(rcv.endpoints["/a"].counts().Delivered, enough) })
		if err := s.Crash(); err != nil {
			t.Fatal(err)
		}
		r.waitLog("stream lost, reconnecting", i+1)
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		up := time.Now()
		r.waitLog("stream resumed", i+1)
		t.Logf("FIGURE the stream was back %.1fs after Postgres was, crash %d", time.Since(up).Seconds(), i+1)
	}
	tried, failed := stop()
	for _, path := range []string{"/a", "/b"} {
		e := rcv.endpoints[path]
		n := checkCommitted(t, db, e)
		t.Logf("FIGURE %d crashes of Postgres: %d transactions tried, %d failed, %d events committed and delivered to %s, %d duplicates",
			crashes, tried, failed, n, path, e.counts().Duplicates)
	}
}

func TestPostgresShutsDownFastWithRelayConnected(t *testing.T) {
	const limit = 15 * time.Second
	s := newServer(t, serverSettings("off"))
	db, rcv := newDatabaseOn(t, s), newReceiver(t, "/a", "/b")
	r := startRelay(t, db, rcv, loadConfig)
	r.waitReady()

	restart := func(how string, times int) {
		t.Helper()
		started := time.Now()
		if err := s.Restart(t.Context()); err != nil { // shuts down fast, then starts
			t.Fatal(err)
		}
		took := time.Since(started)
		t.Logf("FIGURE Postgres restarted in %.1fs %s", took.Seconds(), how)
		if took > limit {
			t.Errorf("a fast shutdown and a start took %s %s", took, how)
		}
		r.waitLog("stream resumed", times)
	}
	restart("with an idle relay", 1)

	// What is in flight keeps the relay from confirming what it was sent.
	release := make(chan struct{})
	rcv.endpoints["/b"].answers(func(*request) int {
		<-release
		return http.StatusOK
	})
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	db.waitDeliveries(t, "delivered", 1) // to /a; nothing is left to be recorded
	eventually(t, time.Minute, func() error { return atLeast(rcv.endpoints["/b"].counts().Requests, 1) })
	restart("with a request in flight", 2)
	close(release)

	stop := load(t, db, 2)
	eventually(t, time.Minute, func() error { return atLeast(rcv.endpoints["/a"].counts().Delivered, 500) })
	restart("under load", 3)
	enough := rcv.endpoints["/a"].counts().Delivered + 500
	eventually(t, time.Minute, func() error { return atLeast(rcv.endpoints["/a"].counts().Delivered, enough) })
	stop()
	for _, path := range []string{"/a", "/b"} {
		e := rcv.endpoints[path]
		n := checkCommitted(t, db, e)
		if d := e.counts().Duplicates; d != 0 {
			t.Errorf("%s: %d of %d events arrived again although the relay lived on", path, d, n)
		}
	}
}
