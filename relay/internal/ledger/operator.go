package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// RefusedError reports that nobody can do to a delivery what was asked for as
// it stands, and why, without fault of the database. Test for it with errors.As.
type RefusedError struct {
	Why string
	// Told is what a tenant is told of it, where Why is about how the relay is run
	// or what its people do; "" for Why.
	Told string
}

func (e *RefusedError) Error() string { return e.Why }

// Refused returns a *RefusedError.
func Refused(format string, args ...any) error {
	return &RefusedError{Why: fmt.Sprintf(format, args...)}
}

// RefusedButTold is Refused with what a tenant is told instead.
func RefusedButTold(told, format string, args ...any) error {
	return &RefusedError{Why: fmt.Sprintf(format, args...), Told: told}
}

// Original is what an event's deliveries are rendered from.
type Original struct {
	Payload   []byte
	Headers   []byte    // a JSON object of strings, or nil
	CreatedAt time.Time // zero when the outbox does not say
}

// Retry is an operator's wish to make a delivery once more, now. What happens
// to the delivery afterwards follows from its number of attempts as ever.
type Retry struct {
	ID    uuid.UUID
	Actor Actor // who wishes it
	// Endpoint says whether an endpoint orders by key, or why the configuration
	// lets it take no retry.
	Endpoint func(id uuid.UUID) (ordered bool, err error)
	// Original finds what the ledger did not keep.
	Original func(ctx context.Context, event uuid.UUID) (Original, error)
}

const sqlLockSlot = `SELECT epoch FROM posthorn.relay WHERE slot = $1 FOR UPDATE`

// lockSlot returns the epoch, or ErrUnknownSlot. The running relay's writer,
// and whoever wants to take over, waits until tx ends.
func (l *Ledger) lockSlot(ctx context.Context, tx pgx.Tx) (epoch int64, err error) {
	err = tx.QueryRow(ctx, sqlLockSlot, l.slot).Scan(&epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrUnknownSlot
	}
	return epoch, err
}

const sqlRetryPending = `UPDATE posthorn.pending SET due_at = now(), reason = 'retried by hand', updated_at = now() WHERE id = $1`

const sqlTouch = `UPDATE posthorn.endpoints SET updated_at = clock_timestamp() WHERE id = $1`

// Retry makes a delivery due now: one that is pending, or a final one, which
// is pending again. It returns whether it will be rendered again, because its
// request was not kept or never rendered. One that takes no retry as it stands,
// because it is being sent for example, is a *RefusedError.
//
// What takes long is read before the slot's row is locked, for which the running
// relay's writer waits.
func (l *Ledger) Retry(ctx context.Context, r Retry) (again bool, err error) {
	f, err := l.finishedByID(ctx, r)
	if err == nil {
		err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) (err error) {
			again, err = l.retry(ctx, tx, r, f)
			return err
		})
	}
	if err != nil {
		return false, fmt.Errorf("retry delivery %s: %w", r.ID, err)
	}
	return again, nil
}

func (l *Ledger) retry(ctx context.Context, tx pgx.Tx, r Retry, f *finished) (again bool, err error) {
	if _, err := tx.Exec(ctx, sqlTransaction); err != nil {
		return false, err
	}
	epoch, err := l.lockSlot(ctx, tx) // the writer removes payloads that nothing pending names
	if err != nil {
		return false, err
	}
	var (
		state    State
		endpoint uuid.UUID
		waits    bool // for an earlier event of its key
	)
	err = tx.QueryRow(ctx, `SELECT state, endpoint_id, due_at = 'infinity', request_method IS NULL FROM posthorn.pending WHERE id = $1`, r.ID).Scan(&state, &endpoint, &waits, &again)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && f != nil:
		state, endpoint, again = f.state, f.endpoint, f.again
		err = f.reopen(ctx, tx, r, epoch)
	case errors.Is(err, pgx.ErrNoRows):
		err = ErrUnknownDelivery
	case err != nil:
	case state == Sending:
		err = Refused("it is being sent")
	case waits:
		err = Refused("it waits for an earlier event of its key")
	default:
		if _, err = r.takes(ctx, tx, endpoint); err == nil {
			_, err = tx.Exec(ctx, sqlRetryPending, r.ID)
		}
	}
	if err != nil {
		return false, err
	}
	tenant, err := tenantOf(ctx, tx, endpoint)
	if err != nil {
		return false, err
	}
	b := &pgx.Batch{}
	b.Queue(sqlTouch, endpoint)
	r.Actor.queue(b, Entry{Action: "delivery.retry", Subject: r.ID.String(), Tenant: tenant, Detail: map[string]any{"was": state, "rendered_again": again}})
	return again, tx.SendBatch(ctx, b).Close()
}

// takes reports whether an endpoint orders by key, or why it takes no retry.
func (r *Retry) takes(ctx context.Context, tx pgx.Tx, endpoint uuid.UUID) (ordered bool, err error) {
	if ordered, err = r.Endpoint(endpoint); err != nil {
		return false, err
	}
	return ordered, takesRetry(ctx, tx, endpoint)
}

// sqlLocate looks into all partitions, see blooms.
const sqlLocate = `SELECT created_at FROM posthorn.deliveries WHERE id = $1 AND NOT EXISTS (SELECT FROM posthorn.pending WHERE id = $1) LIMIT 1`

const sqlFinished = `SELECT created_at, state, endpoint_id, event_id, type, coalesce(key, ''), request_method IS NULL, payload, headers, event_created_at,
  coalesce(length(request_body), 0) FROM posthorn.deliveries WHERE created_at = $1 AND id = $2`

const sqlReopen = `INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, tenant, key, key_hash, lsn, index, created_at, state, reason,
  attempts, due_at, epoch, bytes, request_method, request_headers, request_body, status, error)
SELECT id, endpoint_id, event_id, type, tenant, key, $3, lsn, index, created_at, 'pending', 'retried by hand',
  attempts, now(), $4, $5, request_method, request_headers, request_body, status, error
FROM posthorn.deliveries WHERE created_at = $1 AND id = $2`

// finished is a final delivery, with what it can be rendered from again.
type finished struct {
	at, createdAt    time.Time
	state            State
	endpoint         uuid.UUID
	event            event.Event
	again            bool // it is rendered again
	payload, headers []byte
	bytes            int64
	missing          error // why there is no payload
}

// locate returns the commit time of a final delivery's event, or pgx.ErrNoRows.
func (l *Ledger) locate(ctx context.Context, id uuid.UUID) (at time.Time, err error) {
	err = l.searching(ctx, func(s *searcher) error {
		if err := s.use(ctx, blooms); err != nil {
			return err
		}
		return s.tx.QueryRow(ctx, sqlLocate, id).Scan(&at)
	})
	return at, err
}

// finishedByID is finished for a delivery of which only the id is known.
func (l *Ledger) finishedByID(ctx context.Context, r Retry) (*finished, error) {
	at, err := l.locate(ctx, r.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.finished(ctx, at, r.ID, r.Original)
}

// finished reads a final delivery; nil if there is none.
func (l *Ledger) finished(ctx context.Context, at time.Time, id uuid.UUID, original func(context.Context, uuid.UUID) (Original, error)) (*finished, error) {
	var f finished
	var eventCreated *time.Time
	err := l.pool.QueryRow(ctx, sqlFinished, at, id).
		Scan(&f.at, &f.state, &f.endpoint, &f.event.ID, &f.event.Type, &f.event.Key, &f.again, &f.payload, &f.headers, &eventCreated, &f.bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if eventCreated != nil {
		f.createdAt = *eventCreated
	}
	if f.payload == nil && f.event.Type != "" {
		var o Original
		o, f.missing = original(ctx, f.event.ID)
		f.payload, f.headers, f.createdAt = o.Payload, o.Headers, o.CreatedAt
	}
	if f.createdAt.IsZero() {
		f.createdAt = f.at
	}
	return &f, nil
}

// reopen turns the delivery into a pending one.
func (f *finished) reopen(ctx context.Context, tx pgx.Tx, r Retry, epoch int64) error {
	ordered, err := r.takes(ctx, tx, f.endpoint)
	switch {
	case err != nil:
		return err
	case f.event.Type == "": // see Record.bare
		return Refused("the ledger could not keep the event")
	case f.missing != nil:
		return f.missing
	}
	var invalid, keyHash any
	if !json.Valid(f.payload) {
		invalid = "the payload is not JSON"
	}
	if hash, ok := f.event.KeyHash(); ok && ordered {
		keyHash = hash
	}
	if _, err := tx.Exec(ctx, `INSERT INTO posthorn.payloads (event_id, payload, headers, created_at, invalid) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING`,
		f.event.ID, f.payload, f.headers, f.createdAt, invalid); err != nil {
		return err
	}
	reopened, err := tx.Exec(ctx, sqlReopen, f.at, r.ID, keyHash, epoch, f.bytes+int64(len(f.payload)+len(f.headers)))
	if err != nil {
		return err
	}
	if reopened.RowsAffected() == 0 {
		return Refused("it was retried meanwhile")
	}
	_, err = tx.Exec(ctx, `DELETE FROM posthorn.deliveries WHERE created_at = $1 AND id = $2`, f.at, r.ID)
	return err
}

// Waiting is what an endpoint has pending.
type Waiting struct {
	Endpoint string // name
	Rows     int64
	Oldest   time.Duration // age of its oldest event
}

const sqlWaiting = `SELECT coalesce(e.name, d.endpoint_id::text), count(*), (extract(epoch FROM now() - min(d.created_at)) * 1000000)::bigint
FROM posthorn.pending d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id GROUP BY 1 ORDER BY 2 DESC`

// Waiting counts what is pending, for each endpoint that has something.
func (l *Ledger) Waiting(ctx context.Context) ([]Waiting, error) {
	rows, err := l.pool.Query(ctx, sqlWaiting)
	if err != nil {
		return nil, fmt.Errorf("count pending deliveries: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w Waiting, err error) {
		var us int64
		err = row.Scan(&w.Endpoint, &w.Rows, &us)
		w.Oldest = time.Duration(us) * time.Microsecond
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("count pending deliveries: %w", err)
	}
	return list, nil
}
