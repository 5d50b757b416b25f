package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// EndpointStatus is an endpoint as operators see it.
type EndpointStatus struct {
	ID            uuid.UUID     `json:"id"`
	Name          string        `json:"name"`
	Tenant        string        `json:"tenant,omitempty"`
	URL           string        `json:"url"` // without credentials
	State         EndpointState `json:"state"`
	By            string        `json:"state_by"`                 // configuration, operator or relay
	Reason        string        `json:"reason,omitempty"`         // of the state
	Since         *time.Time    `json:"since,omitempty"`          // when the state was set; nil while no relay knows the endpoint
	Failing       bool          `json:"failing"`                  // its first attempts are parked
	Failures      int           `json:"failures"`                 // failed attempts in a row
	FailingSince  *time.Time    `json:"failing_since,omitempty"`  // the first of them; nil without
	Pending       int64         `json:"pending"`                  // deliveries that are not final, counted up to 10,000
	PendingMore   bool          `json:"pending_more,omitempty"`   // there are more than were counted
	OldestPending *time.Time    `json:"oldest_pending,omitempty"` // commit time of the oldest one's event; nil without
	NextDue       *time.Time    `json:"next_due,omitempty"`       // when the first may be sent; nil when none may
	Origin        string        `json:"origin"`                   // OfConfiguration or OfAPI
}

// Where an endpoint is defined, as operators see it.
const (
	OfConfiguration = "configuration"
	OfAPI           = "api"
)

// Waiting returns how many are pending, for people: 10000+ where that is as far
// as they were counted.
func (s *EndpointStatus) Waiting() string {
	if s.PendingMore {
		return fmt.Sprintf("%d+", s.Pending)
	}
	return fmt.Sprint(s.Pending)
}

// Held reports whether the endpoint waits for somebody to resume it.
func (s *EndpointStatus) Held() bool {
	return s.State == Paused || s.State == Disabled && s.By != byConfiguration
}

// pendingCounted is how far what an endpoint has pending is counted.
const pendingCounted = 10_000

// sqlStatuses reads of what is pending what the indexes answer, so that a list
// takes no longer when millions wait.
const sqlStatuses = `SELECT e.id, e.name, coalesce(e.tenant, ''), e.url, e.state, e.state_by, coalesce(e.reason, ''), e.state_at,
  e.failing, e.failures, e.failing_since,
  (SELECT count(*) FROM (SELECT FROM posthorn.pending p WHERE p.endpoint_id = e.id LIMIT $2 + 1) AS counted),
  (SELECT p.created_at FROM posthorn.pending p WHERE p.endpoint_id = e.id ORDER BY p.created_at LIMIT 1),
  (SELECT p.due_at FROM posthorn.pending p WHERE p.endpoint_id = e.id AND p.state = 'pending' AND p.due_at < 'infinity' ORDER BY p.due_at LIMIT 1),
  CASE WHEN EXISTS (SELECT FROM posthorn.definitions f WHERE f.id = e.id) THEN '` + OfAPI + `' ELSE '` + OfConfiguration + `' END
FROM posthorn.endpoints e WHERE ($1 OR e.state <> 'removed') AND ($3 = '' OR e.tenant = $3) ORDER BY e.name, e.id`

// Endpoints returns the endpoints that stand in the ledger, by name, with what
// they have pending: of a tenant only, unless that is "", and those that were
// removed too if removed is true.
func (l *Ledger) Endpoints(ctx context.Context, tenant string, removed bool) ([]EndpointStatus, error) {
	rows, err := l.pool.Query(ctx, sqlStatuses, removed, pendingCounted, tenant)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanStatus)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return list, nil
}

func scanStatus(row pgx.CollectableRow) (s EndpointStatus, err error) {
	err = row.Scan(&s.ID, &s.Name, &s.Tenant, &s.URL, &s.State, &s.By, &s.Reason, &s.Since,
		&s.Failing, &s.Failures, &s.FailingSince, &s.Pending, &s.OldestPending, &s.NextDue, &s.Origin)
	s.PendingMore, s.Pending = s.Pending > pendingCounted, min(s.Pending, pendingCounted)
	return s, err
}

const sqlStatus = `SELECT * FROM (` + sqlStatuses + `) AS s WHERE s.id = $4`

// EndpointStatus returns one endpoint of those that stand in the ledger, or
// ErrUnknownEndpoint.
func (l *Ledger) EndpointStatus(ctx context.Context, id uuid.UUID) (*EndpointStatus, error) {
	rows, err := l.pool.Query(ctx, sqlStatus, true, pendingCounted, "", id)
	if err != nil {
		return nil, fmt.Errorf("read endpoint %s: %w", id, err)
	}
	s, err := pgx.CollectOneRow(rows, scanStatus)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrUnknownEndpoint
	}
	if err != nil {
		return nil, fmt.Errorf("read endpoint %s: %w", id, err)
	}
	return &s, nil
}

// Status returns the status of an endpoint of the configuration that the
// ledger does not know.
func (e *Endpoint) Status() EndpointStatus {
	return EndpointStatus{ID: e.ID, Name: e.Name, Tenant: e.Tenant, URL: e.URL, State: e.configured(), By: byConfiguration, Reason: e.reason(), Origin: OfConfiguration}
}

const sqlEnlist = `INSERT INTO posthorn.endpoints AS e (id, name, url, tenant, state, reason) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, tenant = excluded.tenant, state = excluded.state,
  reason = excluded.reason, state_at = now() WHERE e.state = 'removed'`

// Enlist makes an endpoint of the configuration known before a relay runs
// with it. One that is known is left as it is.
func (l *Ledger) Enlist(ctx context.Context, e Endpoint) error {
	if _, err := l.pool.Exec(ctx, sqlEnlist, e.ID, e.Name, e.URL, orNull(e.Tenant), string(e.configured()), orNull(e.reason())); err != nil {
		return fmt.Errorf("record endpoint %s: %w", e.Name, err)
	}
	return nil
}
