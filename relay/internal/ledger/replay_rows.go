package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// MissedRows are rows of the outbox that a replay came to.
type MissedRows struct {
	ID       uuid.UUID
	Endpoint uuid.UUID
	Records  []*Record // pending, of the rows that the endpoint wants, in the order of the rows
	Skipped  int       // that could not be judged
	At       time.Time // the last row's
	Last     bool
}

const sqlLockRows = `SELECT listed AND state = 'running', done FROM posthorn.replays WHERE id = $1 FOR UPDATE`

const sqlRowsReplayed = `UPDATE posthorn.replays SET rows_at = greatest(rows_at, $2), done = done + $3, skipped = skipped + $4, error = NULL,
  state = CASE WHEN $5 THEN 'done' ELSE state END, finished_at = CASE WHEN $5 THEN clock_timestamp() END WHERE id = $1`

// StepRows makes deliveries of rows that have none, and records how far the
// replay has come, in one transaction. It does nothing when the replay does not
// run any more, and returns ErrFenced when another relay took over.
//
// A row does not say where it was in the stream. So that those of a key are sent
// one after the other, the records' events get positions in the order of the
// rows, before all of the stream.
func (l *Ledger) StepRows(ctx context.Context, m *MissedRows) error {
	fresh, err := l.fresh(ctx, m)
	if err != nil {
		return fmt.Errorf("go on with replay %s: %w", m.ID, err)
	}
	err = l.fenced(ctx, func(tx pgx.Tx) error {
		var runs bool
		var done int64
		if err := tx.QueryRow(ctx, sqlLockRows, m.ID).Scan(&runs, &done); err != nil || !runs {
			return err
		}
		if len(fresh) > 0 {
			var refused *RefusedError
			switch err := takesRetry(ctx, tx, m.Endpoint); {
			case errors.As(err, &refused): // paused or deleted meanwhile
				fresh, m.Skipped = nil, m.Skipped+len(fresh)
			case err != nil:
				return err
			}
		}
		for i, r := range fresh {
			r.Event.Position = event.Position{Index: done + int64(i)}
		}
		b := &pgx.Batch{}
		l.queuePending(b, fresh)
		queueHeads(b, fresh)
		if len(fresh) > 0 {
			b.Queue(sqlTouch, m.Endpoint)
		}
		b.Queue(sqlRowsReplayed, m.ID, m.At, len(fresh), m.Skipped, m.Last)
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("go on with replay %s: %w", m.ID, err)
	}
	return nil
}

// aroundFirst is how long after an endpoint's first delivery another one may be
// of an event that was written before it.
const aroundFirst = time.Hour

const sqlDeliveredAround = `SELECT event_id FROM posthorn.deliveries
WHERE endpoint_id = $1 AND event_id = ANY($2) AND created_at >= $3 AND created_at < $4::timestamptz + $5 * interval '1 microsecond'`

// fresh returns the records of events that have no delivery to the endpoint yet.
func (l *Ledger) fresh(ctx context.Context, m *MissedRows) ([]*Record, error) {
	if len(m.Records) == 0 {
		return nil, nil
	}
	// What was on its way when the replay began has become final since, and may
	// have been committed at any time after its row was written.
	first := m.Records[0].Event.CommittedAt
	refs, events := make([]Ref, len(m.Records)), uuids{}
	for i, r := range m.Records {
		if at := r.Event.CommittedAt; at.Before(first) {
			first = at
		}
		refs[i], events = Ref{ID: r.ID, CreatedAt: r.Event.CommittedAt}, events.with(r.Event.ID)
	}
	known, err := l.Known(ctx, refs) // what this replay made before, too
	if err != nil {
		return nil, err
	}
	r, _, err := l.replayAt(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	delivered := make(map[uuid.UUID]bool)
	if r.RowsUntil != nil {
		err = l.searching(ctx, func(s *searcher) error {
			if err := s.use(ctx, blooms); err != nil {
				return err
			}
			rows, err := s.tx.Query(ctx, sqlDeliveredAround, m.Endpoint, events, first, *r.RowsUntil, microseconds(aroundFirst))
			if err != nil {
				return err
			}
			var id uuid.UUID
			_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
				delivered[id] = true
				return nil
			})
			return err
		})
	}
	var fresh []*Record
	for _, r := range m.Records {
		if !known[r.ID] && !delivered[r.Event.ID] {
			known[r.ID] = true
			fresh = append(fresh, r)
		}
	}
	return fresh, err
}
