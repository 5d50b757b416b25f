package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

const withKeys = `
ledger: {encryption_keys: ["${KEY}"]}
http:
  tokens: [{name: ops, role: operator, token: "` + apiToken + `"}]
endpoints:
  - {name: plain, url: "${RECEIVER}/plain", events: ["*"], secret: "${SECRET}"}
`

// change asks the relay's API to change an endpoint and wants this status.
func (r *relay) change(t *testing.T, method, path, body string, want int) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.waitLog("posthorn starts", 1).Listen+"/api/v1"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+apiToken)
	q.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != want {
		t.Fatalf("%s %s answers %d %s, %v", method, path, res.StatusCode, text, err)
	}
}

// TestEndpointMadeOnAStandbyGetsWhatCommitsFromThenOn: while events are written
// without a break, an endpoint is made, moved and deleted through the API of the
// relay that waits, and the relay that delivers is killed in between. Each event
// that committed while the endpoint was there arrives, and none from before or
// after.
func TestEndpointMadeOnAStandbyGetsWhatCommitsFromThenOn(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/plain", "/made", "/moved")
	env := "KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	start := func() *relay { return startRelayWith(t, db, rcv, withKeys, env) }
	active := start()
	active.waitReady()
	standby := start()
	standby.waitLog(msgStandby, 1)

	// The events' numbers are given when their transactions end, one after the other.
	var newest atomic.Int64
	writing, written := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-writing:
				written <- nil
				return
			default:
			}
			if err := (bulk{From: n, To: n}).insert(t.Context(), db.pool); err != nil {
				written <- err
				return
			}
			newest.Store(int64(n))
		}
	}()
	passes := func(n int) int { // waits for n more events and returns the newest's number
		t.Helper()
		goal := newest.Load() + int64(n)
		eventually(t, time.Minute, func() error {
			if got := newest.Load(); got < goal {
				return fmt.Errorf("event %d is written, waiting for %d", got, goal)
			}
			return nil
		})
		return int(goal)
	}

	beforeMade := passes(50)
	standby.change(t, "POST", "/endpoints", fmt.Sprintf(`{"name": "made", "url": "%s/made", "events": ["*"], "secret": %q}`, rcv.url(), secret), http.StatusCreated)
	afterMade := passes(1)
	passes(100)
	active.kill()
	passes(100) // of which the standby takes over some
	rcv.endpoints["/plain"].waitSome(afterMade + 150)
	toMove := passes(1)
	eventually(t, time.Minute, func() error { return missing(rcv.endpoints["/made"], afterMade+1, toMove) }) // an edit applies to what was not read, too
	standby.change(t, "PATCH", "/endpoints/made", fmt.Sprintf(`{"url": "%s/moved"}`, rcv.url()), http.StatusOK)
	afterMoved := passes(1)
	toDelete := passes(100)
	eventually(t, time.Minute, func() error { return missing(rcv.endpoints["/moved"], afterMoved+1, toDelete) })
	standby.change(t, "DELETE", "/endpoints/made", "", http.StatusOK)
	afterDeleted := passes(1)
	last := passes(100)
	close(writing)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	rcv.endpoints["/plain"].waitDelivered(int(newest.Load()), time.Minute)
	for path, outside := range map[string][2]int{"/made": {beforeMade, afterMoved + 1}, "/moved": {toMove - 1, afterDeleted + 1}} {
		ep := rcv.endpoints[path]
		got := map[int]bool{}
		for n := 1; n <= last; n++ {
			got[n] = true
		}
		for _, n := range ep.undelivered(last) {
			delete(got, n)
		}
		for n := range got {
			if n <= outside[0] || n >= outside[1] {
				t.Errorf("%s got event %d, which is not of its time", path, n)
			}
		}
		t.Logf("%s got %d events", path, len(got))
	}
}

// missing returns an error while one of the events from to to was not delivered.
func missing(ep *endpoint, from, to int) error {
	for _, n := range ep.undelivered(to) {
		if n >= from {
			return fmt.Errorf("%s: event %d is missing", ep.path, n)
		}
	}
	return nil
}
