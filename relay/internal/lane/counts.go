package lane

import "github.com/posthorn/posthorn/relay/internal/ledger"

// counts is a lane's part of the Meter. What counts is asked for when it is
// needed first: an endpoint shows no figures of what never happened there.
type counts struct {
	meter    Meter
	endpoint string
	attempts map[string]func()       // by outcome
	finals   map[ledger.State]func() // by state
}

func newCounts(m Meter, endpoint string) counts {
	return counts{meter: m, endpoint: endpoint, attempts: map[string]func(){}, finals: map[ledger.State]func(){}}
}

func (c *counts) attempt(outcome string) {
	count := c.attempts[outcome]
	if count == nil {
		count = c.meter.Attempts(c.endpoint, outcome)
		c.attempts[outcome] = count
	}
	count()
}

func (c *counts) final(state ledger.State) {
	count := c.finals[state]
	if count == nil {
		count = c.meter.Finals(c.endpoint, state)
		c.finals[state] = count
	}
	count()
}
