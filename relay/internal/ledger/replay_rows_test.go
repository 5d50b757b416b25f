package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestRowsBeforeTheFirstDeliveryAreMadeOnce(t *testing.T) {
	l, records := many(t, 2, Delivered)
	row := func(n int) *Record { // as the outbox has it
		r := ordered(n, "k")
		r.State, r.Attempts = Pending, 0
		r.Event.CommittedAt = committed.Add(-time.Duration(n) * time.Second)
		return r
	}
	replay := l.start(t, ReplayRequest{States: []State{Delivered}, Endpoint: "erp"})
	if replay.RowsUntil == nil || !replay.RowsUntil.Equal(records[0].Event.CommittedAt) {
		t.Fatalf("it looks at rows until %v", replay.RowsUntil)
	}
	early, late := row(30), row(20)
	first := newRecord(1, Pending) // its row was written before its commit
	first.Event.CommittedAt = records[0].Event.CommittedAt.Add(-time.Millisecond)
	step := &MissedRows{ID: replay.ID, Endpoint: endpointID, Records: []*Record{early, late, early, first}, Skipped: 1, At: first.Event.CommittedAt}
	if err := l.StepRows(t.Context(), step); err != nil { // not its turn yet
		t.Fatal(err)
	}
	if pending := texts(t, l.pool, sqlPendingIDs); len(pending) > 0 {
		t.Errorf("pending before its turn: %v", pending)
	}
	if l.step(t, stepOf(replay.ID, 10)) {
		t.Error("there are more deliveries")
	}
	due := `SELECT id::text FROM posthorn.pending WHERE due_at <= now() AND created_at < $1 ORDER BY 1`
	for range 2 { // again, because what it had come to was lost
		if err := l.StepRows(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		got := texts(t, l.pool, `SELECT id::text FROM posthorn.pending WHERE created_at < $1 ORDER BY created_at`, committed)
		if !slices.Equal(got, []string{early.ID.String(), late.ID.String()}) {
			t.Errorf("made %v", got)
		}
		if heads := texts(t, l.pool, due, committed); len(heads) != 1 {
			t.Errorf("due are %v", heads)
		}
	}
	then := &MissedRows{ID: replay.ID, Endpoint: endpointID, Records: []*Record{row(10)}, At: step.At}
	if err := l.StepRows(t.Context(), then); err != nil {
		t.Fatal(err)
	}
	places := texts(t, l.pool, `SELECT lsn || ' ' || index FROM posthorn.pending WHERE created_at < $1 ORDER BY created_at`, committed)
	if want := []string{"0/0 2", "0/0 3", "0/0 4"}; !slices.Equal(places, want) {
		t.Errorf("they stand at %v, not %v", places, want)
	}
	if heads := texts(t, l.pool, due, committed); !slices.Equal(heads, []string{early.ID.String()}) {
		t.Errorf("due are %v", heads)
	}
	if r, err := l.Replay(t.Context(), replay.ID, ""); err != nil || r.State != ReplayRunning || r.Done != 5 || r.Skipped != 2 || r.RowsAt == nil {
		t.Errorf("it stands at %+v, %v", r, err)
	}
	acquire(t, l.pool)
	step.Last = true
	if err := l.StepRows(t.Context(), step); !errors.Is(err, ErrFenced) {
		t.Errorf("a relay that lost its slot: %v", err)
	}
	next := acquire(t, l.pool)
	if err := next.StepRows(t.Context(), &MissedRows{ID: replay.ID, Last: true, At: *replay.RowsUntil}); err != nil {
		t.Fatal(err)
	}
	if r, err := next.Replay(t.Context(), replay.ID, ""); err != nil || r.State != ReplayDone || r.FinishedAt == nil {
		t.Errorf("in the end %+v, %v", r, err)
	}
	if _, err := next.CancelReplay(t.Context(), uuid.New(), "", Actor{}); !errors.Is(err, ErrUnknownReplay) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestOnlyAReplayOfOneEndpointLooksAtRows(t *testing.T) {
	l, _ := many(t, 1, Delivered)
	for _, r := range []ReplayRequest{
		{States: []State{Delivered}, Type: "t"}, {States: []State{Failed}, Endpoint: "erp"}, {States: []State{Delivered}, Endpoint: "erp", NewIDs: true},
	} {
		if started := l.start(t, r); started.RowsUntil != nil {
			t.Errorf("%+v looks at rows until %s", r, started.RowsUntil)
		}
	}
}

func TestWhatWasOnItsWayIsNotMadeFromItsRow(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	replay := l.start(t, ReplayRequest{States: []State{Delivered}, Endpoint: "erp"})
	if l.step(t, stepOf(replay.ID, 10)) {
		t.Error("there are deliveries")
	}
	sent := newRecord(1, Delivered) // after the replay began, of a commit long before
	sent.Event.Position.LSN = 90    // flushed
	if err := write(t, l, &positions{}, sent); err != nil {
		t.Fatal(err)
	}
	same, other := newRecord(1, Pending), newRecord(2, Pending)
	same.Event.CommittedAt = committed.Add(-time.Millisecond) // its row was written before its commit
	step := &MissedRows{ID: replay.ID, Endpoint: endpointID, Records: []*Record{same, other}, At: committed}
	if err := l.StepRows(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, l.pool, `SELECT id::text FROM posthorn.pending`); !slices.Equal(got, []string{other.ID.String()}) {
		t.Errorf("made %v", got)
	}
}
