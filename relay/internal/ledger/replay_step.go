package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ReplayStep is one step of a replay. Of Endpoint and Original see Retry.
type ReplayStep struct {
	ID       uuid.UUID
	Most     int // deliveries
	Endpoint func(id uuid.UUID) (ordered bool, err error)
	Original func(ctx context.Context, event uuid.UUID) (Original, error)
}

// stepBytes bounds what a step holds in memory; its last delivery may exceed it.
const stepBytes = 8 << 20

// batch is what a step is about to do.
type batch struct {
	last     Cursor // the last delivery that it came to
	more     bool
	skipped  int
	due      uuids       // pending ones
	taken    []*finished // final ones
	ids      []uuid.UUID // of those
	ordered  map[uuid.UUID]bool
	refused  map[uuid.UUID]error
	touching map[uuid.UUID]bool
}

// StepReplay makes the next deliveries of a replay pending, or those that are
// pending due now, and records how far it has come, in one transaction: a replay
// that was interrupted goes on exactly there. It returns whether more is to be
// done, but for rows of the outbox. It does nothing when the replay does not run any more, and returns
// ErrFenced when another relay took over.
func (l *Ledger) StepReplay(ctx context.Context, step ReplayStep) (more bool, err error) {
	r, cursor, err := l.replayAt(ctx, step.ID)
	if err == nil && (r.State != ReplayRunning || r.Listed) {
		return false, nil
	}
	var b *batch
	if err == nil {
		b, err = l.nextOf(ctx, step, r, cursor)
	}
	if err == nil {
		err = l.fenced(ctx, func(tx pgx.Tx) error { return l.apply(ctx, tx, r, cursor, b) })
	}
	if err != nil {
		return false, fmt.Errorf("go on with replay %s: %w", step.ID, err)
	}
	return b.more, nil
}

// nextOf finds what comes after cursor, and reads what it is made from again.
func (l *Ledger) nextOf(ctx context.Context, step ReplayStep, r *Replay, cursor Cursor) (*batch, error) {
	q := r.Request.search(step.Most)
	q.forwards, q.After = true, cursor
	if r.Request.NewIDs { // its own copies stand among them soon
		q.finishedBefore = r.CreatedAt
	}
	var found []Delivery
	if err := l.searching(ctx, func(s *searcher) (err error) {
		found, err = s.find(ctx, q)
		return err
	}); err != nil {
		return nil, err
	}
	b := &batch{last: cursor, more: len(found) == step.Most, ordered: make(map[uuid.UUID]bool), refused: make(map[uuid.UUID]error), touching: make(map[uuid.UUID]bool)}
	bytes := 0
	for i := range found {
		if bytes > stepBytes {
			b.more = true
			break
		}
		n, err := l.prepare(ctx, step, b, &found[i])
		if err != nil {
			return nil, err
		}
		bytes += n
		b.last = Cursor{CreatedAt: found[i].CreatedAt, ID: found[i].ID}
	}
	return b, nil
}

// prepare adds a delivery to the batch, and returns how many bytes that takes.
// An error is one that may be gone at the next try.
func (l *Ledger) prepare(ctx context.Context, step ReplayStep, b *batch, d *Delivery) (bytes int, err error) {
	takes, err := l.takesAgain(ctx, step, b, d.EndpointID)
	if err != nil {
		return 0, err
	}
	if !takes {
		b.skipped++
		return 0, nil
	}
	if !d.State.Final() {
		b.due = b.due.with(d.ID)
		b.touching[d.EndpointID] = true
		return 0, nil
	}
	f, err := l.finished(ctx, d.CreatedAt, d.ID, step.Original)
	var refused *RefusedError
	switch {
	case err != nil:
		return 0, err
	case f == nil, f.event.Type == "", errors.As(f.missing, &refused): // retried meanwhile; see Record.bare; nothing to send
		b.skipped++
		return 0, nil
	case f.missing != nil:
		return 0, f.missing
	}
	b.taken, b.ids = append(b.taken, f), append(b.ids, d.ID)
	b.touching[d.EndpointID] = true
	return int(f.bytes) + len(f.payload), nil
}

// takesAgain reports whether an endpoint's deliveries can be made again, asking
// once a batch.
func (l *Ledger) takesAgain(ctx context.Context, step ReplayStep, b *batch, endpoint uuid.UUID) (bool, error) {
	why, known := b.refused[endpoint]
	if !known {
		ordered, err := step.Endpoint(endpoint)
		if err == nil {
			err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return takesRetry(ctx, tx, endpoint) })
		}
		b.ordered[endpoint], b.refused[endpoint], why = ordered, err, err
	}
	var refused *RefusedError
	if why != nil && !errors.As(why, &refused) {
		return false, why
	}
	return why == nil, nil
}

const sqlLockReplay = `SELECT NOT listed AND state = 'running' AND (at, at_id) IS NOT DISTINCT FROM ($2::timestamptz, $3::uuid) FROM posthorn.replays WHERE id = $1 FOR UPDATE`

const sqlReplayed = `UPDATE posthorn.replays SET at = $2, at_id = $3, done = done + $4, skipped = skipped + $5, listed = NOT $6, error = NULL,
  state = CASE WHEN $6 OR rows_until IS NOT NULL THEN state ELSE 'done' END,
  finished_at = CASE WHEN $6 OR rows_until IS NOT NULL THEN NULL ELSE clock_timestamp() END WHERE id = $1`

// sqlDueNow leaves alone what waits for an earlier event of its key.
const sqlDueNow = `UPDATE posthorn.pending SET due_at = now(), reason = 'retried by hand', updated_at = now() WHERE id = ANY($1) AND state = 'pending' AND due_at < 'infinity'`

// sqlAgain is completed with how the rows are taken, and their new ids and requests.
const (
	sqlAgain = `WITH taken AS (%s) INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, tenant, key, key_hash, lsn, index, created_at, state, reason,
  attempts, due_at, epoch, bytes, request_method, request_headers, request_body, status, error)
SELECT %s, endpoint_id, event_id, type, tenant, key, key_hash, lsn, index, created_at, 'pending', 'retried by hand', %s, now(), $5, bytes, %s
FROM taken ON CONFLICT DO NOTHING`
	sqlTheseRows = ` unnest($1::timestamptz[], $2::uuid[], $3::bigint[], $4::bigint[], $8::uuid[]) AS u(created_at, id, key_hash, bytes, new_id)`
	sqlTheseOnly = ` d.created_at = u.created_at AND d.id = u.id AND d.created_at BETWEEN $6 AND $7`
)

var (
	sqlReopenMany = fmt.Sprintf(sqlAgain, `DELETE FROM posthorn.deliveries d USING`+sqlTheseRows+` WHERE`+sqlTheseOnly+` RETURNING d.*, u.key_hash, u.bytes`,
		`id`, `attempts`, `request_method, request_headers, request_body, status, error`)
	sqlCopyMany = fmt.Sprintf(sqlAgain, `SELECT d.*, u.key_hash, u.bytes, u.new_id FROM posthorn.deliveries d JOIN`+sqlTheseRows+` ON`+sqlTheseOnly,
		`new_id`, `0`, `NULL, NULL, NULL, NULL, NULL`)
)

// apply does what the batch is about, unless the replay was cancelled or
// somebody else did it.
func (l *Ledger) apply(ctx context.Context, tx pgx.Tx, r *Replay, cursor Cursor, b *batch) error {
	at, atID := cursor.args()
	var ours bool
	if err := tx.QueryRow(ctx, sqlLockReplay, r.ID, at, atID).Scan(&ours); err != nil {
		return err
	}
	if !ours {
		b.more = false
		return nil
	}
	if err := b.forgo(ctx, tx); err != nil {
		return err
	}
	done := 0
	if len(b.due) > 0 {
		tag, err := tx.Exec(ctx, sqlDueNow, b.due)
		if err != nil {
			return err
		}
		done += int(tag.RowsAffected())
	}
	if len(b.taken) > 0 {
		n, err := l.reopenMany(ctx, tx, r, b)
		if err != nil {
			return err
		}
		done += n
	}
	out := &pgx.Batch{}
	for id := range b.touching {
		out.Queue(sqlTouch, id)
	}
	at, atID = b.last.args()
	out.Queue(sqlReplayed, r.ID, at, atID, done, b.skipped+len(b.due)+len(b.taken)-done, b.more)
	return tx.SendBatch(ctx, out).Close()
}

// forgo takes out of the batch what its endpoints would not take any more: they may
// have been paused or deleted since it was prepared.
func (b *batch) forgo(ctx context.Context, tx pgx.Tx) error {
	for _, id := range slices.SortedFunc(maps.Keys(b.touching), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) {
		var refused *RefusedError
		err := takesRetry(ctx, tx, id)
		switch {
		case err == nil:
			continue
		case !errors.As(err, &refused):
			return err
		}
		delete(b.touching, id)
		var taken []*finished
		var ids []uuid.UUID
		for i, f := range b.taken {
			if f.endpoint != id {
				taken, ids = append(taken, f), append(ids, b.ids[i])
			}
		}
		b.skipped += len(b.taken) - len(taken)
		b.taken, b.ids = taken, ids
	}
	return nil
}

// reopenMany makes final deliveries pending, or copies of them.
func (l *Ledger) reopenMany(ctx context.Context, tx pgx.Tx, r *Replay, b *batch) (int, error) {
	var (
		events, ids, news uuids
		payloads, headers [][]byte
		created, at       []time.Time
		invalid           []*string
		hashes            []*int64
		bytes             []int64
	)
	for i, f := range b.taken {
		events, payloads, headers, created = events.with(f.event.ID), append(payloads, f.payload), append(headers, f.headers), append(created, f.createdAt)
		why := ""
		if !json.Valid(f.payload) {
			why = "the payload is not JSON"
		}
		invalid = append(invalid, orNull(why))
		var hash *int64
		if h, ok := f.event.KeyHash(); ok && b.ordered[f.endpoint] {
			hash = &h
		}
		hashes, at, ids, news = append(hashes, hash), append(at, f.at), ids.with(b.ids[i]), news.with(uuid.New())
		bytes = append(bytes, f.bytes+int64(len(f.payload)+len(f.headers)))
	}
	if _, err := tx.Exec(ctx, sqlPayloads, events, payloads, headers, created, invalid); err != nil {
		return 0, err
	}
	sql := sqlReopenMany
	if r.Request.NewIDs {
		sql = sqlCopyMany
	}
	tag, err := tx.Exec(ctx, sql, at, ids, hashes, bytes, l.epoch.Load(), at[0], at[len(at)-1], news)
	return int(tag.RowsAffected()), err
}

// args returns the cursor for SQL: NULL for the beginning.
func (c Cursor) args() (at *time.Time, id *uuid.UUID) {
	if c == (Cursor{}) {
		return nil, nil
	}
	return &c.CreatedAt, &c.ID
}
