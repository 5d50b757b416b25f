package tail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/relay/internal/event"
)

// setupLock is the advisory lock that keeps two set-ups from working at once.
const setupLock = 0x706f7374686f726e // "posthorn"

// LockSetup keeps other set-ups of the database out until unlock is called. It
// calls waiting before it waits for one. The lock is taken on a connection of
// its own to url, which must be direct: a pooler may have no sessions.
func LockSetup(ctx context.Context, url string, waiting func()) (unlock func(), err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect by database.replication_url: %w", err)
	}
	unlock = func() { _ = conn.Close(context.WithoutCancel(ctx)) } // ends the lock with the session
	var free bool
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(setupLock)).Scan(&free)
	if err == nil && !free {
		waiting()
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(setupLock))
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("lock out other inits: %w", err)
	}
	return unlock, nil
}

// sqlOutboxDone asks whether the outbox is there with its functions. Creating
// it again would change nothing, but wait for a lock, and make inserts wait.
const sqlOutboxDone = `SELECT to_regclass('posthorn.outbox') IS NOT NULL AND to_regprocedure('posthorn.uuid_v7()') IS NOT NULL
  AND to_regprocedure('posthorn.publish(text, json, text, text, json, uuid)') IS NOT NULL`

// CreateOutbox creates posthorn.outbox and its functions where they are
// missing.
func (s *Source) CreateOutbox(ctx context.Context) error {
	var done bool
	err := s.Pool.QueryRow(ctx, sqlOutboxDone).Scan(&done)
	if err == nil && !done {
		_, err = s.Pool.Exec(ctx, outbox.Schema())
	}
	if err != nil {
		return fmt.Errorf("create table posthorn.outbox: %w", err)
	}
	return nil
}

// PublicationSQL returns the statement that creates the publication of table,
// without a semicolon.
func PublicationSQL(name string, table Table) string {
	return fmt.Sprintf(`CREATE PUBLICATION %s FOR TABLE %s WITH (publish = 'insert', publish_via_partition_root = true)`,
		pgx.Identifier{name}.Sanitize(), table.SQL())
}

// sqlPublishes returns what a publication publishes, with inserts added.
const sqlPublishes = `SELECT concat_ws(', ', 'insert', CASE WHEN pubupdate THEN 'update' END, CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END)
FROM pg_publication WHERE pubname = $1`

// Publish creates the publication, or makes one that exists publish the
// outbox, too. It asks for no privilege where nothing is to be done.
func (s *Source) Publish(ctx context.Context) error {
	if s.CheckPublication(ctx) == nil {
		return nil
	}
	var publishes string
	err := s.Pool.QueryRow(ctx, sqlPublishes, s.Publication).Scan(&publishes)
	var statements []string
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		statements = []string{PublicationSQL(s.Publication, s.Table)}
	case err != nil:
		return fmt.Errorf("read publication %s: %w", s.Publication, err)
	default:
		name := pgx.Identifier{s.Publication}.Sanitize()
		statements = []string{
			fmt.Sprintf(`ALTER PUBLICATION %s SET (publish = '%s', publish_via_partition_root = true)`, name, publishes),
			fmt.Sprintf(`ALTER PUBLICATION %s ADD TABLE %s`, name, s.Table.SQL()),
		}
	}
	for _, statement := range statements {
		if s.CheckPublication(ctx) == nil {
			break
		}
		if _, err := s.Pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("publish table %s: %w", s.Table, err)
		}
	}
	return s.CheckPublication(ctx)
}

// DropPublication drops the publication. One that is missing is no error.
func (s *Source) DropPublication(ctx context.Context) error {
	if _, err := s.Pool.Exec(ctx, `DROP PUBLICATION IF EXISTS `+pgx.Identifier{s.Publication}.Sanitize()); err != nil {
		return fmt.Errorf("drop publication %s: %w", s.Publication, err)
	}
	return nil
}

// CreateSlot creates the slot through a replication connection to url, then
// calls use with the slot's start and the name of a snapshot of what was
// committed before it, which lasts until use returns. After an error, use's
// too, there is no slot.
//
// Creating waits until every transaction that is open then has ended; waiting
// is called with whose those are, whenever that changes.
func (s *Source) CreateSlot(ctx context.Context, url string, waiting func(whom string), use func(start event.LSN, snapshot string) error) (err error) {
	conn, err := connectToCreate(ctx, url)
	if err != nil {
		return err
	}
	slot := pgx.Identifier{s.Slot}.Sanitize()
	background := context.WithoutCancel(ctx)
	defer func() { _ = conn.Close(background) }()

	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.reportWaits(watching, conn.PID(), waiting)
	}()
	created, err := pglogrepl.CreateReplicationSlot(ctx, conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT",
	})
	stopWatching()
	<-watched
	if err != nil {
		return fmt.Errorf("create slot %s: %w", s.Slot, err)
	}
	defer func() {
		if err != nil {
			_ = pglogrepl.DropReplicationSlot(background, conn, slot, pglogrepl.DropReplicationSlotOptions{})
		}
	}()
	start, err := pglogrepl.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return fmt.Errorf("read the start of slot %s: %w", s.Slot, err)
	}
	return use(start, created.SnapshotName)
}

// connectToCreate returns a replication connection on which a cancelled
// command ends on the server, too: else it could go on and leave a slot.
func connectToCreate(ctx context.Context, url string) (*pgconn.PgConn, error) {
	config, err := replicationConfig(url)
	if err != nil {
		return nil, err
	}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	return conn, nil
}

// sqlWaitsFor names the transactions that a process waits for; a prepared
// transaction has no process.
const sqlWaitsFor = `SELECT coalesce(string_agg(
  CASE WHEN a.pid IS NULL THEN 'a prepared transaction, see pg_prepared_xacts'
  ELSE format('pid %s (user %s, application %s, database %s)%s', a.pid, coalesce(a.usename, '-'), coalesce(nullif(a.application_name, ''), '-'),
    coalesce(a.datname, '-'), coalesce(', open since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', '')) END, '; '), '')
FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid`

// waitsEvery is how often CreateSlot looks whom it waits for.
const waitsEvery = time.Second

// reportWaits says whose open transactions the process pid waits for, until
// ctx ends.
func (s *Source) reportWaits(ctx context.Context, pid uint32, waiting func(whom string)) {
	ticker := time.NewTicker(waitsEvery)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var whom string
		err := s.Pool.QueryRow(ctx, sqlWaitsFor, int32(pid)).Scan(&whom)
		if err == nil && whom != "" && whom != said {
			waiting(whom)
			said = whom
		}
	}
}

// Backfill writes the rows that snapshot sees into the stream, as messages in
// one transaction, and returns how many they are. A slot that starts with the
// snapshot has none of these rows in its stream itself.
func (s *Source) Backfill(ctx context.Context, snapshot string) (rows int64, err error) {
	columns, err := s.Columns(ctx)
	if err != nil {
		return 0, err
	}
	err = pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL timezone = 'UTC'`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, backfillSQL(s.Table, columns), Backfill).Scan(&rows)
	})
	if err != nil {
		return 0, fmt.Errorf("send the rows that %s holds already: %w", s.Table, err)
	}
	return rows, nil
}

// backfillSQL returns the statement that emits each row of the table as a
// message with prefix $1, oldest first.
func backfillSQL(table Table, c Columns) string {
	value := map[string]string{
		"payload": "o.%s::text::json", // text stays as it is, jsonb as it prints
		"headers": "o.%s::text::json",
		// What JSON has no form for counts as none.
		"created_at": "CASE WHEN o.%[1]s::timestamptz BETWEEN '0001-01-02' AND '9999-12-30' THEN o.%[1]s::timestamptz END",
	}
	var fields []string
	for _, pair := range c.Named() {
		expression, ok := value[pair[0]]
		if !ok {
			expression = "o.%s::text"
		}
		fields = append(fields, "'"+pair[0]+"', "+fmt.Sprintf(expression, pgx.Identifier{pair[1]}.Sanitize()))
	}
	order := pgx.Identifier{c.ID}.Sanitize()
	if c.CreatedAt != "" {
		order = pgx.Identifier{c.CreatedAt}.Sanitize() + ", " + order
	}
	return fmt.Sprintf(`SELECT count(pg_logical_emit_message(true, $1, json_build_object(%s)::text)) FROM (SELECT * FROM %s ORDER BY %s) o`,
		strings.Join(fields, ", "), table.SQL(), order)
}

// sqlHeldSlot returns who uses the slot, "" for nobody.
const sqlHeldSlot = `SELECT coalesce(s.database = current_database(), false), CASE WHEN s.active_pid IS NULL THEN '' ELSE
  format('pid %s, application %s, address %s', s.active_pid, coalesce(nullif(a.application_name, ''), '-'), coalesce(host(a.client_addr), 'local')) END
FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1`

// DropSlot drops the slot and reports whether there was one. A slot of another
// database is an error, and so is one in use, which names who uses it.
func (s *Source) DropSlot(ctx context.Context) (bool, error) {
	var ours bool
	var holder string
	err := s.Pool.QueryRow(ctx, sqlHeldSlot, s.Slot).Scan(&ours, &holder)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for slot %s: %w", s.Slot, err)
	case !ours:
		return false, fmt.Errorf("slot %s is of another database: mend source.slot or database.url", s.Slot)
	case holder != "":
		return false, fmt.Errorf("slot %s is in use (%s): stop the relay first, and its standbys", s.Slot, holder)
	}
	if _, err := s.Pool.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, s.Slot); err != nil {
		return false, fmt.Errorf("drop slot %s: %w", s.Slot, err)
	}
	return true, nil
}
