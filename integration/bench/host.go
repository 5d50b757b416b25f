package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// relaySlot is the name of the relay's slot in an outbox.
const relaySlot = "relay"

// defaultPayload is the size of an event's payload in bytes, unless the
// scenario is about it, and defaultKeys how many keys the events have.
const (
	defaultPayload = 512
	defaultKeys    = 1000
)

// outbox is a database of its own with Posthorn's tables.
type outbox struct {
	b       *bench
	name    string // of the database
	url     string
	pool    *pgxpool.Pool
	written int // how many events; the last one's number

	// lastBegan is a position in the last transaction that fill wrote: a slot
	// that is confirmed past it is confirmed past all.
	lastBegan string
}

// newOutbox creates a database and prepares it by posthorn init with a relay's
// configuration, and forgets what the receiver got before. Call drop in the
// end.
func (b *bench) newOutbox(ctx context.Context, config string) (*outbox, error) {
	url, err := b.server.Database(ctx)
	if err != nil {
		return nil, err
	}
	settings, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("connect to the outbox: %w", err)
	}
	o := &outbox{b: b, name: settings.ConnConfig.Database, url: url, pool: pool}
	if err := o.prepare(ctx, config); err != nil {
		return nil, errors.Join(err, o.drop(ctx))
	}
	b.receiver.reset()
	return o, nil
}

// sqlInsert inserts the events from one number to another: {"n": number,
// "at": microseconds, "pad": as much as the size in bytes asks for}. The keys,
// if any, come in no order, but in the same one each time.
const sqlInsert = `INSERT INTO posthorn.outbox (type, key, payload)
SELECT 'order.placed', CASE WHEN keys > 0 THEN 'key-' || (hashint4(n) & 2147483647) %% keys END,
	(head || repeat('x', bytes - length(head) - 2) || '"}')::json
FROM (SELECT %[1]s::int AS bytes, %[2]s::int AS keys, n,
	'{"n":' || n || ',"at":' || (extract(epoch FROM clock_timestamp()) * 1e6)::bigint || ',"pad":"' AS head
	FROM generate_series(%[3]s::int, %[4]s::int) AS n) AS numbered`

// sqlFill makes the procedure that commits each so many events.
var sqlFill = `CREATE PROCEDURE public.fill(bytes int, keys int, first int, last int, each int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	SET synchronous_commit = off;
	FOR at IN first..last BY each LOOP
		` + fmt.Sprintf(sqlInsert, "fill.bytes", "fill.keys", "at", "least(at + each - 1, last)") + `;
		COMMIT;
	END LOOP;
	SET synchronous_commit = on;
END $$`

func (o *outbox) prepare(ctx context.Context, config string) error {
	cmd, err := o.b.relayCommand(o, config, "init")
	if err != nil {
		return err
	}
	cmd.SysProcAttr = sysProcAttr()
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run posthorn init: %w\n%s", err, output)
	}
	if _, err := o.pool.Exec(ctx, sqlFill); err != nil {
		return fmt.Errorf("prepare the outbox: %w", err)
	}
	return nil
}

// slotName returns the name of a slot: slots belong to the whole server.
func (o *outbox) slotName(name string) string { return name + "_" + o.name }

const sqlCreateSlot = `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`

// slotFor makes a slot for a reference, which gets what is written from now on.
func (o *outbox) slotFor(ctx context.Context, name string) error {
	if _, err := o.pool.Exec(ctx, sqlCreateSlot, o.slotName(name)); err != nil {
		return fmt.Errorf("create a slot for %s: %w", name, err)
	}
	return nil
}

// fill writes n events in transactions of so many events each, in the server,
// by two sessions, and without waiting for the disk. With payloadBytes 0 they have the default
// size, with keys 0 no key. After it no checkpoint and no vacuum is due.
func (o *outbox) fill(ctx context.Context, n, perTransaction, payloadBytes, keys int) error {
	payloadBytes = cmp.Or(payloadBytes, defaultPayload)
	first, last := o.written+1, o.written+n
	rest := min(perTransaction, n) // the last transaction, of which the position is asked
	half := (n - rest) / 2 / perTransaction * perTransaction
	session := func(from, to int) func() error {
		return func() error {
			_, err := o.pool.Exec(ctx, `CALL public.fill($1, $2, $3, $4, $5)`, payloadBytes, keys, from, to, perTransaction)
			return err
		}
	}
	var sessions errgroup.Group
	sessions.Go(session(first, first+half-1))
	sessions.Go(session(first+half, last-rest))
	if err := sessions.Wait(); err != nil {
		return fmt.Errorf("fill the outbox: %w", err)
	}
	err := pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(sqlInsert, "$1", "$2", "$3", "$4"), payloadBytes, keys, last-rest+1, last); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&o.lastBegan)
	})
	if err != nil {
		return fmt.Errorf("fill the outbox: %w", err)
	}
	o.written = last
	for _, sql := range []string{`VACUUM (ANALYZE) posthorn.outbox`, `CHECKPOINT`} {
		if _, err := o.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("settle the outbox: %w", err)
		}
	}
	return nil
}

// write inserts perSecond events a second for d, one a commit, by one session
// that waits for the disk. It calls committed, unless that is nil, as soon as
// a commit returned. What it cannot keep up with it makes up for.
func (o *outbox) write(ctx context.Context, perSecond int, d time.Duration, committed func(n int, at time.Time)) error {
	conn, err := o.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	defer conn.Release()
	insert := fmt.Sprintf(sqlInsert, "$1", "$2", "$3", "$4")
	interval := time.Second / time.Duration(perSecond)
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for i := range int(d / interval) {
		timer.Reset(time.Until(began.Add(time.Duration(i) * interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		n := o.written + 1
		if _, err := conn.Exec(ctx, insert, defaultPayload, defaultKeys, n, n); err != nil {
			return fmt.Errorf("write event %d: %w", n, err)
		}
		if committed != nil {
			committed(n, time.Now())
		}
		o.written = n
	}
	return nil
}

// count returns the number that a query yields.
func (o *outbox) count(ctx context.Context, sql string, args ...any) (int, error) {
	var n int
	if err := o.pool.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("run %s: %w", sql, err)
	}
	return n, nil
}

const sqlConfirmed = `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > $2::pg_lsn`

// confirmed returns once the relay's slot is confirmed past all that fill
// wrote: until then the relay has something to record.
func (o *outbox) confirmed(ctx context.Context, p *process, limit time.Duration) error {
	return o.b.awaitEvery(ctx, queryEvery, p, limit, func() error {
		n, err := o.count(ctx, sqlConfirmed, o.slotName(relaySlot), o.lastBegan)
		if err == nil && n == 0 {
			err = errors.New("the slot is not confirmed past the events")
		}
		return err
	})
}

const (
	sqlSlots    = `SELECT slot_name FROM pg_replication_slots WHERE database = $1`
	sqlDropSlot = `SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`
)

// drop removes the database and its slots, whoever uses them, also when ctx is
// done.
func (o *outbox) drop(ctx context.Context) error {
	o.pool.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, o.b.server.URL("postgres"))
	if err != nil {
		return fmt.Errorf("drop the outbox: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sqlSlots, o.name)
	if err != nil {
		return fmt.Errorf("list the outbox's slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the outbox's slots: %w", err)
	}
	for _, slot := range slots {
		if _, err := conn.Exec(ctx, sqlDropSlot, slot); err != nil {
			return fmt.Errorf("free slot %s: %w", slot, err)
		}
		if _, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, slot); err != nil {
			return fmt.Errorf("drop slot %s: %w", slot, err)
		}
	}
	if _, err := conn.Exec(ctx, `DROP DATABASE `+pgx.Identifier{o.name}.Sanitize()+` WITH (FORCE)`); err != nil {
		return fmt.Errorf("drop the outbox: %w", err)
	}
	return nil
}
