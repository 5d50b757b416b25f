package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	pollInterval = 100 * time.Millisecond
	pollBatch    = 1000
)

// sqlPollTable makes the table that poll takes events from, with those of the
// outbox, and sqlPollSettle settles it as the outbox is.
const sqlPollTable = `CREATE TABLE public.polled (LIKE posthorn.outbox INCLUDING ALL, done boolean NOT NULL DEFAULT false);
CREATE INDEX polled_open ON public.polled (created_at, id) WHERE NOT done;
INSERT INTO public.polled SELECT * FROM posthorn.outbox ORDER BY created_at, id;
TRUNCATE posthorn.outbox`

const sqlPollSettle = `VACUUM (ANALYZE) public.polled`

// sqlPollOpen counts what poll has not yet done.
const sqlPollOpen = `SELECT count(*) FROM public.polled WHERE NOT done`

const (
	sqlPollTake = `SELECT id, payload::text FROM public.polled WHERE NOT done ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED`
	sqlPollDone = `UPDATE public.polled SET done = true WHERE id = ANY($1)`
)

// polled is one row of the table.
type polled struct {
	ID      [16]byte
	Payload []byte
}

// poll takes a batch of open events every 100 ms, or at once while batches are
// full, signs and posts them with net/http, and marks them done. It keeps no
// order within a batch.
func (r *reference) poll() error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	shared := newClient(r.to, r.workers)
	clients := make([]*client, r.workers)
	for i := range clients {
		clients[i] = shared.signed(r.secret)
	}
	r.ready()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		taken := 0
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			taken, err = pollOnce(ctx, tx, clients)
			return err
		})
		if err != nil {
			return err
		}
		if taken < pollBatch {
			<-ticker.C
		}
	}
}

// pollOnce delivers one batch in a transaction, and returns how large it was.
func pollOnce(ctx context.Context, tx pgx.Tx, clients []*client) (int, error) {
	rows, err := tx.Query(ctx, sqlPollTake, pollBatch)
	if err != nil {
		return 0, err
	}
	batch, err := pgx.CollectRows(rows, pgx.RowToStructByPos[polled])
	if err != nil || len(batch) == 0 {
		return 0, err
	}
	events := make(chan []byte, len(batch))
	ids := make([][16]byte, len(batch))
	for i := range batch {
		ids[i] = batch[i].ID
		events <- batch[i].Payload
	}
	close(events)
	var group errgroup.Group
	for _, client := range clients {
		group.Go(func() error {
			for body := range events {
				if err := client.post(body); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, sqlPollDone, ids)
	return len(batch), err
}
