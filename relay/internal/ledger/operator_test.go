package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// retryOf returns a Retry of an endpoint that takes it, with an outbox that is
// empty.
func retryOf(id uuid.UUID, ordered bool) Retry {
	return Retry{
		ID: id, Actor: Actor{Name: "cli:test"},
		Endpoint: func(uuid.UUID) (bool, error) { return ordered, nil },
		Original: func(context.Context, uuid.UUID) (Original, error) { return Original{}, errGone },
	}
}

var errGone = errors.New("gone from the outbox")

// rendered returns a failed record with its request and a second attempt.
func rendered(n int) *Record {
	r := newRecord(n, Failed)
	r.Attempts, r.Status, r.Error = 2, 500, "answered 500"
	r.Event.Key, r.Event.Tenant = "k", "t1"
	r.Request = &Request{Method: "PUT", Headers: [][2]string{{"B", "2"}, {"A", "1"}}, Body: []byte(`{"rendered": true}`)}
	r.Attempt = &Attempt{
		Number: 2, StartedAt: committed.Add(time.Minute), Outcome: "rejected", Status: 500, Error: "answered 500", Response: []byte("no\x00\xff"),
		DNS: 1 * time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, FirstByte: 4 * time.Millisecond, Total: 5 * time.Millisecond,
	}
	return r
}

// filled returns a ledger with a delivery in each of four states, the newest
// first.
func filled(t *testing.T) (*Ledger, []*Record) {
	t.Helper()
	l := acquire(t, open(t))
	if _, err := l.SyncEndpoints(t.Context(), []Endpoint{{ID: endpointID, Name: "erp", URL: "https://erp.example"}}); err != nil {
		t.Fatal(err)
	}
	records := []*Record{newRecord(1, Pending), newRecord(2, Sending), newRecord(3, Delivered), rendered(4)}
	records[0].Wait = time.Hour
	for i, r := range records {
		r.Event.CommittedAt = committed.Add(-time.Duration(i) * time.Hour)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	return l, records
}

func TestShowReturnsAllThatIsKept(t *testing.T) {
	l, records := filled(t)
	r := records[3]
	d, err := l.Show(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d.FinishedAt == nil {
		t.Error("no time of its end")
	}
	d.FinishedAt = nil
	d.CreatedAt, d.Tries[0].StartedAt = d.CreatedAt.UTC(), d.Tries[0].StartedAt.UTC()
	want := &Detail{
		Delivery: Delivery{
			ID: r.ID, State: Failed, Endpoint: "erp", EndpointID: endpointID, Event: r.Event.ID, Type: "t", Tenant: "t1", Key: "k",
			CreatedAt: r.Event.CommittedAt, Attempts: 2, Status: 500, Error: "answered 500",
		},
		Request: r.Request, Payload: r.Event.Payload, Tries: []Attempt{*r.Attempt}, BodyBytes: int64(len(r.Request.Body)), PayloadBytes: int64(len(r.Event.Payload)),
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	if _, err := l.Show(t.Context(), uuid.New()); !errors.Is(err, ErrUnknownDelivery) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestRetryOfAFinalDeliveryMakesItPendingAsItWas(t *testing.T) {
	l, records := filled(t)
	r := records[3]
	touched := `SELECT updated_at::text FROM posthorn.endpoints`
	before := texts(t, l.pool, touched)
	again, err := l.Retry(t.Context(), retryOf(r.ID, true))
	if err != nil || again {
		t.Fatalf("rendered again: %t, %v", again, err)
	}
	page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Ordered: true, Rows: 10, Bytes: 1 << 20})
	if err != nil || len(page.Deliveries) != 1 {
		t.Fatalf("claimed %+v, %v", page.Deliveries, err)
	}
	got := page.Deliveries[0]
	hash, _ := r.Event.KeyHash()
	if got.ID != r.ID || got.Attempts != 2 || got.KeyHash == nil || *got.KeyHash != hash || string(got.Event.Payload) != string(r.Event.Payload) {
		t.Errorf("claimed %+v of %+v", got, got.Event)
	}
	if diff := cmp.Diff(r.Request, got.Request); diff != "" {
		t.Errorf("request differs (-want +got):\n%s", diff)
	}
	if got.Event.Position != r.Event.Position || !got.Event.CommittedAt.Equal(r.Event.CommittedAt) || !got.Event.CreatedAt.Equal(r.Event.CreatedAt) || got.Event.Invalid != "" {
		t.Errorf("claimed event %+v, not %+v", got.Event, r.Event)
	}
	if n := texts(t, l.pool, `SELECT count(*)::text FROM posthorn.deliveries WHERE id = $1`, r.ID); n[0] != "0" {
		t.Error("it is final, too")
	}
	if after := texts(t, l.pool, touched); after[0] == before[0] {
		t.Error("the running relay was not told")
	}
	if audit := texts(t, l.pool, `SELECT concat_ws(' ', actor, action, subject, detail->>'was') FROM posthorn.audit`); len(audit) != 1 || audit[0] != "cli:test delivery.retry "+r.ID.String()+" failed" {
		t.Errorf("audit: %q", audit)
	}
	if d, err := l.Show(t.Context(), r.ID); err != nil || len(d.Tries) != 1 {
		t.Errorf("its attempts are gone: %+v, %v", d, err)
	}
}

func TestRetriedDeliveryCanEndAgain(t *testing.T) {
	l, records := filled(t)
	r := records[3]
	if _, err := l.Retry(t.Context(), retryOf(r.ID, false)); err != nil {
		t.Fatal(err)
	}
	r.State, r.Attempts, r.Stored, r.Settles, r.Attempt = Delivered, 3, true, false, nil
	if err := write(t, l, &positions{}, r); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Show(t.Context(), r.ID); err != nil || d.State != Delivered || d.Attempts != 3 {
		t.Errorf("ended as %+v, %v", d, err)
	}
	if n := texts(t, l.pool, `SELECT count(*)::text FROM posthorn.payloads WHERE event_id = $1`, r.Event.ID); n[0] != "0" {
		t.Error("its payload stays for ever")
	}
}

func TestRetryOfAPendingDeliveryMakesItDue(t *testing.T) {
	l, records := filled(t)
	again, err := l.Retry(t.Context(), retryOf(records[0].ID, false))
	if err != nil || !again { // it was never rendered
		t.Fatalf("rendered again: %t, %v", again, err)
	}
	if due := texts(t, l.pool, `SELECT (due_at <= now())::text FROM posthorn.pending WHERE id = $1`, records[0].ID); due[0] != "true" {
		t.Error("it is not due")
	}
}

func TestRetryAsksTheOutboxForWhatWasNotKept(t *testing.T) {
	l, records := filled(t)
	r := retryOf(records[2].ID, false) // delivered: its bodies are not kept
	if _, err := l.Retry(t.Context(), r); !errors.Is(err, errGone) {
		t.Errorf("without a row in the outbox: %v", err)
	}
	if n := texts(t, l.pool, `SELECT count(*)::text FROM posthorn.audit`); n[0] != "0" {
		t.Error("what was refused stands in the audit")
	}
	r.Original = func(_ context.Context, id uuid.UUID) (Original, error) {
		if id != records[2].Event.ID {
			t.Errorf("asked for event %s", id)
		}
		return Original{Payload: []byte(`no JSON`), Headers: []byte(`{"h": "v"}`)}, nil
	}
	again, err := l.Retry(t.Context(), r)
	if err != nil || !again {
		t.Fatalf("rendered again: %t, %v", again, err)
	}
	page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Rows: 10, Bytes: 1 << 20})
	if err != nil || len(page.Deliveries) != 1 {
		t.Fatalf("claimed %+v, %v", page.Deliveries, err)
	}
	e := page.Deliveries[0].Event
	if string(e.Payload) != `no JSON` || string(e.Headers) != `{"h": "v"}` || !e.CreatedAt.Equal(records[2].Event.CommittedAt) || e.Invalid == "" {
		t.Errorf("claimed event %+v", e)
	}
}

// What the outbox is asked for takes as long as it takes: neither the relay's
// writer nor another retry waits for it.
func TestRetryHoldsNothingWhileItAsksTheOutbox(t *testing.T) {
	l, records := filled(t)
	r := retryOf(records[2].ID, false)
	asked := false
	r.Original = func(ctx context.Context, _ uuid.UUID) (Original, error) {
		asked = true
		if n := l.pool.Stat().AcquiredConns(); n != 0 {
			t.Errorf("it holds %d connections", n)
		}
		_, err := l.pool.Exec(ctx, `SELECT FROM posthorn.relay FOR UPDATE NOWAIT`)
		return Original{Payload: []byte("{}")}, err
	}
	if _, err := l.Retry(t.Context(), r); err != nil || !asked {
		t.Errorf("asked: %t, %v", asked, err)
	}
}

func TestRetryRefuses(t *testing.T) {
	l, records := filled(t)
	behind := newRecord(5, Pending)
	behind.Attempts = 0
	hash := int64(7)
	first := newRecord(6, Pending)
	first.Event.Position.Index, first.KeyHash, behind.KeyHash = 4, &hash, &hash
	bare := newRecord(7, Failed).bare(errors.New("refused"))
	if err := write(t, l, &positions{}, first, behind, bare); err != nil {
		t.Fatal(err)
	}
	removed := retryOf(records[3].ID, false)
	removed.Endpoint = func(uuid.UUID) (bool, error) { return false, errors.New("endpoint is gone") }
	cases := []struct {
		name  string
		retry Retry
		want  string
	}{
		{"one that is being sent", retryOf(records[1].ID, false), "it is being sent"},
		{"one that waits for its key", retryOf(behind.ID, true), "earlier event of its key"},
		{"one whose texts Postgres refused", retryOf(bare.ID, false), "could not keep the event"},
		{"one whose endpoint takes none", removed, "endpoint is gone"},
		{"an unknown one", retryOf(uuid.New(), false), ErrUnknownDelivery.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := l.Retry(t.Context(), c.retry); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.retry.ID.String()) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("a slot that the ledger does not know", func(t *testing.T) {
		other := New(l.pool, "other", BodiesAll, l.logger)
		if _, err := other.Retry(t.Context(), retryOf(records[3].ID, false)); !errors.Is(err, ErrUnknownSlot) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRetryWaitsForTheRelaysWriter holds the row that every batch updates.
func TestRetryWaitsForTheRelaysWriter(t *testing.T) {
	l, records := filled(t)
	done := make(chan error, 1)
	err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT posthorn.advance('s', $1, '0/0', 0, '0/0')`, l.Epoch()); err != nil {
			return err
		}
		go func() {
			_, err := l.Retry(t.Context(), retryOf(records[3].ID, false))
			done <- err
		}()
		for waiting := false; !waiting; {
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			if err := l.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%FOR UPDATE')`).Scan(&waiting); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitingCountsPerEndpoint(t *testing.T) {
	l, _ := filled(t)
	list, err := l.Waiting(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	if w := list[0]; w.Endpoint != "erp" || w.Rows != 2 || w.Oldest < time.Since(committed) {
		t.Errorf("got %+v", w)
	}
}
