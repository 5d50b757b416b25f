// Package outbox is what a Go application imports to publish events: it inserts
// them into the table posthorn.outbox in the application's own transaction, and
// Posthorn delivers them if and when that transaction commits. It needs only
// the standard library, and works with pgx as well as with database/sql:
//
//	id, err := outbox.Write(ctx, tx, outbox.Event{Type: "pr.submitted", Payload: pr})             // pgx.Tx
//	id, err := outbox.Write(ctx, outbox.SQL(tx), outbox.Event{Type: "pr.submitted", Payload: pr}) // *sql.Tx
//
// Other languages insert a row themselves, or run
//
//	SELECT posthorn.publish('pr.submitted', '{"prId": "clx123"}', tenant => 'acme', key => 'clx123')
//
// # Privileges
//
// A role that publishes, in any of these ways, needs no more than
//
//	GRANT USAGE ON SCHEMA posthorn TO app;
//	GRANT INSERT ON posthorn.outbox TO app;
//
// The functions may be executed by everyone unless the database's default
// privileges say otherwise; then it needs, too,
//
//	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA posthorn TO app;
package outbox

import (
	"context"
	"database/sql"
	_ "embed" // for the schema
	"fmt"
)

//go:embed schema.sql
var schema string

// Schema returns the SQL that creates the schema posthorn with the outbox
// table and its functions, in several statements. It can be run again safely,
// but not by two sessions at the same time.
func Schema() string { return schema }

// Event is one event to publish.
type Event struct {
	// ID is a UUID in its text form. Empty: Write makes one, version 7. An id
	// that the table holds already is the database's error.
	ID string
	// Type says what happened, e.g. "pr.submitted": 1 to 255 bytes.
	Type string
	// Tenant says whose event it is, at most 255 bytes. An event without one
	// reaches only endpoints without a tenant.
	Tenant string
	// Key orders: endpoints that ask for it get the events of one key in the
	// order of their commits. At most 1,024 bytes; empty is unordered.
	Key string
	// Payload is the event's data. []byte and json.RawMessage are JSON already
	// and kept as they are, byte for byte; anything else is marshalled, without
	// escaping HTML. At most 256 MiB of text. nil is an error, since it is
	// mostly a mistake; json.RawMessage("null") is not.
	Payload any
	// Headers are for header templates; traceparent is passed on to receivers.
	// At most 64 KiB as JSON.
	Headers map[string]string
}

// Tx is where Write inserts. pgx.Tx, *pgx.Conn and *pgxpool.Pool are a Tx as
// they are, and SQL makes one of a *sql.Tx; R follows from them and need not be
// written. Use a transaction: it is what makes the event come true together
// with the change that it tells of.
type Tx[R any] interface {
	Exec(ctx context.Context, sql string, args ...any) (R, error)
}

// SQL returns the Tx of a *sql.Tx, or of whatever else has its ExecContext.
func SQL(tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
},
) Tx[sql.Result] {
	return sqlTx{tx.ExecContext}
}

type sqlTx struct {
	exec func(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (tx sqlTx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return tx.exec(ctx, query, args...)
}

const insertEvent = `INSERT INTO posthorn.outbox (id, type, tenant, key, payload, headers) VALUES ($1, $2, $3, $4, $5, $6)`

// Write inserts one event and returns its id, in lower case. What is wrong with
// the event itself is found before any SQL is run, so that the transaction can
// go on; no error quotes the payload.
func Write[R any](ctx context.Context, tx Tx[R], e Event) (id string, err error) {
	r, err := newRow(e)
	if err != nil {
		return "", fmt.Errorf("write event: %w", err)
	}
	if _, err := tx.Exec(ctx, insertEvent, r.id, r.eventType, r.tenant, r.key, r.payload, r.headers); err != nil {
		return "", fmt.Errorf("write event %s: %w", r.id, err)
	}
	return r.id, nil
}

const insertEvents = `INSERT INTO posthorn.outbox (id, type, tenant, key, payload, headers)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::json[], $6::json[])`

// maxStatement is how many bytes of events one statement of WriteBatch holds,
// so that a large batch is not in memory a second time.
const maxStatement = 8 << 20

// WriteBatch inserts events in their order and returns their ids. It runs one
// statement for each 8 MiB of events, and none if there are no events or one of
// them is wrong.
func WriteBatch[R any](ctx context.Context, tx Tx[R], events []Event) (ids []string, err error) {
	rows := make([]row, len(events))
	ids = make([]string, len(events))
	for i, e := range events {
		if rows[i], err = newRow(e); err != nil {
			return nil, fmt.Errorf("write events: event %d: %w", i, err)
		}
		ids[i] = rows[i].id
	}
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size+rows[n].size() <= maxStatement) {
			size += rows[n].size()
			n++
		}
		if _, err := tx.Exec(ctx, insertEvents, arrays(rows[:n])...); err != nil {
			return nil, fmt.Errorf("write events %s to %s: %w", rows[0].id, rows[n-1].id, err)
		}
		rows = rows[n:]
	}
	return ids, nil
}
