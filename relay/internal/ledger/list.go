package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Filter says which deliveries List returns. A zero field matches all.
type Filter struct {
	States      []State
	Endpoint    string // name or id
	Tenant      string // the event's
	Type        string
	Event       uuid.UUID
	Since       time.Duration // committed within so long
	From, Until time.Time     // committed at From or later, and before Until
	Scope       string        // the tenant of the endpoint, and of the event
	Limit       int           // at most so many, the newest first
	After       Cursor        // those that a list has after this one
}

// Cursor is where a delivery stands in lists: the newest event's stand first,
// and of one moment those with the highest ids.
type Cursor struct {
	CreatedAt time.Time // commit time of the event, whole microseconds
	ID        uuid.UUID
}

// Delivery is a delivery as operators see it.
type Delivery struct {
	ID         uuid.UUID  `json:"id"`
	State      State      `json:"state"`
	Endpoint   string     `json:"endpoint"` // name
	EndpointID uuid.UUID  `json:"endpoint_id"`
	Event      uuid.UUID  `json:"event_id"`
	Type       string     `json:"type"`
	Tenant     string     `json:"tenant,omitempty"`
	Key        string     `json:"key,omitempty"`
	CreatedAt  time.Time  `json:"created_at"` // commit time of the event
	Attempts   int        `json:"attempts"`
	Status     int        `json:"status,omitempty"` // of the last attempt; 0 without an answer
	Error      string     `json:"error,omitempty"`
	Reason     string     `json:"reason,omitempty"` // why it is pending
	DueAt      *time.Time `json:"due_at,omitempty"` // nil when final, and while an earlier event of its key is pending
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// List returns the deliveries that match f, the newest event's first.
func (l *Ledger) List(ctx context.Context, f Filter) ([]Delivery, error) {
	var list []Delivery
	err := l.searching(ctx, func(s *searcher) (err error) {
		list, err = s.find(ctx, &search{Filter: f})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

// The two tables that deliveries stand in, with the same columns.
const (
	pendingColumns = `d.id, d.state, coalesce(e.name, ''), d.endpoint_id, d.event_id, d.type, coalesce(d.tenant, ''), coalesce(d.key, ''), d.created_at, d.attempts,
  coalesce(d.status, 0), coalesce(d.error, ''), coalesce(d.reason, ''), nullif(d.due_at, 'infinity'), NULL::timestamptz`
	finalColumns = `d.id, d.state, coalesce(e.name, ''), d.endpoint_id, d.event_id, d.type, coalesce(d.tenant, ''), coalesce(d.key, ''), d.created_at, d.attempts,
  coalesce(d.status, 0), coalesce(d.error, ''), '', NULL::timestamptz, d.finished_at`
)

// columns returns where to scan pendingColumns and finalColumns to.
func (d *Delivery) columns() []any {
	return []any{&d.ID, &d.State, &d.Endpoint, &d.EndpointID, &d.Event, &d.Type, &d.Tenant, &d.Key, &d.CreatedAt, &d.Attempts,
		&d.Status, &d.Error, &d.Reason, &d.DueAt, &d.FinishedAt}
}

func scanDelivery(row pgx.CollectableRow) (d Delivery, err error) {
	err = row.Scan(d.columns()...)
	return d, err
}
