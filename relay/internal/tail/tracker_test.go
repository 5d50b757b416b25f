package tail

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
	"pgregory.net/rapid"
)

// model is the tracker's rule written down naively: flush is the end of the
// longest prefix of transactions that are closed and settled, or a later WAL
// end that was adopted while there was none open or unsettled.
type model struct {
	txs   []*event.Tx
	flush event.LSN
}

func (m *model) flushable() event.LSN {
	for len(m.txs) > 0 && m.txs[0].Closed && m.txs[0].Unsettled == 0 {
		m.flush = max(m.flush, m.txs[0].End)
		m.txs = m.txs[1:]
	}
	return m.flush
}

func TestFlushIsTheLongestSettledPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := event.LSN(rapid.Uint32().Draw(t, "start"))
		tracker, m := NewTracker(start), &model{flush: start}
		wal := start
		var open, shadow *event.Tx // the open transaction, and its twin in the model
		events := 0                // of the open transaction
		var unsettled [][2]*event.Tx
		advance := func() event.LSN {
			wal += event.LSN(rapid.IntRange(1, 1000).Draw(t, "wal"))
			return wal
		}
		last := start
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				if open != nil {
					t.Skip("one is open")
				}
				at := advance()
				open, shadow = tracker.Begin(at, time.Time{}), &event.Tx{Commit: at}
				m.txs = append(m.txs, shadow)
			},
			"event": func(t *rapid.T) {
				if open == nil {
					t.Skip("none is open")
				}
				n := rapid.IntRange(1, 4).Draw(t, "deliveries")
				events++
				tracker.Add(open, n-1)
				shadow.Unsettled += n
				for range n {
					unsettled = append(unsettled, [2]*event.Tx{open, shadow})
				}
			},
			"commit": func(t *rapid.T) {
				if open == nil {
					t.Skip("none is open")
				}
				end := advance()
				tracker.Commit(open, end, events)
				shadow.Closed, shadow.End = true, end
				open, shadow, events = nil, nil, 0
			},
			"settle": func(t *rapid.T) {
				if len(unsettled) == 0 {
					t.Skip("all is settled")
				}
				i := rapid.IntRange(0, len(unsettled)-1).Draw(t, "which")
				tracker.Settle(unsettled[i][0], 1)
				unsettled[i][1].Unsettled--
				unsettled = append(unsettled[:i], unsettled[i+1:]...)
			},
			"keepalive": func(*rapid.T) {
				at := advance()
				tracker.Idle(at)
				if m.flushable(); len(m.txs) == 0 {
					m.flush = at
				}
			},
			"": func(t *rapid.T) {
				got, want := tracker.Flushable(), m.flushable()
				if got != want {
					t.Fatalf("flushable %s, want %s", got, want)
				}
				if got < last {
					t.Fatalf("flushable went back from %s to %s", last, got)
				}
				last = got
			},
		})
	})
}
