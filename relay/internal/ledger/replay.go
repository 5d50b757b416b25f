package ledger

import (
	"time"

	"github.com/google/uuid"
)

// ReplayRequest says which deliveries are made again. A zero field matches all.
type ReplayRequest struct {
	States   []State   `json:"states,omitempty"`   // pending ones become due now
	Endpoint string    `json:"endpoint,omitempty"` // name or id
	Tenant   string    `json:"tenant,omitempty"`   // the event's
	Type     string    `json:"type,omitempty"`
	Event    uuid.UUID `json:"event,omitzero"`
	From     time.Time `json:"from,omitzero"`    // committed at this time or later
	Until    time.Time `json:"until,omitzero"`   // committed before; by default until the request
	NewIDs   bool      `json:"new_ids,omitzero"` // copies under new ids, beside those that are
	Rate     int       `json:"rate,omitempty"`   // deliveries a second; by default 100
	Scope    string    `json:"scope,omitempty"`  // the tenant of the endpoints, and of the events
}

// ReplayPreview is how many deliveries a request is about, counted up to a
// bound.
type ReplayPreview struct {
	Total     int64
	More      bool            // there are more than were counted
	Endpoints []EndpointCount // the most first
}

// EndpointCount is how many deliveries there are of an endpoint.
type EndpointCount struct {
	Endpoint string // name
	Count    int64
}

// ReplayState is how far a replay is.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled"
	ReplayFailed    ReplayState = "failed" // Error says why
)

// Replay is a job of the active relay's.
type Replay struct {
	ID         uuid.UUID
	Request    ReplayRequest
	State      ReplayState
	Total      int64      // deliveries that it was about when it began, counted up to a bound
	TotalMore  bool       // there are more than were counted
	Done       int64      // deliveries that are pending again
	Skipped    int64      // that could not be
	At         *time.Time // commit time of the newest one that it has come to; nil before the first
	CreatedAt  time.Time
	CreatedBy  string
	FinishedAt *time.Time
	Error      string
}
