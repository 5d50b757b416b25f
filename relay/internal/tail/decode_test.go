package tail

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// message builds a pgoutput message field by field.
type message struct{ bytes.Buffer }

func newMessage(kind byte) *message {
	m := &message{}
	m.WriteByte(kind)
	return m
}

func (m *message) u8(v byte) *message    { m.WriteByte(v); return m }
func (m *message) u16(v uint16) *message { m.Write(binary.BigEndian.AppendUint16(nil, v)); return m }
func (m *message) u32(v uint32) *message { m.Write(binary.BigEndian.AppendUint32(nil, v)); return m }
func (m *message) u64(v uint64) *message { m.Write(binary.BigEndian.AppendUint64(nil, v)); return m }
func (m *message) str(s string) *message { m.WriteString(s); m.WriteByte(0); return m }
func (m *message) text(s string) *message {
	m.u8('t').u32(uint32(len(s))).WriteString(s)
	return m
}

func begin(commit uint64) []byte { return newMessage('B').u64(commit).u64(0).u32(7).Bytes() }
func commit(at, end uint64) []byte {
	return newMessage('C').u8(0).u64(at).u64(end).u64(0).Bytes()
}

func outboxRelation() []byte {
	m := newMessage('R').u32(1).str("posthorn").str("outbox").u8('d').u16(4)
	for _, c := range []struct {
		name string
		typ  uint32
	}{{"id", 2950}, {"type", 25}, {"key", 25}, {"payload", oidJSON}} {
		m.u8(0).str(c.name).u32(c.typ).u32(0)
	}
	return m.Bytes()
}

func row(id, typ, key, payload string) []byte {
	return newMessage('I').u32(1).u8('N').u16(4).text(id).text(typ).text(key).text(payload).Bytes()
}

func logical(transactional byte, prefix, content string) []byte {
	m := newMessage('M').u8(transactional).u64(1).str(prefix).u32(uint32(len(content)))
	m.WriteString(content)
	return m.Bytes()
}

// change is a change of endpoints.
type change struct {
	After    int // so many events
	Revision int64
}

// sink keeps what it is offered.
type sink struct {
	events  []*event.Event
	changes []change
}

func (s *sink) Offer(e *event.Event) bool { s.events = append(s.events, e); return true }
func (*sink) Room() <-chan struct{}       { return nil }
func (*sink) Passed(event.LSN)            {}
func (s *sink) Changed(revision int64) {
	s.changes = append(s.changes, change{len(s.events), revision})
}

func newTestReader(s *sink) *Reader {
	return NewReader(nil, Options{
		Schema: "posthorn", Table: "outbox", Messages: "app",
		Columns: Columns{ID: "id", Type: "type", Key: "key", Payload: "payload"},
		Tracker: NewTracker(0), Sink: s, Lease: NewLease(), Logger: slog.New(slog.DiscardHandler),
		Flushed: func() event.LSN { return 0 }, FlushSoon: func() {},
	})
}

func TestStreamBecomesEventsInCommitOrder(t *testing.T) {
	s := &sink{}
	r := newTestReader(s)
	const id = "00000000-0000-0000-0000-00000000000a"
	for _, msg := range [][]byte{
		begin(90), logical(1, EndpointsChanged, "7"), commit(90, 98),
		begin(100), outboxRelation(), row(id, "a.b", "k", `{"n": 1}`),
		logical(1, "app", `{"id": "7", "type": "m", "payload": {"x":1}}`),
		logical(0, "app", `{"id": "8", "type": "m", "payload": 1}`), // not transactional: ignored
		logical(1, "other", `x`), logical(1, Heartbeat, ""),
		logical(1, "app", `no json`), // takes its place, so that positions stay the same when it is read again
		row(id, "c", "", `2`),
		logical(1, Own, `{"id": "9", "type": "posthorn.endpoint.paused", "payload": 3}`),
		logical(1, Own, `{"id": "10", "type": "pr.submitted", "payload": 4}`), // not of the relay's own
		logical(0, Own, `{"id": "11", "type": "posthorn.endpoint.paused", "payload": 5}`),
		commit(100, 108),
		begin(110), logical(0, EndpointsChanged, ""), logical(1, EndpointsChanged, "no number"), commit(110, 118),
	} {
		if err := r.decode(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]change{{0, 7}, {4, 0}}, s.changes); diff != "" {
		t.Errorf("changes of endpoints (-want +got):\n%s", diff)
	}
	type got struct {
		Position  event.Position
		Type, Key string
		Payload   string
	}
	var all []got
	for _, e := range s.events {
		all = append(all, got{e.Position, e.Type, e.Key, string(e.Payload)})
	}
	want := []got{
		{event.Position{LSN: 100, Index: 0}, "a.b", "k", `{"n": 1}`},
		{event.Position{LSN: 100, Index: 1}, "m", "", `{"x":1}`},
		{event.Position{LSN: 100, Index: 3}, "c", "", `2`},
		{event.Position{LSN: 100, Index: 4}, "posthorn.endpoint.paused", "", `3`},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if r.Beat().IsZero() {
		t.Error("the heartbeat was not noticed")
	}
}

func TestWhatWasReadIsSkippedWhenTheStreamComesAgain(t *testing.T) {
	s := &sink{}
	r := newTestReader(s)
	read := func(msgs ...[]byte) {
		t.Helper()
		for _, msg := range msgs {
			if err := r.decode(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	read(begin(10), outboxRelation(), row("1", "t", "", "1"), commit(10, 18))
	read(begin(20), row("2", "t", "", "2")) // and the connection is lost
	read(begin(10), outboxRelation(), row("1", "t", "", "1"), commit(10, 18))
	read(begin(20), row("2", "t", "", "2"), row("3", "t", "", "3"), commit(20, 28))
	var types []string
	for _, e := range s.events {
		types = append(types, string(e.Payload))
	}
	if diff := cmp.Diff([]string{"1", "2", "3"}, types); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, e := range s.events {
		r.opts.Tracker.Settle(e.Tx, 1)
	}
	if got := r.opts.Tracker.Flushable(); got != 28 {
		t.Errorf("flushable %s, want 0/1C", got)
	}
}

func TestMissingMappedColumnIsNamed(t *testing.T) {
	r := newTestReader(&sink{})
	r.opts.Columns.Tenant = "org"
	err := r.decode(t.Context(), outboxRelation())
	if err == nil || err.Error() != "table posthorn.outbox has no column org: mend the table or source.columns" {
		t.Errorf("got %v", err)
	}
}

func TestTimesOfRowsAreRead(t *testing.T) {
	want := time.Date(2026, 5, 22, 9, 30, 0, 123456000, time.UTC)
	for _, s := range []string{"2026-05-22 09:30:00.123456+00", "2026-05-22 15:00:00.123456+05:30", "2026-05-22 09:30:00.123456"} {
		if got := parseTime([]byte(s)); !got.Equal(want) {
			t.Errorf("%s: got %s", s, got)
		}
	}
	if got := parseTime([]byte("infinity")); !got.IsZero() {
		t.Errorf("infinity: got %s", got)
	}
}

// What most times are written as is read by hand.
func TestTimesAreReadAsTheLayoutsSay(t *testing.T) {
	byLayout := func(s string) time.Time {
		for _, layout := range timeLayouts {
			if at, err := time.Parse(layout, s); err == nil {
				return at.UTC()
			}
		}
		return time.Time{}
	}
	for _, s := range []string{
		"2026-05-22 09:30:00+00", "2026-05-22 09:30:00", "2026-05-22 09:30:00.1+00", "2026-05-22 09:30:00.12345+00", "2026-05-22 09:30:00.000001",
		"2024-02-29 23:59:59.999999+00", "0001-01-01 00:00:00+00", "9999-12-31 00:00:00+00",
		"2026-02-29 00:00:00+00", "2026-13-01 00:00:00+00", "2026-00-10 00:00:00+00", "2026-01-00 00:00:00+00", "2026-01-32 00:00:00+00",
		"2026-01-01 24:00:00+00", "2026-01-01 00:60:00+00", "2026-01-01 00:00:60+00", "2026-01-01T00:00:00+00", "2026-01-01 00:00:0", "2026-01-01 00:00:00.+00",
		"2026-01-01 00:00:00 BC", "2026-01-01 00:00:00.1234567", "2026-01-01 00:00:00+0", "2026-01-01 00:00:00-07", "2026-01-01 00:00:0:", "20x6-01-01 00:00:00",
		"10000-01-01 00:00:00+00", "2026-01-01", "",
	} {
		if got, want := parseTime([]byte(s)), byLayout(s); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}

// FuzzDecode feeds the reader one message after the other: whatever comes, it
// neither panics nor takes more than the message holds.
func FuzzDecode(f *testing.F) {
	for _, msg := range [][]byte{
		begin(1), commit(1, 2), outboxRelation(), row("1", "t", "k", "{}"), logical(1, "app", `{"id":"1","type":"t","payload":1}`), {}, {'I'},
	} {
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		s := &sink{}
		r := newTestReader(s)
		for _, m := range [][]byte{begin(100), outboxRelation()} {
			if err := r.decode(context.Background(), m); err != nil {
				t.Fatal(err)
			}
		}
		err := r.decode(t.Context(), msg)
		for _, e := range s.events {
			if err != nil {
				t.Errorf("event %v of a message that is an error: %v", e, err)
			}
			if len(e.Payload)+len(e.Headers) > len(msg) {
				t.Errorf("event of %d bytes from a message of %d", len(e.Payload), len(msg))
			}
		}
	})
}
