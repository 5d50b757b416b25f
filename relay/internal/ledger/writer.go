package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/posthorn/posthorn/relay/internal/event"
)

// Positions is what the writer needs of the position tracker.
type Positions interface {
	// Settle counts n deliveries of tx as settled.
	Settle(tx *event.Tx, n int)
	// Flushable returns the end of the longest settled prefix.
	Flushable() event.LSN
}

// When nothing is recorded, the flushed position is still brought up to date:
// soon when much WAL depends on it, seldom when little does, because the
// update itself writes WAL that moves the position again.
const (
	idleCheck   = time.Second
	flushMuch   = 1 << 20
	flushSome   = 64 << 10
	someAfter   = 10 * time.Second
	littleAfter = time.Minute
)

// The waits between tries while the ledger cannot be written.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// writeTimeout bounds one try, for a server that does not answer.
const writeTimeout = 30 * time.Second

const uniqueViolation = "23505"

// sqlTransaction is how every transaction but a batch begins, for which
// posthorn.advance does the same. It ends, in the server's own words, what waits in this
// transaction for a lock that somebody holds on a table of the ledger. What
// locks we hold end soon after us, also when we are stopped or cut off: who takes
// over waits for them (and ends us in the midst of a COPY, see Acquire). And what is committed must be on disk: the slot is
// moved past it.
const sqlTransaction = `SELECT set_config('lock_timeout', '5s', true), set_config('idle_in_transaction_session_timeout', '5s', true),
  set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

// Run writes what is put until Finish, then returns nil; it returns ErrFenced
// when another relay took over, and ctx's error when that ends first. While
// the ledger refuses or does not answer it goes on trying: nothing is settled
// meanwhile. onShutdown is called when the server says that it is stopping.
func (l *Ledger) Run(ctx context.Context, positions Positions, onShutdown func()) error {
	flushedAt := time.Now()
	for {
		l.queue.wait(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, soon, last := l.queue.take()
		oldest := int64(0)
		for _, r := range batch {
			if !r.Settles {
				continue
			}
			if at := r.Event.CommittedAt.UnixNano(); oldest == 0 || at < oldest {
				oldest = at
			}
		}
		l.oldest.Store(oldest)
		for _, r := range batch {
			if r.Settles {
				positions.Settle(r.Event.Tx, 1)
			}
		}
		flush := positions.Flushable()
		if len(batch) > 0 || l.flushDue(flush, time.Since(flushedAt), soon || last) {
			if err := l.persist(ctx, batch, flush, onShutdown); err != nil {
				return err
			}
			flushedAt = time.Now()
			l.oldest.Store(0)
			made := 0
			for _, r := range batch {
				if r.State == Delivered {
					made++
				}
			}
			l.unrecorded.add(-made)
			for _, r := range batch {
				if r.Committed != nil {
					r.Committed()
				}
			}
		}
		if last {
			return nil
		}
	}
}

func (l *Ledger) flushDue(flush event.LSN, since time.Duration, now bool) bool {
	flushed := l.Flushed()
	if flush <= flushed {
		return false
	}
	gap := uint64(flush - flushed)
	return now || gap >= flushMuch || gap >= flushSome && since >= someAfter || since >= littleAfter
}

// persist writes batch, however long it takes.
func (l *Ledger) persist(ctx context.Context, batch []*Record, flush event.LSN, onShutdown func()) error {
	wait := firstRetry
	for {
		err := l.write(ctx, batch, flush)
		if codeOf(err) == uniqueViolation { // an id again, or the same batch, because its commit's answer was lost
			err = l.rewrite(ctx, batch, flush)
		}
		if err != nil && refusedForData(err) && len(batch) > 0 {
			err = l.bisect(ctx, batch, err)
			if err == nil {
				err = l.write(ctx, nil, flush)
			}
		}
		switch {
		case err == nil:
			l.flushed.Store(max(l.flushed.Load(), uint64(flush)))
			if l.unreachable.CompareAndSwap(true, false) {
				l.logger.LogAttrs(ctx, slog.LevelInfo, "ledger is written again")
			}
			return nil
		case codeOf(err) == "PH001":
			return ErrFenced
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if code := codeOf(err); code == "57P01" || code == "57P02" || code == "57P03" {
			onShutdown()
		}
		if l.unreachable.CompareAndSwap(false, true) {
			l.logger.LogAttrs(ctx, slog.LevelWarn, "ledger cannot be written, nothing is acknowledged until it can", slog.Any("err", err))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		wait = min(2*wait, lastRetry)
	}
}

// refusedForData reports whether Postgres refused a batch for what is in it:
// data exceptions, integrity violations, and the same delivery twice (an id
// that the application wrote twice in one transaction).
func refusedForData(err error) bool {
	class := classOf(err)
	return class == "21" || class == "22" || class == "23"
}

// bisect writes batch in ever smaller parts, so that a record that Postgres
// refuses does not stop the others. A refused record is written again without
// anything that a user wrote; if that is refused too, it is logged and let go,
// because its delivery was made or parked in vain either way and everything
// after it would wait for ever.
func (l *Ledger) bisect(ctx context.Context, batch []*Record, cause error) error {
	if len(batch) > 1 {
		half := len(batch) / 2
		for _, part := range [][]*Record{batch[:half], batch[half:]} {
			err := l.rewrite(ctx, part, l.Flushed())
			if err != nil && refusedForData(err) {
				err = l.bisect(ctx, part, err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	l.partitions.forget() // a partition that somebody dropped looks like bad data
	if err := l.rewrite(ctx, batch, l.Flushed()); err == nil || !refusedForData(err) {
		return err
	}
	r := batch[0]
	l.logger.LogAttrs(ctx, slog.LevelError, "ledger refuses a record, writing it without its texts",
		slog.String("delivery", r.ID.String()), slog.String("event", r.Event.ID.String()), slog.String("state", string(r.State)), slog.Any("err", cause))
	err := l.rewrite(ctx, []*Record{r.bare(cause)}, l.Flushed())
	if err != nil && refusedForData(err) {
		l.logger.LogAttrs(ctx, slog.LevelError, "ledger refuses a record altogether, it is not recorded",
			slog.String("delivery", r.ID.String()), slog.String("event", r.Event.ID.String()), slog.String("state", string(r.State)), slog.Any("err", err))
		return nil
	}
	return err
}

// bare returns r as a final record without texts and bodies.
func (r *Record) bare(cause error) *Record {
	state := Failed
	if r.State.Final() {
		state = r.State
	}
	return &Record{
		ID: r.ID, Endpoint: r.Endpoint, State: state, Attempts: r.Attempts, Status: r.Status, Stored: r.Stored, Settles: r.Settles, KeyHash: r.KeyHash,
		Error: "ledger refused the record: SQLSTATE " + codeOf(cause),
		Event: &event.Event{ID: r.Event.ID, Position: r.Event.Position, CommittedAt: r.Event.CommittedAt, CreatedAt: r.Event.CommittedAt},
	}
}

// write records batch and the positions in one transaction. It is refused with
// uniqueViolation when something new stands in the ledger already.
func (l *Ledger) write(ctx context.Context, batch []*Record, flush event.LSN) error {
	return l.commit(ctx, batch, flush, slices.ContainsFunc(batch, (*Record).copied))
}

// rewrite is write for records of which some may stand in the ledger already.
func (l *Ledger) rewrite(ctx context.Context, batch []*Record, flush event.LSN) error {
	return l.commit(ctx, batch, flush, false)
}

// commit needs one round trip, and another one where some of the records are
// copied and others are not.
func (l *Ledger) commit(ctx context.Context, batch []*Record, flush event.LSN, copies bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.partitions.ensure(ctx, l.pool, batch); err != nil {
		return err
	}
	to := l.advanceTo(batch, flush)
	rest := &pgx.Batch{} // what is not copied
	l.queuePending(rest, batch)
	l.queueFinal(rest, batch, copies)
	queueAttempts(rest, batch)
	queueHeads(rest, batch)
	var err error
	switch {
	case copies && rest.Len() == 0:
		err = l.sendCopy(ctx, nil, "BEGIN; "+to.literally()+"; "+sqlCopy+"; COMMIT", batch)
	case copies:
		b := &pgx.Batch{}
		b.Queue(`BEGIN`)
		to.queue(b)
		b.QueuedQueries = append(b.QueuedQueries, rest.QueuedQueries...)
		err = l.sendCopy(ctx, b, sqlCopy+"; COMMIT", batch)
	default: // without a transaction of its own a pipelined batch is one
		b := &pgx.Batch{}
		to.queue(b)
		b.QueuedQueries = append(b.QueuedQueries, rest.QueuedQueries...)
		err = l.pool.SendBatch(ctx, b).Close()
	}
	if err != nil {
		return fmt.Errorf("write %d records: %w", len(batch), err)
	}
	return nil
}

// advance is what a batch begins with: that this relay still holds the slot,
// and how far the ledger has come with it.
type advance struct {
	slot     string
	epoch    int64
	recorded event.Position
	flush    event.LSN
}

func (l *Ledger) advanceTo(batch []*Record, flush event.LSN) advance {
	a := advance{slot: l.slot, epoch: l.epoch.Load(), flush: flush}
	for _, r := range batch {
		if r.Settles && r.Event.Position.Compare(a.recorded) > 0 {
			a.recorded = r.Event.Position
		}
	}
	return a
}

func (a advance) queue(b *pgx.Batch) {
	b.Queue(`SELECT posthorn.advance($1, $2, $3::text::pg_lsn, $4, $5::text::pg_lsn)`,
		a.slot, a.epoch, a.recorded.LSN.String(), a.recorded.Index, a.flush.String())
}

// literally returns the statement for a query that takes no arguments.
func (a advance) literally() string {
	return fmt.Sprintf(`SELECT posthorn.advance('%s', %d, '%s', %d, '%s')`,
		strings.ReplaceAll(a.slot, "'", "''"), a.epoch, a.recorded.LSN, a.recorded.Index, a.flush)
}
