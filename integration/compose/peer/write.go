package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/integration/compose/record"
	"github.com/posthorn/posthorn/outbox"
)

const (
	keys = 50
	// A transaction writes up to maxEvents events, each of another key.
	maxEvents = 5
	// rollback is the share of transactions that are rolled back.
	rollback = 0.1
)

// limit bounds what a writer commits that nobody stops.
const limit = 100_000

// writer is the host application. It counts each key's events in a table of its
// own, whose row locks make the order of the counts that of the commits, also
// beside other writers.
type writer struct {
	conn *pgx.Conn
	left int           // events to commit at most
	wait time.Duration // between the events
}

// write commits events until it is stopped.
func write(ctx context.Context) error {
	rate, err := strconv.Atoi(os.Getenv("RATE"))
	if err != nil {
		return fmt.Errorf("read RATE: %w", err)
	}
	w := &writer{left: limit, wait: time.Second / time.Duration(rate)}
	for ctx.Err() == nil {
		err := w.work(ctx)
		if w.conn != nil {
			_ = w.conn.Close(context.WithoutCancel(ctx))
			w.conn = nil
		}
		if w.left == 0 {
			return fmt.Errorf("%d events are committed, and nobody stopped it", limit)
		}
		fmt.Println("again, unless it is stopped:", err) // Postgres is away; the outbox may be too
		_ = sleep(ctx, 200*time.Millisecond)
	}
	return nil
}

const createCounts = `CREATE TABLE IF NOT EXISTS counts (key text PRIMARY KEY, seq integer NOT NULL)`

// work connects and commits until ctx ends or nothing is left. What it has begun
// it finishes.
func (w *writer) work(ctx context.Context) (err error) {
	connecting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if w.conn, err = pgx.Connect(connecting, os.Getenv("DATABASE_URL")); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, createCounts); err != nil {
		return err
	}
	for w.left > 0 {
		n := min(1+rand.IntN(maxEvents), w.left)
		err := w.transaction(context.WithoutCancel(ctx), n, rand.Float64() < rollback)
		switch {
		case errors.Is(err, errRollBack):
		case err != nil:
			return err
		default:
			w.left -= n
		}
		if err := sleep(ctx, time.Duration(n)*w.wait); err != nil {
			return err
		}
	}
	return nil
}

var errRollBack = errors.New("roll back")

const count = `INSERT INTO counts VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET seq = counts.seq + 1 RETURNING seq`

// transaction writes n events. Those that are rolled back say so, for the
// receiver to complain.
func (w *writer) transaction(ctx context.Context, n int, rolledBack bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	chosen := rand.Perm(keys)[:n]
	slices.Sort(chosen) // no two writers wait for each other
	return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		for _, key := range chosen {
			event := record.Event{Key: fmt.Sprintf("key-%d", key), RolledBack: rolledBack, Card: record.Card}
			if err := tx.QueryRow(ctx, count, event.Key).Scan(&event.Seq); err != nil {
				return err
			}
			if _, err := outbox.Write(ctx, tx, outbox.Event{Type: "test.created", Key: event.Key, Payload: event}); err != nil {
				return err
			}
		}
		if rolledBack {
			return errRollBack
		}
		return nil
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
