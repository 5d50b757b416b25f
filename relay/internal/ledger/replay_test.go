package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// start starts a replay.
func (l *Ledger) start(t *testing.T, r ReplayRequest) *Replay {
	t.Helper()
	started, err := l.StartReplay(t.Context(), r, Actor{Name: "cli:test"})
	if err != nil {
		t.Fatal(err)
	}
	return started
}

// stepOf returns a step of a replay, to endpoints that take it, with an outbox
// that has the payloads.
func stepOf(id uuid.UUID, most int) ReplayStep {
	return ReplayStep{
		ID: id, Most: most, Endpoint: func(uuid.UUID) (bool, error) { return false, nil },
		Original: func(context.Context, uuid.UUID) (Original, error) {
			return Original{Payload: []byte(`{"outbox": 1}`)}, nil
		},
	}
}

func (l *Ledger) step(t *testing.T, step ReplayStep) (more bool) {
	t.Helper()
	more, err := l.StepReplay(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	return more
}

// many returns a ledger with n deliveries of events that were committed one
// second after the other.
func many(t *testing.T, n int, state State) (*Ledger, []*Record) {
	t.Helper()
	l := acquire(t, open(t))
	l.sync(t, erp())
	var records []*Record
	for i := range n {
		r := newRecord(i+1, state)
		r.Event.CommittedAt, r.Event.Position.LSN = committed.Add(time.Duration(i)*time.Second), 90 // flushed
		r.Event.Key = "k"
		records = append(records, r)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	return l, records
}

const sqlPendingIDs = `SELECT id::text || ' ' || state || ' ' || attempts || ' ' || (due_at <= now()) FROM posthorn.pending ORDER BY created_at, id`

func TestReplayGoesOnExactlyWhereItWasInterrupted(t *testing.T) {
	l, records := many(t, 7, Failed)
	r := l.start(t, ReplayRequest{States: []State{Failed}, Endpoint: "erp", From: committed.Add(time.Second), Scope: ""})
	if r.Total != 6 || r.TotalMore || r.State != ReplayRunning || r.Request.Until.IsZero() || r.Request.Rate != defaultRate || r.CreatedBy != "cli:test" {
		t.Fatalf("started %+v", r)
	}
	if !l.step(t, stepOf(r.ID, 2)) {
		t.Fatal("it ended after two")
	}
	next := acquire(t, l.pool) // another relay
	if _, err := l.StepReplay(t.Context(), stepOf(r.ID, 2)); !errors.Is(err, ErrFenced) {
		t.Errorf("a relay that lost its slot: %v", err)
	}
	for range 2 {
		if !next.step(t, stepOf(r.ID, 2)) {
			t.Fatal("it ended early")
		}
	}
	if next.step(t, stepOf(r.ID, 2)) {
		t.Error("it does not end")
	}
	var want []string
	for _, r := range records[1:] {
		want = append(want, r.ID.String()+" pending 1 true")
	}
	if diff := cmp.Diff(want, texts(t, l.pool, sqlPendingIDs)); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
	if left := texts(t, l.pool, `SELECT id::text FROM posthorn.deliveries`); !slices.Equal(left, []string{records[0].ID.String()}) {
		t.Errorf("final: %v", left)
	}
	r, err := next.Replay(t.Context(), r.ID, "")
	if err != nil || r.State != ReplayDone || r.Done != 6 || r.Skipped != 0 || r.FinishedAt == nil || r.At == nil || !r.At.Equal(records[6].Event.CommittedAt) {
		t.Errorf("in the end %+v, %v", r, err)
	}
	if running, err := next.RunningReplays(t.Context()); err != nil || len(running) > 0 {
		t.Errorf("running: %v, %v", running, err)
	}
	if err := next.ForgetReplays(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := next.Replay(t.Context(), r.ID, ""); !errors.Is(err, ErrUnknownReplay) {
		t.Errorf("after its retention: %v", err)
	}
}

func TestReplayUnderNewIDsLeavesWhatIsThere(t *testing.T) {
	l, records := many(t, 3, Delivered)
	r := l.start(t, ReplayRequest{States: []State{Delivered}, Endpoint: "erp", NewIDs: true})
	for l.step(t, stepOf(r.ID, 2)) {
	}
	if n := texts(t, l.pool, `SELECT count(*)::text FROM posthorn.deliveries`); n[0] != "3" {
		t.Errorf("%s are final", n[0])
	}
	for i, row := range texts(t, l.pool, sqlPendingIDs) {
		if !strings.HasSuffix(row, " pending 0 true") || strings.HasPrefix(row, records[i].ID.String()) {
			t.Errorf("pending: %s", row)
		}
	}
	page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Rows: 10, Bytes: 1 << 20})
	if err != nil || len(page.Deliveries) != 3 || page.Deliveries[0].Request != nil || string(page.Deliveries[0].Event.Payload) != `{"outbox": 1}` {
		t.Errorf("claimed %+v, %v", page.Deliveries, err)
	}
}

func TestReplayPassesOverWhatCannotBeMadeAgain(t *testing.T) {
	l, records := many(t, 4, Delivered)
	waiting := newRecord(11, Pending)
	waiting.Wait = time.Hour
	sending, behind := newRecord(12, Sending), ordered(13, "k")
	for i, r := range []*Record{waiting, sending, behind} {
		r.Event.CommittedAt = committed.Add(time.Duration(10+i) * time.Second)
	}
	before := ordered(9, "k") // the first of the key
	before.Event.CommittedAt = committed.Add(-time.Second)
	if err := write(t, l, &positions{}, before, waiting, sending, behind); err != nil {
		t.Fatal(err)
	}
	r := l.start(t, ReplayRequest{From: committed})
	step := stepOf(r.ID, 100)
	step.Original = func(_ context.Context, id uuid.UUID) (Original, error) {
		if id == records[1].Event.ID {
			return Original{}, Refused("gone")
		}
		return Original{Payload: []byte(`{}`)}, nil
	}
	if l.step(t, step) {
		t.Error("there is more")
	}
	r, err := l.Replay(t.Context(), r.ID, "")
	if err != nil || r.Done != 4 || r.Skipped != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	due := texts(t, l.pool, `SELECT (due_at <= now())::text FROM posthorn.pending WHERE id = $1`, waiting.ID)
	if due[0] != "true" {
		t.Error("what was pending is not due")
	}
}

func TestReplayWaitsForAnOutboxThatCannotBeRead(t *testing.T) {
	l, _ := many(t, 3, Delivered)
	r := l.start(t, ReplayRequest{Endpoint: "erp"})
	step := stepOf(r.ID, 100)
	step.Original = func(context.Context, uuid.UUID) (Original, error) { return Original{}, errGone }
	_, err := l.StepReplay(t.Context(), step)
	if !errors.Is(err, errGone) {
		t.Fatalf("got %v", err)
	}
	if err := l.ReplayFailed(t.Context(), r.ID, err); err != nil {
		t.Fatal(err)
	}
	if r, err = l.Replay(t.Context(), r.ID, ""); err != nil || r.State != ReplayRunning || !strings.Contains(r.Error, "gone from the outbox") || r.At != nil {
		t.Errorf("%+v, %v", r, err)
	}
	l.step(t, stepOf(r.ID, 100))
	if r, err = l.Replay(t.Context(), r.ID, ""); err != nil || r.State != ReplayDone || r.Error != "" || r.Done != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCancelledReplayDoesNothingMore(t *testing.T) {
	l, _ := many(t, 3, Failed)
	r := l.start(t, ReplayRequest{Endpoint: "erp"})
	l.step(t, stepOf(r.ID, 1))
	cancelled, err := l.CancelReplay(t.Context(), r.ID, "", Actor{Name: "cli:test"})
	if err != nil || cancelled.State != ReplayCancelled || cancelled.Done != 1 {
		t.Fatalf("%+v, %v", cancelled, err)
	}
	if l.step(t, stepOf(r.ID, 1)) {
		t.Error("it goes on")
	}
	if again, err := l.CancelReplay(t.Context(), r.ID, "", Actor{Name: "cli:test"}); err != nil || !again.FinishedAt.Equal(*cancelled.FinishedAt) {
		t.Errorf("cancelled again: %+v, %v", again, err)
	}
	want := []string{"replay.start t1", "replay.cancel t1"} // whose the endpoint is
	if got := texts(t, l.pool, `SELECT concat_ws(' ', action, tenant) FROM posthorn.audit WHERE subject = $1 ORDER BY id`, r.ID.String()); !slices.Equal(got, want) {
		t.Errorf("audit: %v", got)
	}
}

func TestReplayIsCancelledDuringAStep(t *testing.T) {
	l, _ := many(t, 3, Delivered)
	r := l.start(t, ReplayRequest{Endpoint: "erp"})
	step := stepOf(r.ID, 1)
	step.Original = func(ctx context.Context, _ uuid.UUID) (Original, error) {
		_, err := l.CancelReplay(ctx, r.ID, "", Actor{Name: "cli:test"})
		return Original{Payload: []byte(`{}`)}, err
	}
	if l.step(t, step) {
		t.Error("it goes on")
	}
	if pending := texts(t, l.pool, sqlPendingIDs); len(pending) > 0 {
		t.Errorf("pending: %v", pending)
	}
}

func TestReplaysAreTheirTenantsOnlyAndBounded(t *testing.T) {
	l, _ := many(t, 3, Failed)
	if _, err := l.pool.Exec(t.Context(), `UPDATE posthorn.deliveries SET tenant = 't1' WHERE created_at > $1`, committed); err != nil {
		t.Fatal(err)
	}
	mine := l.start(t, ReplayRequest{Endpoint: "erp", Scope: "t1"})
	other := l.start(t, ReplayRequest{Endpoint: "erp", Scope: "t2"})
	if mine.Total != 2 || other.Total != 0 {
		t.Errorf("%d and %d deliveries", mine.Total, other.Total)
	}
	if _, err := l.Replay(t.Context(), other.ID, "t1"); !errors.Is(err, ErrUnknownReplay) {
		t.Errorf("another's: %v", err)
	}
	if _, err := l.CancelReplay(t.Context(), other.ID, "t1", Actor{}); !errors.Is(err, ErrUnknownReplay) {
		t.Errorf("another's: %v", err)
	}
	for l.step(t, stepOf(mine.ID, 1)) {
	}
	if r, err := l.Replay(t.Context(), mine.ID, "t1"); err != nil || r.Done != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	var refused *RefusedError
	l.start(t, ReplayRequest{Endpoint: "erp", Scope: "t2"})
	if _, err := l.StartReplay(t.Context(), ReplayRequest{Endpoint: "erp", Scope: "t2"}, Actor{}); !errors.As(err, &refused) {
		t.Errorf("one too many of a tenant's: %v", err)
	}
	for range maxReplays - 2 {
		l.start(t, ReplayRequest{Endpoint: "erp"})
	}
	if _, err := l.StartReplay(t.Context(), ReplayRequest{Endpoint: "erp"}, Actor{}); !errors.As(err, &refused) {
		t.Errorf("one too many: %v", err)
	}
	var all []string
	var before Cursor
	for {
		page, err := l.Replays(t.Context(), 8, before, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			all = append(all, r.ID.String())
			before = Cursor{CreatedAt: r.CreatedAt, ID: r.ID}
		}
	}
	slices.Reverse(all)
	if len(all) != maxReplays+1 || all[0] != mine.ID.String() || all[1] != other.ID.String() {
		t.Errorf("pages: %v", all)
	}
}

func TestPreviewCountsByEndpoint(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, 6000)
	all, err := l.List(t.Context(), Filter{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []ReplayRequest{
		{}, {States: []State{Failed}}, {States: []State{Failed, Pending}, Endpoint: "e1"}, {Type: "type-3"}, {States: []State{Delivered}, Tenant: "t1"},
		{Event: all[700].Event}, {From: committed.Add(time.Hour), Until: committed.Add(2 * time.Hour)}, {Scope: "t2", Type: "type-1"}, {Endpoint: "none"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			f := r.search(10_000).Filter
			want := make(map[string]int64)
			for _, d := range naive(all, &f, false) {
				want[d.Endpoint]++
			}
			p, err := l.preview(t.Context(), r, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			got, total := make(map[string]int64), int64(0)
			for _, e := range p.Endpoints {
				got[e.Endpoint], total = e.Count, total+e.Count
			}
			if diff := cmp.Diff(want, got); diff != "" || p.Total != total || p.More {
				t.Errorf("%+v (-want +got):\n%s", p, diff)
			}
		})
	}
}

func TestPreviewThatTakesTooLongSaysThatThereIsMore(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, walked+2000)
	p, err := l.preview(t.Context(), ReplayRequest{Endpoint: "e1", States: []State{Delivered}}, 0)
	if err != nil || !p.More || p.Total == 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestReplayUnderNewIDsCopiesNoCopies(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	var records []*Record
	for i := range 40 { // of one commit time, so that ids alone order them
		r := newRecord(i+1, Delivered)
		r.Event.Position.LSN = 90 // flushed
		records = append(records, r)
	}
	waiting := newRecord(50, Pending)
	waiting.Wait = time.Hour
	if err := write(t, l, &positions{}, append(records, waiting)...); err != nil {
		t.Fatal(err)
	}
	request := ReplayRequest{States: []State{Pending, Delivered}, Endpoint: "erp", NewIDs: true}
	if p, err := l.PreviewReplay(t.Context(), request); err != nil || p.Total != 40 {
		t.Errorf("it is about %+v, %v", p, err)
	}
	replay := l.start(t, request)
	for more := true; more; {
		more = l.step(t, stepOf(replay.ID, 4))
		page, err := l.Claim(t.Context(), Claim{Endpoint: endpointID, Rows: 100, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var sent []*Record // between the steps
		for _, d := range page.Deliveries {
			sent = append(sent, &Record{ID: d.ID, Endpoint: endpointID, Event: d.Event, State: Delivered, Stored: true, Attempts: 1, Status: 200})
		}
		if err := write(t, l, &positions{}, sent...); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := l.Replay(t.Context(), replay.ID, ""); err != nil || r.State != ReplayDone || r.Done != 40 || r.Skipped != 0 {
		t.Errorf("in the end %+v, %v", r, err)
	}
}

func TestReplayGoesOnWhenItsEndpointIsRenamed(t *testing.T) {
	l, _ := many(t, 3, Failed)
	r := l.start(t, ReplayRequest{States: []State{Failed}, Endpoint: "erp", EndpointID: endpointID})
	l.step(t, stepOf(r.ID, 1))
	if _, err := l.pool.Exec(t.Context(), `UPDATE posthorn.endpoints SET name = 'renamed'`); err != nil {
		t.Fatal(err)
	}
	for l.step(t, stepOf(r.ID, 1)) {
	}
	if r, err := l.Replay(t.Context(), r.ID, ""); err != nil || r.Done != 3 || r.Request.Endpoint != "erp" {
		t.Errorf("in the end %+v, %v", r, err)
	}
}

// TestReplayMakesNothingForAnEndpointThatWasDeletedMeanwhile: nobody would end it.
func TestReplayMakesNothingForAnEndpointThatWasDeletedMeanwhile(t *testing.T) {
	l, _ := many(t, 3, Delivered)
	replay := l.start(t, ReplayRequest{States: []State{Delivered}})
	step := stepOf(replay.ID, 10)
	step.Original = func(ctx context.Context, _ uuid.UUID) (Original, error) {
		_, err := l.pool.Exec(ctx, `UPDATE posthorn.endpoints SET state = 'removed', reason = $1`, reasonDeleted)
		return Original{Payload: []byte(`{}`)}, err
	}
	l.step(t, step)
	if pending := texts(t, l.pool, sqlPendingIDs); len(pending) > 0 {
		t.Errorf("pending are %v", pending)
	}
	if r, err := l.Replay(t.Context(), replay.ID, ""); err != nil || r.State != ReplayDone || r.Done != 0 || r.Skipped != 3 {
		t.Errorf("it stands at %+v, %v", r, err)
	}
}

func TestReplayEndsWhereItWasAskedFor(t *testing.T) {
	l, _ := many(t, 1, Delivered)
	began := time.Now()
	for _, until := range []time.Time{{}, began.Add(time.Hour)} {
		if r := l.start(t, ReplayRequest{States: []State{Delivered}, Until: until}); r.Request.Until.Before(began.Add(-time.Second)) || r.Request.Until.After(time.Now().Add(time.Second)) {
			t.Errorf("until %s it ends at %s", until, r.Request.Until)
		}
	}
}
