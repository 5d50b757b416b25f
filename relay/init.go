package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// InitOptions say how Init prepares a database.
type InitOptions struct {
	// Backfill sends the rows that the outbox held before the slot, too. It is
	// an error when the slot exists already.
	Backfill bool
	// Wait waits for Postgres to answer instead of returning an error.
	Wait bool
	// Progress, if set, is called with each step that was done and with what is
	// being waited for.
	Progress func(step string)
}

// ownTable is the outbox that Init creates; any other must exist.
const ownTable = "posthorn.outbox"

// Init prepares the databases for the relay: schema, outbox, ledger,
// publication and slot, in that order. What exists already is left as it is,
// so it can be run again, also by a role that may do no more than run the
// relay. Creating the slot waits until every transaction that is open then has
// ended.
//
// A slot that the ledger knows and that is gone is an *OutOfStepError: a new
// one would skip what was written in between.
func Init(ctx context.Context, cfg *config.Config, o InitOptions) error {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	dbs, err := openDatabases(cfg)
	if err != nil {
		return err
	}
	defer dbs.close()
	i := &initializer{InitOptions: o, cfg: cfg, databases: dbs}
	return hinted(i.run(ctx))
}

// hinted adds to err what mends it, where the server's answer says.
func hinted(err error) error {
	if hint := tail.Hint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

type initializer struct {
	InitOptions
	cfg       *config.Config
	databases *databases
}

func (i *initializer) say(format string, args ...any) { i.Progress(fmt.Sprintf(format, args...)) }

func (i *initializer) run(ctx context.Context) error {
	if err := i.reach(ctx); err != nil {
		return err
	}
	source := i.databases.source
	if err := source.CheckLogical(ctx); err != nil {
		return err
	}
	if err := source.CheckPrivilege(ctx); err != nil {
		return err
	}
	unlock, err := i.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, step := range []func(context.Context) error{i.outbox, i.ledger, i.publication, i.slot} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reach makes sure that both databases answer.
func (i *initializer) reach(ctx context.Context) error {
	wait := firstReconnect
	for {
		err := i.databases.source.Pool.Ping(ctx)
		if err == nil {
			err = i.databases.ledger.Ping(ctx)
		}
		if err == nil || !i.Wait || !tail.Transient(err) || tail.Hint(err) != "" {
			return err
		}
		if wait == firstReconnect {
			i.say("waiting for Postgres: %v", err)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, lastReconnect)
	}
}

// initLock is the advisory lock that keeps two Inits from working at once.
const initLock = 0x706f7374686f726e // "posthorn"

// lock takes the lock on a direct connection: a pooler may have no sessions.
func (i *initializer) lock(ctx context.Context) (unlock func(), err error) {
	conn, err := pgx.Connect(ctx, i.cfg.Database.ReplicationURL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("connect by database.replication_url: %w", err)
	}
	unlock = func() { _ = conn.Close(context.WithoutCancel(ctx)) } // ends the lock with the session
	var free bool
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(initLock)).Scan(&free)
	if err == nil && !free {
		i.say("waiting for another posthorn init to end")
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(initLock))
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

func (i *initializer) outbox(ctx context.Context) error {
	source := i.databases.source
	if i.cfg.Source.Table == ownTable {
		var done bool
		err := source.Pool.QueryRow(ctx, sqlOutboxDone).Scan(&done)
		if err == nil && !done {
			_, err = source.Pool.Exec(ctx, outbox.Schema())
		}
		if err != nil {
			return fmt.Errorf("create table %s: %w", ownTable, err)
		}
	}
	if _, err := source.Columns(ctx); err != nil {
		return err
	}
	i.say("outbox %s is ready", source.Table)
	return nil
}

func (i *initializer) ledger(ctx context.Context) error {
	pool := i.databases.ledger
	if ledger.CheckVersion(ctx, pool) != nil { // whatever is wrong with it, Migrate mends it or says why not
		if err := createSchema(ctx, pool); err != nil {
			return err
		}
		if _, err := ledger.Migrate(ctx, pool); err != nil {
			return err
		}
	}
	i.say("ledger is ready")
	return nil
}

// createSchema does nothing where the schema exists: IF NOT EXISTS alone asks
// for the privilege to create it even then.
func createSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var exists bool
	err := pool.QueryRow(ctx, `SELECT to_regnamespace('posthorn') IS NOT NULL`).Scan(&exists)
	if err == nil && !exists {
		_, err = pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS posthorn`)
	}
	if err != nil {
		return fmt.Errorf("create schema posthorn: %w", err)
	}
	return nil
}

const publicationOptions = `publish = 'insert', publish_via_partition_root = true`

const sqlPublicationOptions = `SELECT concat_ws(', ', 'insert', CASE WHEN pubupdate THEN 'update' END, CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END)
FROM pg_publication WHERE pubname = $1`

// publication creates the publication, or makes one that exists publish the
// outbox, too.
func (i *initializer) publication(ctx context.Context) error {
	source := i.databases.source
	if source.CheckPublication(ctx) == nil {
		i.say("publication %s is ready", source.Publication)
		return nil
	}
	name := pgx.Identifier{source.Publication}.Sanitize()
	var publish string
	err := source.Pool.QueryRow(ctx, sqlPublicationOptions, source.Publication).Scan(&publish)
	var statements []string
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		statements = []string{fmt.Sprintf(`CREATE PUBLICATION %s FOR TABLE %s WITH (%s)`, name, source.Table.SQL(), publicationOptions)}
	case err != nil:
		return fmt.Errorf("read publication %s: %w", source.Publication, err)
	default:
		statements = []string{
			fmt.Sprintf(`ALTER PUBLICATION %s SET (publish = '%s', publish_via_partition_root = true)`, name, publish),
			fmt.Sprintf(`ALTER PUBLICATION %s ADD TABLE %s`, name, source.Table.SQL()),
		}
	}
	for _, statement := range statements {
		if source.CheckPublication(ctx) == nil {
			break
		}
		if _, err := source.Pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("publish table %s: %w", source.Table, err)
		}
	}
	if err := source.CheckPublication(ctx); err != nil {
		return err
	}
	i.say("publication %s is ready", source.Publication)
	return nil
}

// slot makes sure that slot and ledger know each other.
func (i *initializer) slot(ctx context.Context) error {
	slot := i.cfg.Source.Slot
	led := ledger.New(i.databases.ledger, slot, ledger.Bodies(i.cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	conn, err := tail.Connect(ctx, i.cfg.Database.ReplicationURL.Reveal(), slot)
	if err == nil {
		conn.Close()
	}
	missing := errors.Is(err, tail.ErrSlotMissing)
	if err != nil && !missing {
		return err
	}
	if i.Backfill && !missing {
		return fmt.Errorf("slot %s exists already: --backfill is possible only when init creates it", slot)
	}
	_, err = led.Place(ctx)
	known := err == nil
	if err != nil && !errors.Is(err, ledger.ErrUnknownSlot) {
		return err
	}
	switch {
	case missing && known:
		return (&Relay{cfg: i.cfg}).missingSlot(ctx, led)
	case missing:
		return i.createSlot(ctx)
	case !known: // an earlier init got no further, or a DBA created it
		if err := ledger.Enroll(ctx, i.databases.ledger, slot, conn.Confirmed); err != nil {
			return err
		}
	}
	i.say("slot %s is ready", slot)
	return nil
}

// createSlot creates the slot, sends the rows that the outbox held before it
// if they are asked for, and enrolls it. Nothing is left of it on an error.
func (i *initializer) createSlot(ctx context.Context) (err error) {
	conn, err := i.connectReplication(ctx)
	if err != nil {
		return err
	}
	slot := pgx.Identifier{i.cfg.Source.Slot}.Sanitize()
	background := context.WithoutCancel(ctx)
	defer func() { _ = conn.Close(background) }()

	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		i.reportWaits(watching, conn.PID())
	}()
	created, err := pglogrepl.CreateReplicationSlot(ctx, conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Mode: pglogrepl.LogicalReplication, SnapshotAction: "EXPORT_SNAPSHOT",
	})
	stopWatching()
	<-watched
	if err != nil {
		return fmt.Errorf("create slot %s: %w", i.cfg.Source.Slot, err)
	}
	defer func() {
		if err != nil {
			_ = pglogrepl.DropReplicationSlot(background, conn, slot, pglogrepl.DropReplicationSlotOptions{})
		}
	}()
	start, err := pglogrepl.ParseLSN(created.ConsistentPoint)
	if err != nil {
		return fmt.Errorf("read the start of slot %s: %w", i.cfg.Source.Slot, err)
	}
	if i.Backfill {
		if err := i.backfill(ctx, created.SnapshotName); err != nil {
			return err
		}
	}
	if err := i.enroll(ctx, start); err != nil {
		return err
	}
	i.say("slot %s is ready, from %s", i.cfg.Source.Slot, start)
	return nil
}

func (i *initializer) enroll(ctx context.Context, start event.LSN) error {
	return ledger.Enroll(ctx, i.databases.ledger, i.cfg.Source.Slot, start)
}

// connectReplication returns a replication connection on which a cancelled
// command ends on the server, too: else it could go on and leave a slot.
func (i *initializer) connectReplication(ctx context.Context) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(i.cfg.Database.ReplicationURL.Reveal())
	if err != nil {
		return nil, err
	}
	c.RuntimeParams["replication"] = "database"
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
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

// waitsEvery is how often init looks whom it waits for.
const waitsEvery = time.Second

// reportWaits says whose open transactions the process pid waits for, until
// ctx ends.
func (i *initializer) reportWaits(ctx context.Context, pid uint32) {
	said := ""
	for pause(ctx, waitsEvery) == nil {
		var whom string
		err := i.databases.source.Pool.QueryRow(ctx, sqlWaitsFor, int32(pid)).Scan(&whom)
		if err == nil && whom != "" && whom != said {
			i.say("waiting for open transactions to end: %s", whom)
			said = whom
		}
	}
}

// backfill writes the rows that snapshot sees into the stream, as messages in
// one transaction. The slot's stream has none of these rows itself.
func (i *initializer) backfill(ctx context.Context, snapshot string) error {
	source := i.databases.source
	columns, err := source.Columns(ctx)
	if err != nil {
		return err
	}
	var rows int64
	err = pgx.BeginTxFunc(ctx, source.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL timezone = 'UTC'`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, backfillSQL(source.Table, columns), tail.Backfill).Scan(&rows)
	})
	if err != nil {
		return fmt.Errorf("send the rows that %s holds already: %w", source.Table, err)
	}
	i.say("%d rows that %s held already will be sent", rows, source.Table)
	return nil
}

// backfillSQL returns the statement that emits each row of the table as a
// message with prefix $1, oldest first.
func backfillSQL(table tail.Table, c tail.Columns) string {
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

// InitSQL returns what Init does as SQL for psql, one statement after the
// other and not in one transaction, with the least privileges that role, the
// relay's, needs. It is for new databases: it does not look what exists.
func InitSQL(cfg *config.Config, role string) string {
	var (
		b     strings.Builder
		table = tail.ParseTable(cfg.Source.Table)
		own   = cfg.Source.Table == ownTable
		relay = pgx.Identifier{role}.Sanitize()
		p     = func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	)
	p(`-- What posthorn init does, for psql -v ON_ERROR_STOP=1, in the order of the
-- statements and outside a transaction.`)
	p("\n-- PART 1: the database of database.url\n")
	p("-- The relay's role, if it is not there yet:")
	p("-- CREATE ROLE %s LOGIN REPLICATION PASSWORD 'choose one';\n", relay)
	if own {
		p("%s", outbox.Schema())
		p("-- The role of the application, which only publishes:")
		p("-- GRANT USAGE ON SCHEMA posthorn TO app;")
		p("-- GRANT INSERT ON posthorn.outbox TO app;")
		p("-- GRANT EXECUTE ON FUNCTION posthorn.publish, posthorn.uuid_v7 TO app;\n")
	}
	p("GRANT USAGE ON SCHEMA %s TO %s;", pgx.Identifier{table.Schema}.Sanitize(), relay)
	p("GRANT SELECT, DELETE ON %s TO %s;\n", table.SQL(), relay)
	p("CREATE PUBLICATION %s FOR TABLE %s WITH (%s);", pgx.Identifier{cfg.Source.Publication}.Sanitize(), table.SQL(), publicationOptions)
	p("-- Waits for every transaction that is open now to end:")
	p("SELECT pg_create_logical_replication_slot('%s', 'pgoutput');", cfg.Source.Slot)

	separate := cfg.Ledger.URL != cfg.Database.URL
	if separate {
		p("\n-- PART 2: the database of ledger.url\n")
		p("-- The relay's role, if it is not there yet:")
		p("-- CREATE ROLE %s LOGIN PASSWORD 'choose one';\n", relay)
	} else {
		p("\n-- PART 2: the ledger, in the same database\n")
	}
	if separate || !own {
		p("CREATE SCHEMA IF NOT EXISTS posthorn;\n")
	}
	p("%s", ledger.SchemaSQL())
	p("GRANT USAGE ON SCHEMA posthorn TO %s;", relay)
	p("GRANT SELECT, INSERT, UPDATE, DELETE ON posthorn.relay, posthorn.endpoints, posthorn.payloads, posthorn.pending,\n  posthorn.deliveries, posthorn.attempts, posthorn.audit TO %s;", relay)
	p("GRANT SELECT ON posthorn.goose_db_version TO %s;", relay)
	p("GRANT EXECUTE ON FUNCTION posthorn.advance, posthorn.ensure_partition, posthorn.drop_partitions TO %s;\n", relay)
	if separate {
		p("-- At last run posthorn init as the relay's role: it makes the slot known to the\n-- ledger, and finds everything else done.")
	} else {
		p("-- The slot's start, which the relay goes on from:")
		p("INSERT INTO posthorn.relay (slot, flushed_lsn)\n  SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '%s';", cfg.Source.Slot)
	}
	return b.String()
}
