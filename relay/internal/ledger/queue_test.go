package ledger

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestRecordsWaitForCompany(t *testing.T) {
	put := func(records ...*Record) func(*Ledger) {
		return func(l *Ledger) {
			for _, r := range records {
				l.Put(r)
			}
		}
	}
	large := newRecord(1, Delivered)
	large.Event.Payload = make([]byte, groupBytes)
	group := make([]*Record, groupRecords)
	for i := range group {
		group[i] = newRecord(i, Delivered)
	}
	stored := newRecord(2, Delivered)
	stored.Stored = true
	tests := map[string]struct {
		first, later func(*Ledger) // later: after 10ms
		want         time.Duration
	}{
		"nothing":                      {put(), put(), idleCheck},
		"one":                          {put(newRecord(1, Delivered)), put(), linger},
		"one after the other":          {put(newRecord(1, Delivered)), put(newRecord(2, Failed)), linger},
		"one after a while":            {put(), put(newRecord(1, Delivered)), 10*time.Millisecond + linger},
		"parked":                       {put(newRecord(1, Pending)), put(), lingerAsked},
		"came back from pending":       {put(stored), put(), lingerAsked},
		"parked after another":         {put(newRecord(1, Delivered), newRecord(2, Pending)), put(), lingerAsked},
		"another after one parked":     {put(newRecord(1, Pending), newRecord(2, Delivered)), put(), lingerAsked},
		"parked later":                 {put(newRecord(1, Delivered)), put(newRecord(2, Pending)), 10*time.Millisecond + lingerAsked},
		"a group":                      {put(group...), put(), 0},
		"a group later":                {put(group[1:]...), put(group[0]), 10 * time.Millisecond},
		"a large one":                  {put(large), put(), 0},
		"a large one later":            {put(newRecord(2, Delivered)), put(large), 10 * time.Millisecond},
		"the position is asked for":    {put(), (*Ledger).FlushSoon, 10 * time.Millisecond},
		"the position beside a record": {put(newRecord(1, Delivered)), (*Ledger).FlushSoon, 10 * time.Millisecond},
		"the end":                      {put(newRecord(1, Delivered)), (*Ledger).Finish, 10 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, begun := New(nil, "s", BodiesNone, nil), time.Now()
				tt.first(l)
				time.AfterFunc(10*time.Millisecond, func() { tt.later(l) })
				l.queue.wait(t.Context())
				if got := time.Since(begun); got != tt.want {
					t.Errorf("waited for %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// What is left of one batch is due with it, and what comes after waits anew.
func TestRestOfABatchDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begun := New(nil, "s", BodiesNone, nil), time.Now()
		l.Put(newRecord(1, Pending))
		l.Put(newRecord(1, Delivered)) // the same delivery: not in one batch
		for range 2 {
			l.queue.wait(t.Context())
			if batch, _, _ := l.queue.take(); len(batch) != 1 {
				t.Fatalf("took %d records, want 1", len(batch))
			}
		}
		if got := time.Since(begun); got != lingerAsked {
			t.Errorf("both waited for %s, want %s", got, lingerAsked)
		}
		begun = time.Now()
		l.Put(newRecord(2, Delivered))
		l.queue.wait(t.Context())
		if got := time.Since(begun); got != linger {
			t.Errorf("waited for %s, want %s", got, linger)
		}
	})
}

func TestRoomIsBoundedByWhatIsNotRecorded(t *testing.T) {
	l, positions := acquire(t, open(t)), &positions{flush: 300}
	for i := range maxUnrecorded - 1 {
		l.Put(newRecord(i, Delivered))
	}
	for i := range maxUnrecorded { // what was not delivered is not made again
		l.Put(newRecord(maxUnrecorded+i, Failed))
	}
	if l.Room() != nil {
		t.Fatal("no room below the bound")
	}
	l.Put(newRecord(2*maxUnrecorded, Delivered))
	room := l.Room()
	if room == nil || room != l.Room() {
		t.Fatal("room at the bound")
	}
	l.Finish()
	if err := l.Run(t.Context(), positions, func() {}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-room:
	default:
		t.Error("who waits for room is not told of it")
	}
	if l.Room() != nil {
		t.Error("no room although all is recorded")
	}
}
