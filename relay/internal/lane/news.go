package lane

import (
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Turn is what an endpoint became.
type Turn string

// What an endpoint can become.
const (
	TurnPaused    Turn = "paused"
	TurnResumed   Turn = "resumed"
	TurnDisabled  Turn = "disabled"
	TurnFailing   Turn = "failing"
	TurnRecovered Turn = "recovered" // an attempt succeeded after it was failing
)

// News says what became of an endpoint.
type News struct {
	Endpoint *Endpoint
	Turn     Turn
	Reason   string    // why it was paused, resumed or disabled; "" when nobody said
	Failures int       // of failing: attempts that failed in a row
	Since    time.Time // of failing: when the first of them did
}

// told is what was told of a lane's endpoint.
type told struct {
	failing bool      // that it is failing, and nothing since
	next    time.Time // when it may be told again
}

// tellEvery is how often at most it is told that an endpoint is failing. The
// news may go to that very endpoint: however it answers, they must not multiply.
const tellEvery = time.Minute

// tellHealth tells when the endpoint began to fail, and when it is well again.
// A failing one that somebody paused is told of only after it was resumed.
func (l *lane) tellHealth(now time.Time) {
	switch {
	case l.health.failing && l.open() && !l.told.failing && !now.Before(l.told.next):
		l.told = told{failing: true, next: now.Add(tellEvery)}
		l.tell(News{Turn: TurnFailing, Failures: l.health.row, Since: l.health.since})
	case l.told.failing && l.health.row == 0:
		l.told.failing = false
		l.tell(News{Turn: TurnRecovered})
	}
}

// tellState tells of the endpoint's state, which is new.
func (l *lane) tellState() {
	turn := TurnPaused
	switch l.state {
	case ledger.Enabled:
		turn, l.told.failing = TurnResumed, false // how it does will show
	case ledger.Disabled:
		turn = TurnDisabled
	}
	l.tell(News{Turn: turn, Reason: l.reason})
}

func (l *lane) tell(n News) {
	if l.set.opts.Tell != nil {
		n.Endpoint = l.ep()
		l.set.opts.Tell(n)
	}
}
