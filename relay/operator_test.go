package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

var testActor = Actor{Name: "test"}

// record puts a final delivery into the ledger, as a relay does.
func (db *database) record(t *testing.T, cfg *config.Config, endpoint string, eventID uuid.UUID, state ledger.State) uuid.UUID {
	t.Helper()
	led := ledger.New(db.pool, db.slot, ledger.Bodies(cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	if _, err := led.Acquire(t.Context(), "test", "", 0); err != nil {
		t.Fatal(err)
	}
	id := event.EndpointID(endpoint)
	e := &event.Event{ID: eventID, Type: "a.b", Payload: []byte(`{"n": 1}`), CommittedAt: time.Now(), CreatedAt: time.Now()}
	r := &ledger.Record{ID: event.DeliveryID(eventID, id), Endpoint: id, Event: e, State: state, Attempts: 1}
	led.Put(r)
	led.Finish()
	if err := led.Run(t.Context(), nowhere{}, func() {}); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// nowhere is a tracker that never moves.
type nowhere struct{}

func (nowhere) Settle(*event.Tx, int) {}
func (nowhere) Flushable() event.LSN  { return 0 }

func TestOperatorRetriesFromTheOutboxWhatTheLedgerDidNotKeep(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, `
ledger: {bodies: none}
endpoints: [{name: erp, url: "http://127.0.0.1:1/", events: ["*"]}, {name: off, url: "http://127.0.0.1:1/", events: ["*"], enabled: false}]`)
	kept, gone := uuid.New(), uuid.New()
	db.script(t, fmt.Sprintf(`INSERT INTO posthorn.outbox (id, type, payload, headers) VALUES ('%s', 'a.b', '{"n":  1}', '{"h": "v"}');`, kept))
	o, err := OpenOperator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()

	id := db.record(t, cfg, "erp", kept, ledger.Failed)
	if again, err := o.Retry(t.Context(), id, testActor); err != nil || !again {
		t.Errorf("rendered again: %t, %v", again, err)
	}
	d, err := o.Show(t.Context(), id)
	if err != nil || d.State != ledger.Pending || string(d.Payload) != `{"n":  1}` {
		t.Errorf("shown as %+v, %v", d, err)
	}
	_, err = o.Retry(t.Context(), db.record(t, cfg, "erp", gone, ledger.Failed), testActor)
	wants(t, err, "ledger.bodies", "gone from the outbox")
	_, err = o.Retry(t.Context(), db.record(t, cfg, "off", kept, ledger.Failed), testActor)
	wants(t, err, "endpoint off is disabled")
	_, err = o.Retry(t.Context(), db.record(t, cfg, "removed", kept, ledger.Failed), testActor)
	wants(t, err, "not in the configuration")
	if _, err := o.Retry(t.Context(), uuid.New(), testActor); !errors.Is(err, ErrUnknownDelivery) {
		t.Errorf("an unknown delivery: %v", err)
	}
	if list, err := o.List(t.Context(), DeliveryFilter{States: []DeliveryState{ledger.Failed}, Limit: 10}); err != nil || len(list) != 3 {
		t.Errorf("failed: %+v, %v", list, err)
	}
}

func TestRetryReachesARunningRelay(t *testing.T) {
	db := newDatabase(t)
	var healthy atomic.Bool
	bodies := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			bodies <- r.Header.Get("X-Id") + " " + string(body)
		}
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer receiver.Close()
	cfg := db.initialised(t, fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
egress: {allow: [127.0.0.0/8]}
endpoints: [{name: erp, url: "%s", events: ["*"], retry: {schedule: []}, ordering: key, headers: {X-Id: "{{ .Delivery.ID }}"}, body: '{"p": {{ .Payload }}}'}]`, receiver.URL))
	r, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	o, err := OpenOperator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	db.script(t, `INSERT INTO posthorn.outbox (type, payload, key) VALUES ('a.b', '{"n":  1}', 'k');`)
	first := <-bodies
	failed := o.waitFor(t, ledger.Failed)
	healthy.Store(true)
	if again, err := o.Retry(t.Context(), failed.ID, testActor); err != nil || again {
		t.Fatalf("rendered again: %t, %v", again, err)
	}
	if second := <-bodies; second != first {
		t.Errorf("the retry sent %s, not %s", second, first)
	}
	if d := o.waitFor(t, ledger.Delivered); d.ID != failed.ID || d.Attempts != 2 {
		t.Errorf("delivered: %+v", d)
	}
}

// waitFor returns the first delivery of this state.
func (o *Operator) waitFor(t *testing.T, state ledger.State) Delivery {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		list, err := o.List(t.Context(), DeliveryFilter{States: []DeliveryState{state}, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			return list[0]
		}
	}
	t.Fatalf("no delivery is %s", state)
	return Delivery{}
}

func TestOperatorSaysThatInitIsMissing(t *testing.T) {
	db := newDatabase(t)
	o, err := OpenOperator(db.config(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, list := o.List(context.Background(), DeliveryFilter{Limit: 1})
	_, show := o.Show(context.Background(), uuid.New())
	_, retry := o.Retry(context.Background(), uuid.New(), testActor)
	for _, err := range []error{list, show, retry} {
		wants(t, err, "run posthorn init")
	}
}

func TestSimulate(t *testing.T) {
	const h, m = time.Hour, time.Minute
	cases := []struct {
		name  string
		retry config.Retry
		want  []Try
	}{
		{"no retry", config.Retry{}, []Try{{Number: 1}}},
		{"no jitter", config.Retry{Schedule: []time.Duration{m, h}}, []Try{{Number: 1}, {2, m, m, m, false}, {3, h, m + h, m + h, false}}},
		{"jitter adds up", config.Retry{Schedule: []time.Duration{10 * m, 10 * m}, Jitter: 0.2}, []Try{{Number: 1}, {2, 10 * m, 8 * m, 12 * m, false}, {3, 10 * m, 16 * m, 24 * m, false}}},
		{"max_age ends it", config.Retry{Schedule: []time.Duration{m, h}, MaxAge: h}, []Try{{Number: 1}, {2, m, m, m, false}}},
		{
			"max_age in the middle of the jitter", config.Retry{Schedule: []time.Duration{10 * m, 10 * m}, Jitter: 0.2, MaxAge: 20 * m},
			[]Try{{Number: 1}, {2, 10 * m, 8 * m, 12 * m, false}, {3, 10 * m, 16 * m, 20 * m, true}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Simulate(c.retry)); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}
