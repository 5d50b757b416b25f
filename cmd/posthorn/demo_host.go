package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/outbox"
)

const (
	demoWriters = 4
	// demoBatch is how many events a transaction has at most.
	demoBatch = 5
	// demoRollback is the share of transactions that are rolled back, and of
	// savepoints in the others: a tenth of the events altogether.
	demoRollback = 0.05
)

// demoHost is the application: it keeps what its users do in a table of its
// own and tells the world of it through the outbox.
type demoHost struct {
	pool    *pgxpool.Pool
	tracker *tracker
	limiter *rate.Limiter
	seed    uint64
	endless bool
	left    atomic.Int64 // events to write, unless endless
}

const createChanges = `CREATE TABLE public.changes (id bigint PRIMARY KEY, what text NOT NULL)`

// newDemoHost connects to the database and makes the application's table.
func newDemoHost(ctx context.Context, database string, t *tracker, o demoOptions) (*demoHost, error) {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("connect the demo's application: %w", err)
	}
	if _, err := pool.Exec(ctx, createChanges); err != nil {
		pool.Close()
		return nil, fmt.Errorf("create the demo's table: %w", err)
	}
	limit := rate.Inf
	if o.rate > 0 {
		limit = rate.Limit(o.rate)
	}
	h := &demoHost{pool: pool, tracker: t, limiter: rate.NewLimiter(limit, demoBatch), seed: o.seed, endless: o.events == 0}
	h.left.Store(int64(o.events))
	return h, nil
}

func (h *demoHost) close() { h.pool.Close() }

// write writes until writing ends or all events are written. What it has begun
// it finishes within ctx.
func (h *demoHost) write(ctx, writing context.Context) error {
	writing, cancel := context.WithCancel(writing)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	group, ctx := errgroup.WithContext(ctx)
	for i := range demoWriters {
		random := rand.New(rand.NewPCG(h.seed, uint64(i)+1))
		group.Go(func() error { return h.writer(ctx, writing, random) })
	}
	return group.Wait()
}

func (h *demoHost) writer(ctx, writing context.Context, random *rand.Rand) error {
	for {
		n := h.take(1 + random.IntN(demoBatch))
		if n == 0 || !h.mayWrite(writing, n) {
			return nil
		}
		// When ctx has ended, whoever ended it says why.
		if err := h.transact(ctx, random, n); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write events: %w", err)
		}
	}
}

// mayWrite waits until n events may be written, or returns false when the
// writing ends.
func (h *demoHost) mayWrite(writing context.Context, n int) bool {
	return h.limiter.WaitN(writing, n) == nil && h.tracker.room.Acquire(writing, int64(n)) == nil
}

// take returns how many events a transaction that wants n may write.
func (h *demoHost) take(n int) int {
	if h.endless {
		return n
	}
	left := h.left.Add(int64(-n))
	return int(min(int64(n), max(0, left+int64(n))))
}

// transact writes n events in one transaction, which it may roll back, as a
// whole or to a savepoint.
func (h *demoHost) transact(ctx context.Context, random *rand.Rand, n int) error {
	var kept, undone []uint64
	tx, err := h.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing after a commit
	for range n {
		undo := random.Float64() < demoRollback
		number, err := h.change(ctx, tx, random, undo)
		if err != nil {
			return err
		}
		if undo {
			undone = append(undone, number)
		} else {
			kept = append(kept, number)
		}
	}
	if random.Float64() < demoRollback {
		if err := tx.Rollback(ctx); err != nil {
			return err
		}
		h.tracker.rolledBack(append(undone, kept...))
		return nil
	}
	h.tracker.committing(kept, time.Now())
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	h.tracker.rolledBack(undone)
	h.tracker.committed(kept)
	return nil
}

const insertChange = `INSERT INTO public.changes (id, what) VALUES ($1, $2)`

// change makes one change and writes its event, behind a savepoint that is
// rolled back if undo says so.
func (h *demoHost) change(ctx context.Context, tx pgx.Tx, random *rand.Rand, undo bool) (number uint64, err error) {
	event := makeEvent(random)
	event.ID, number, err = h.tracker.write(event.Tenant, event.Type)
	if err != nil {
		return 0, err
	}
	if undo {
		if tx, err = tx.Begin(ctx); err != nil {
			return 0, err
		}
	}
	if _, err := tx.Exec(ctx, insertChange, int64(number), event.Type+" "+event.Key); err != nil {
		return 0, err
	}
	if _, err := outbox.Write(ctx, tx, event); err != nil {
		return 0, err
	}
	if undo {
		return number, tx.Rollback(ctx)
	}
	return number, nil
}
