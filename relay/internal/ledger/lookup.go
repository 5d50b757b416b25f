package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Ref names a delivery by both columns of its primary key.
type Ref struct {
	ID        uuid.UUID
	CreatedAt time.Time
}

const sqlKnown = `SELECT id FROM posthorn.pending WHERE id = ANY($2)
UNION ALL
SELECT d.id FROM unnest($1::timestamptz[], $2::uuid[]) AS u(created_at, id) JOIN posthorn.deliveries d USING (created_at, id)`

// Known returns which of refs stand in the ledger, in whatever state.
func (l *Ledger) Known(ctx context.Context, refs []Ref) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(refs))
	times := make([]time.Time, len(refs))
	for i, ref := range refs {
		ids[i], times[i] = ref.ID, ref.CreatedAt
	}
	rows, err := l.pool.Query(ctx, sqlKnown, times, ids)
	if err != nil {
		return nil, fmt.Errorf("look up %d deliveries: %w", len(refs), err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look up %d deliveries: %w", len(refs), err)
	}
	known := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	return known, nil
}

// Backlog is what the ledger holds for one endpoint when a relay starts.
type Backlog struct {
	Rows    int64
	NextDue time.Duration // of the first that is due or will be; negative when none
}

const sqlBacklog = `SELECT endpoint_id, count(*), (extract(epoch FROM min(due_at) FILTER (WHERE state = 'pending' AND due_at < 'infinity') - now()) * 1000000)::bigint
FROM posthorn.pending GROUP BY endpoint_id`

// untilDue returns the wait in SQL's microseconds; overdue is 0, NULL negative.
func untilDue(us *int64) time.Duration {
	if us == nil {
		return -1
	}
	return max(0, time.Duration(*us)*time.Microsecond)
}

const sqlBacklogKeys = `SELECT DISTINCT ON (key_hash) key_hash, lsn::text, index FROM posthorn.pending
WHERE endpoint_id = $1 AND key_hash IS NOT NULL ORDER BY key_hash, lsn, index LIMIT $2`

// Backlogs returns what stands in pending, for each endpoint that has something.
func (l *Ledger) Backlogs(ctx context.Context) (map[uuid.UUID]Backlog, error) {
	rows, err := l.pool.Query(ctx, sqlBacklog)
	if err != nil {
		return nil, fmt.Errorf("count pending deliveries: %w", err)
	}
	backlogs := make(map[uuid.UUID]Backlog)
	var (
		id   uuid.UUID
		n    int64
		next *int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &n, &next}, func() error {
		backlogs[id] = Backlog{Rows: n, NextDue: untilDue(next)}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count pending deliveries: %w", err)
	}
	return backlogs, nil
}

// BlockedKeys returns the keys of endpoint that have something pending, each
// with the position of its first, and whether there are more than limit.
func (l *Ledger) BlockedKeys(ctx context.Context, endpoint uuid.UUID, limit int) (map[int64]event.Position, bool, error) {
	rows, err := l.pool.Query(ctx, sqlBacklogKeys, endpoint, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("read blocked keys: %w", err)
	}
	keys := make(map[int64]event.Position)
	var hash int64
	var at event.Position
	if _, err = pgx.ForEachRow(rows, []any{&hash, &at.LSN, &at.Index}, func() error {
		keys[hash] = at
		return nil
	}); err != nil {
		return nil, false, fmt.Errorf("read blocked keys: %w", err)
	}
	return keys, len(keys) > limit, nil
}

const sqlStillBlocked = `SELECT DISTINCT ON (p.key_hash) p.key_hash, p.lsn::text, p.index FROM posthorn.pending p
WHERE p.endpoint_id = $1 AND p.key_hash = ANY($2) ORDER BY p.key_hash, p.lsn, p.index`

// StillBlocked returns which of keys have something pending, each with the
// position of its first.
func (l *Ledger) StillBlocked(ctx context.Context, endpoint uuid.UUID, keys []int64) (map[int64]event.Position, error) {
	rows, err := l.pool.Query(ctx, sqlStillBlocked, endpoint, keys)
	if err != nil {
		return nil, fmt.Errorf("check blocked keys: %w", err)
	}
	blocked := make(map[int64]event.Position)
	var hash int64
	var at event.Position
	if _, err = pgx.ForEachRow(rows, []any{&hash, &at.LSN, &at.Index}, func() error {
		blocked[hash] = at
		return nil
	}); err != nil {
		return nil, fmt.Errorf("check blocked keys: %w", err)
	}
	return blocked, nil
}
