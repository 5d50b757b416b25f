package integration

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

const msgStandby = "another relay holds the slot, waiting to take over"

// pair is two relays on one slot, a and b, which the receiver and the ledger
// can tell apart, and its one endpoint.
type pair struct {
	t     *testing.T
	db    *database
	rcv   *receiver
	plain *endpoint

	mu    sync.Mutex
	sent  map[string]int       // requests by relay
	first map[string]time.Time // when its first came since it was forgotten
}

// concurrency is how many requests of a pair's relay are in flight at most.
const concurrency = 16

func newPair(t *testing.T) *pair {
	p := &pair{t: t, db: newDatabase(t), rcv: newReceiver(t, "/plain"), sent: map[string]int{}, first: map[string]time.Time{}}
	p.plain = p.rcv.endpoints["/plain"]
	p.plain.answers(func(q *request) int {
		name := q.Header.Get("X-Relay")
		p.mu.Lock()
		if p.sent[name]++; p.first[name].IsZero() {
			p.first[name] = time.Now()
		}
		p.mu.Unlock()
		return after(q.Context(), 10*time.Millisecond, http.StatusOK)
	})
	return p
}

// start starts the relay of that name.
func (p *pair) start(name string) *relay {
	p.t.Helper()
	db := *p.db
	db.url += "&application_name=" + name
	return startRelay(p.t, &db, p.rcv, fmt.Sprintf(`
endpoints:
  - name: plain
    url: ${RECEIVER}/plain
    events: ["*"]
    secret: ${SECRET}
    concurrency: %d
    headers: {X-Relay: %s}
`, concurrency, name))
}

// audit has the database note which relay changes what the ledger holds.
func (p *pair) audit() {
	p.t.Helper()
	p.db.exec(p.t, `CREATE TABLE public.changes (by text)`)
	p.db.exec(p.t, `CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.changes VALUES (current_setting('application_name')); RETURN NULL; END $$`)
	for _, table := range []string{"deliveries", "pending", "relay"} {
		p.db.exec(p.t, `CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON posthorn.`+table+` FOR EACH ROW EXECUTE FUNCTION public.note()`)
	}
}

// recorded returns how often the relay changed the ledger.
func (p *pair) recorded(name string) int {
	p.t.Helper()
	return p.db.count(p.t, `SELECT count(*) FROM public.changes WHERE by = $1`, name)
}

// requests returns how many requests the relay has made.
func (p *pair) requests(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent[name]
}

// forget has the relay's next request count as its first.
func (p *pair) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.first, name)
}

// waitFirst returns when the relay's first request came, once it has.
func (p *pair) waitFirst(name string) time.Time {
	p.t.Helper()
	var at time.Time
	eventually(p.t, time.Minute, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at = p.first[name]; at.IsZero() {
			return fmt.Errorf("relay %s has made no request", name)
		}
		return nil
	})
	return at
}

// load writes the events from to to, a few at a time, and calls disturb when a
// third of them was delivered. It returns once all are written.
func (p *pair) load(from, to int, disturb func()) {
	p.t.Helper()
	written := make(chan error)
	go func() {
		_, err := p.db.write(p.t.Context(), bulk{From: from, To: to}, 5)
		written <- err
	}()
	goal := from + (to-from)/3
	eventually(p.t, time.Minute, func() error {
		if got := p.plain.counts().Delivered; got < goal {
			return fmt.Errorf("%d events delivered, waiting for %d", got, goal)
		}
		return nil
	})
	disturb()
	if err := <-written; err != nil {
		p.t.Fatal(err)
	}
}

func TestStandbyTakesOverWhenTheRelayIsKilled(t *testing.T) {
	const limit = 10 * time.Second
	n := scaled(10_000)
	p := newPair(t)
	a := p.start("a")
	a.waitReady()
	b := p.start("b")
	b.waitLog(msgStandby, 1)
	if roles := [2]string{a.role(), b.role()}; roles != [2]string{"active", "standby"} {
		t.Errorf("roles: got %v, want active and standby", roles)
	}

	var killed time.Time
	p.load(1, n, func() {
		if got := p.requests("b"); got != 0 {
			t.Errorf("the standby made %d requests", got)
		}
		killed = time.Now()
		a.kill()
	})
	took := p.waitFirst("b").Sub(killed)
	if took > limit {
		t.Errorf("the standby delivered %s after the kill, want within %s", took, limit)
	}
	p.plain.waitDelivered(n, time.Minute)
	waitSettled(t, p.db)
	checkLedger(t, p.db, n+1) // and the marker
	if role := b.role(); role != "active" {
		t.Errorf("role: got %s, want active", role)
	}
	t.Logf("FIGURE standby: delivered %s after the kill; %d events, 0 lost, %d duplicates", took.Round(time.Millisecond), n, p.plain.counts().Duplicates)
}

func TestRelayThatWasPausedSendsAndRecordsNothing(t *testing.T) {
	const walSenderTimeout = 8 * time.Second // as the relay sets it
	n := scaled(6_000)
	p := newPair(t)
	a := p.start("a")
	a.waitReady()
	p.audit()
	b := p.start("b")
	b.waitLog(msgStandby, 1)

	// a stands still amid its requests, with more to send, until b has taken over.
	var paused time.Time
	waiting := 0.0
	p.load(1, n, func() {
		eventually(t, 10*time.Second, func() error {
			if waiting = a.metrics()[`posthorn_waiting{endpoint="plain"}`]; waiting == 0 {
				return errors.New("nothing waits in a")
			}
			return nil
		})
		paused = time.Now()
		a.pause()
	})
	b.waitReady()
	sent, recorded := p.requests("a"), p.recorded("a")
	p.plain.waitDelivered(n, time.Minute)
	// The server counts from what a said last, up to a second before its pause.
	eventually(t, walSenderTimeout, func() error {
		if time.Since(paused) <= walSenderTimeout {
			return errors.New("a was not paused for as long as wal_sender_timeout")
		}
		return nil
	})
	stood := time.Since(paused)

	// a goes on while b delivers.
	a.resume()
	p.load(n+1, 2*n, func() {})
	a.waitLog("another relay", 1)
	eventually(t, 30*time.Second, func() error {
		if role := a.role(); role != "standby" {
			return fmt.Errorf("a is %s", role)
		}
		return nil
	})
	p.plain.waitDelivered(2*n, time.Minute)
	late := p.requests("a") - sent
	if late != 0 {
		t.Errorf("a sent %d requests after it was resumed", late)
	}
	if got := p.recorded("a"); got != recorded {
		t.Errorf("a changed the ledger %d times after b took over", got-recorded)
	}

	// b is killed, and a takes over again.
	p.forget("a")
	sent, recorded = p.requests("a"), p.recorded("a")
	var killed time.Time
	p.load(2*n+1, 3*n, func() {
		killed = time.Now()
		b.kill()
	})
	back := p.waitFirst("a").Sub(killed)
	if back > 10*time.Second {
		t.Errorf("a delivered %s after b was killed", back)
	}
	p.plain.waitDelivered(3*n, time.Minute)
	waitSettled(t, p.db)
	checkLedger(t, p.db, 3*n+1) // and the marker
	if p.requests("a") == sent || p.recorded("a") == recorded {
		t.Error("a did not deliver what b left")
	}
	t.Logf("FIGURE paused for %s with %.0f deliveries waiting while a standby took over, then resumed: %d requests and 0 records until it had the slot again, which took %s from the standby's kill; %d events, 0 lost, %d duplicates",
		stood.Round(time.Millisecond), waiting, late, back.Round(time.Millisecond), 3*n, p.plain.counts().Duplicates)
}
