package admin

import (
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Stats are figures of the relay now and over time.
type Stats struct {
	Now    StatsNow
	Series []ledger.Point // of each step, the oldest first; steps in which nothing happened too
}

// StatsNow is how the relay does: rates and times over the last minute or so.
type StatsNow struct {
	EventsPerSecond     float64
	DeliveriesPerSecond float64       // that became delivered
	SuccessShare        float64       // of the attempts; 1 without any
	P50, P95, P99       time.Duration // from commit to delivery; 0 without any

	Pending       int64      // deliveries that are not final, counted up to a bound
	PendingMore   bool       // there are more than were counted
	OldestPending *time.Time // commit time; nil without any

	SlotKnown       bool       // the two below were read lately
	SlotLag         int64      // bytes of WAL that are not confirmed
	SlotRetained    int64      // bytes of WAL that Postgres keeps for the slot
	OldestUnsettled *time.Time // commit time; nil without any, and on a standby
}
