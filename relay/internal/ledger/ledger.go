// Package ledger is the relay's memory, and all SQL on its tables.
// What became of every delivery is written in batches by one goroutine, each
// batch in one transaction that also proves that this relay still holds its
// slot.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// ErrFenced reports that another relay raised the epoch: whatever this one
// still knows of deliveries is out of date.
var ErrFenced = errors.New("another relay took over")

// ErrUnknownSlot reports that the ledger never heard of the slot.
var ErrUnknownSlot = errors.New("the ledger does not know the slot")

// Bodies says which final deliveries keep request and payload.
type Bodies string

// The values of ledger.bodies.
const (
	BodiesAll    Bodies = "all"
	BodiesFailed Bodies = "failed"
	BodiesNone   Bodies = "none"
)

// Ledger is the ledger of one slot. Use New.
type Ledger struct {
	pool   *pgxpool.Pool
	slot   string
	bodies Bodies
	logger *slog.Logger
	epoch  atomic.Int64 // 0 until Acquire
	queue  queue

	flushed     atomic.Uint64 // position that stands in the ledger
	partitions  partitions
	unrecorded  gate         // deliveries that were made and are not recorded
	copyBuffer  []byte       // the writer's: kept from batch to batch
	unreachable atomic.Bool  // the newest batch could not be written yet
	oldest      atomic.Int64 // commit time, in unix nanoseconds, of the oldest delivery that is being written to be settled; 0 for none
}

// New returns the ledger of slot in the database that pool connects to.
func New(pool *pgxpool.Pool, slot string, bodies Bodies, logger *slog.Logger) *Ledger {
	return &Ledger{pool: pool, slot: slot, bodies: bodies, logger: logger, queue: newQueue()}
}

// Place is where the ledger stands in the stream.
type Place struct {
	SystemID string // "" until a relay first held the slot
	Timeline int32
	Epoch    int64
	Holder   string
	Recorded event.Position
	Flushed  event.LSN
}

const sqlPlace = `SELECT coalesce(system_id, ''), coalesce(timeline, 0), epoch, coalesce(holder, ''), recorded_lsn::text, recorded_index, flushed_lsn::text
FROM posthorn.relay WHERE slot = $1`

// Place returns where the ledger stands, or ErrUnknownSlot.
func (l *Ledger) Place(ctx context.Context) (Place, error) {
	return scanPlace(l.pool.QueryRow(ctx, sqlPlace, l.slot))
}

func scanPlace(row pgx.Row) (p Place, err error) {
	err = row.Scan(&p.SystemID, &p.Timeline, &p.Epoch, &p.Holder, &p.Recorded.LSN, &p.Recorded.Index, &p.Flushed)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, ErrUnknownSlot
	}
	if err != nil {
		return p, fmt.Errorf("read the relay's place: %w", err)
	}
	return p, nil
}

const sqlAcquire = `UPDATE posthorn.relay
SET epoch = epoch + 1, holder = $2, system_id = $3, timeline = $4, updated_at = clock_timestamp()
WHERE slot = $1
RETURNING coalesce(system_id, ''), coalesce(timeline, 0), epoch, coalesce(holder, ''), recorded_lsn::text, recorded_index, flushed_lsn::text`

// sqlInterrupted makes due again what a relay before us had in flight.
const sqlInterrupted = `UPDATE posthorn.pending SET state = 'pending', due_at = now(), reason = 'interrupted', updated_at = now()
WHERE state = 'sending' AND epoch < $1`

// sqlEvict ends the sessions of relays before us that are in the midst of a
// batch, also one that was stopped or cut off while the server waits for the
// rest of its COPY, which no timeout of the server's bounds.
const sqlEvict = `SELECT pg_terminate_backend(a.pid) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.relation = 'posthorn.relay'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted AND a.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.usename = current_user`

const lockNotAvailable = "55P03"

// Acquire raises the epoch, which fences every relay before, and makes due
// again what those had in flight. Only the relay that holds the slot calls it:
// who else keeps its row locked for long is none any more, and is ended.
func (l *Ledger) Acquire(ctx context.Context, holder, systemID string, timeline int32) (Place, error) {
	place, err := l.acquire(ctx, holder, systemID, timeline)
	if codeOf(err) == lockNotAvailable {
		if _, err = l.pool.Exec(ctx, sqlEvict); err == nil {
			place, err = l.acquire(ctx, holder, systemID, timeline)
		}
	}
	if err != nil {
		return place, fmt.Errorf("acquire slot %s in the ledger: %w", l.slot, err)
	}
	l.epoch.Store(place.Epoch)
	l.flushed.Store(uint64(place.Flushed))
	return place, nil
}

func (l *Ledger) acquire(ctx context.Context, holder, systemID string, timeline int32) (place Place, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) (err error) {
		if _, err = tx.Exec(ctx, sqlTransaction); err != nil {
			return err
		}
		place, err = scanPlace(tx.QueryRow(ctx, sqlAcquire, l.slot, holder, systemID, timeline))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, sqlInterrupted, place.Epoch)
		return err
	})
	return place, err
}

// Epoch returns the epoch that Acquire got.
func (l *Ledger) Epoch() int64 { return l.epoch.Load() }

// Flushed returns the position that stands in the ledger as flushed.
func (l *Ledger) Flushed() event.LSN { return event.LSN(l.flushed.Load()) }

// Unreachable reports whether the ledger refuses or does not answer at present.
func (l *Ledger) Unreachable() bool { return l.unreachable.Load() }

// OldestUnwritten returns the commit time of the oldest event that the batch
// being written settles, zero when none does.
func (l *Ledger) OldestUnwritten() time.Time {
	if ns := l.oldest.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

const sqlEnroll = `INSERT INTO posthorn.relay (slot, flushed_lsn) VALUES ($1, $2::text::pg_lsn) ON CONFLICT (slot) DO NOTHING`

// sqlFromStart is for a new slot: its positions may be another server's than
// those that the definitions know.
const sqlFromStart = `UPDATE posthorn.definitions SET from_lsn = '0/0' WHERE from_lsn <> '0/0'`

// Enroll makes a slot that was just created known to the ledger: all of its
// events are for every endpoint. A ledger is one slot's: it is an error when it
// knows another.
func Enroll(ctx context.Context, pool *pgxpool.Pool, slot string, confirmed event.LSN) error {
	var other string
	err := pool.QueryRow(ctx, `SELECT slot FROM posthorn.relay WHERE slot <> $1 LIMIT 1`, slot).Scan(&other)
	if err == nil {
		return fmt.Errorf("the ledger belongs to slot %s: give slot %s a ledger.url of its own, or uninstall the other first", other, slot)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			enrolled, err := tx.Exec(ctx, sqlEnroll, slot, confirmed.String())
			if err == nil && enrolled.RowsAffected() > 0 {
				_, err = tx.Exec(ctx, sqlFromStart)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("enroll slot %s in the ledger: %w", slot, err)
	}
	return nil
}

// Forget removes the slot from the ledger, after the slot itself was dropped.
func Forget(ctx context.Context, pool *pgxpool.Pool, slot string) error {
	if _, err := pool.Exec(ctx, `DELETE FROM posthorn.relay WHERE slot = $1`, slot); err != nil {
		return fmt.Errorf("forget slot %s in the ledger: %w", slot, err)
	}
	return nil
}

// classOf returns the two characters of err's SQLSTATE that name its class, or
// "" when the server said nothing.
func classOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		return pg.Code[:2]
	}
	return ""
}

// codeOf returns err's SQLSTATE, or "".
func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// microseconds returns d for an interval in SQL.
func microseconds(d time.Duration) int64 { return d.Microseconds() }
