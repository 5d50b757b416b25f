package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Endpoint is what the ledger knows of an endpoint.
type Endpoint struct {
	ID      uuid.UUID
	Name    string
	URL     string // without credentials
	Tenant  string
	Enabled bool
}

const sqlEndpoints = `INSERT INTO posthorn.endpoints (id, name, url, tenant, state)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, tenant = excluded.tenant, state = excluded.state,
  failing = false, updated_at = now()`

const sqlRemoveEndpoints = `UPDATE posthorn.endpoints SET state = 'removed', updated_at = now() WHERE state <> 'removed' AND id <> ALL($1) RETURNING id`

// SyncEndpoints makes the ledger's endpoints those of the configuration.
func (l *Ledger) SyncEndpoints(ctx context.Context, endpoints []Endpoint) error {
	var ids []uuid.UUID
	var names, urls, states []string
	var tenants []*string
	for _, e := range endpoints {
		ids, names = append(ids, e.ID), append(names, e.Name)
		urls, tenants = append(urls, e.URL), append(tenants, orNull(e.Tenant))
		state := "disabled"
		if e.Enabled {
			state = "enabled"
		}
		states = append(states, state)
	}
	if ids == nil {
		ids = []uuid.UUID{}
	}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlEndpoints, ids, names, urls, tenants, states); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sqlRemoveEndpoints, ids)
		return err
	})
	if err != nil {
		return fmt.Errorf("record endpoints: %w", err)
	}
	return nil
}

const sqlOrphans = `SELECT ` + claimColumns + `, p.endpoint_id FROM posthorn.pending p LEFT JOIN posthorn.payloads c ON c.event_id = p.event_id
WHERE p.id IN (SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before
  FROM (SELECT id, bytes FROM posthorn.pending WHERE endpoint_id <> ALL($1) ORDER BY id LIMIT 500) o) b WHERE before < 8388608)`

// FailOrphans ends the pending deliveries of endpoints other than those in
// keep, as failed, and returns how many there were.
func (l *Ledger) FailOrphans(ctx context.Context, keep []uuid.UUID) (int, error) {
	if keep == nil {
		keep = []uuid.UUID{}
	}
	total := 0
	for {
		rows, err := l.pool.Query(ctx, sqlOrphans, keep)
		if err != nil {
			return total, fmt.Errorf("find deliveries of removed endpoints: %w", err)
		}
		batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Record, error) {
			r := &Record{State: Failed, Stored: true, Error: "endpoint removed"}
			d, _, err := scanClaimed(row, &r.Endpoint)
			r.ID, r.Event, r.Attempts, r.Request = d.ID, d.Event, d.Attempts, d.Request
			return r, err
		})
		if err != nil {
			return total, fmt.Errorf("find deliveries of removed endpoints: %w", err)
		}
		if len(batch) == 0 {
			return total, nil
		}
		if err := l.write(ctx, batch, l.Flushed()); err != nil {
			return total, err
		}
		total += len(batch)
	}
}

const sqlFailing = `UPDATE posthorn.endpoints SET failing = $2 WHERE id = $1 AND failing <> $2
  AND EXISTS (SELECT FROM posthorn.relay WHERE slot = $3 AND epoch = $4)`

// SetFailing records whether an endpoint is failing, for people: the running
// relay keeps the state itself.
func (l *Ledger) SetFailing(ctx context.Context, endpoint uuid.UUID, failing bool) error {
	if _, err := l.pool.Exec(ctx, sqlFailing, endpoint, failing, l.slot, l.epoch.Load()); err != nil {
		return fmt.Errorf("record the state of endpoint %s: %w", endpoint, err)
	}
	return nil
}

// sqlChanged looks back a little: transactions do not commit in the order of
// their clocks.
const sqlChanged = `SELECT id, updated_at FROM posthorn.endpoints WHERE updated_at > $1::timestamptz - interval '2 seconds'`

// Changed returns the endpoints that somebody touched after since, or shortly
// before, each with the time of it.
func (l *Ledger) Changed(ctx context.Context, since time.Time) (map[uuid.UUID]time.Time, error) {
	rows, err := l.pool.Query(ctx, sqlChanged, since)
	if err != nil {
		return nil, fmt.Errorf("look for changed endpoints: %w", err)
	}
	changed := make(map[uuid.UUID]time.Time)
	var id uuid.UUID
	var at time.Time
	if _, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		changed[id] = at
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for changed endpoints: %w", err)
	}
	return changed, nil
}

const sqlPendingOf = `SELECT count(*), (extract(epoch FROM min(due_at) FILTER (WHERE state = 'pending' AND due_at < 'infinity') - now()) * 1000000)::bigint
FROM posthorn.pending WHERE endpoint_id = $1`

// BacklogOf counts what is pending for one endpoint.
func (l *Ledger) BacklogOf(ctx context.Context, endpoint uuid.UUID) (Backlog, error) {
	var b Backlog
	var next *int64
	if err := l.pool.QueryRow(ctx, sqlPendingOf, endpoint).Scan(&b.Rows, &next); err != nil {
		return b, fmt.Errorf("count pending deliveries of endpoint %s: %w", endpoint, err)
	}
	b.NextDue = untilDue(next)
	return b, nil
}
