package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/integration/postgres"
	"github.com/posthorn/posthorn/outbox"
)

var server *postgres.Server

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(postgres.WithServer(m, &server))
}

// connect returns a connection to a database of the test's own that has the
// outbox, and the database's URL.
func connect(t *testing.T) (*pgx.Conn, string) {
	t.Helper()
	url, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := open(t, url)
	exec(t, conn, outbox.Schema())
	return conn, url
}

func open(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.60s: %v", sql, err)
	}
}

// stored is a row as text, "NULL" where there is none.
type stored struct{ ID, Type, Tenant, Key, Payload, Headers string }

func rows(t *testing.T, conn *pgx.Conn) []stored {
	t.Helper()
	result, err := conn.Query(t.Context(), `
		SELECT id::text, type, coalesce(tenant, 'NULL'), coalesce(key, 'NULL'), payload::text, coalesce(headers::text, 'NULL')
		FROM posthorn.outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(result, pgx.RowToStructByPos[stored])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWriteTakesEveryTransactionAsItIs(t *testing.T) {
	conn, url := connect(t)
	ctx := t.Context()
	event := outbox.Event{
		Type:    "pr.submitted",
		Tenant:  "acme",
		Key:     "clx123",
		Payload: struct{ Note string }{"<a> & 'b'"},
		Headers: map[string]string{"traceparent": "00-1"},
	}
	tests := []struct {
		name  string
		write func(*testing.T) (string, error)
	}{
		{"pgx.Tx", func(*testing.T) (id string, err error) {
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				id, err = outbox.Write(ctx, tx, event)
				return err
			})
			return id, err
		}},
		{"*pgx.Conn", func(*testing.T) (string, error) { return outbox.Write(ctx, conn, event) }},
		{"*pgxpool.Pool", func(*testing.T) (string, error) {
			pool, err := pgxpool.New(ctx, url)
			if err != nil {
				return "", err
			}
			defer pool.Close()
			return outbox.Write(ctx, pool, event)
		}},
		{"simple protocol", func(*testing.T) (string, error) {
			config, err := pgx.ParseConfig(url)
			if err != nil {
				return "", err
			}
			config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			simple, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return "", err
			}
			defer func() { _ = simple.Close(ctx) }()
			return outbox.Write(ctx, simple, event)
		}},
		{"*sql.Tx", func(*testing.T) (string, error) {
			tx := beginSQL(t, url)
			id, err := outbox.Write(ctx, outbox.SQL(tx), event)
			return id, errors.Join(err, tx.Commit())
		}},
		{"batch in pgx.Tx", func(*testing.T) (id string, err error) {
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				ids, err := outbox.WriteBatch(ctx, tx, []outbox.Event{event})
				id = strings.Join(ids, " ")
				return err
			})
			return id, err
		}},
		{"batch in *sql.Tx", func(*testing.T) (string, error) {
			tx := beginSQL(t, url)
			ids, err := outbox.WriteBatch(ctx, outbox.SQL(tx), []outbox.Event{event})
			return strings.Join(ids, " "), errors.Join(err, tx.Commit())
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exec(t, conn, `TRUNCATE posthorn.outbox`)
			id, err := tt.write(t)
			if err != nil {
				t.Fatal(err)
			}
			want := []stored{{id, "pr.submitted", "acme", "clx123", `{"Note":"<a> & 'b'"}`, `{"traceparent":"00-1"}`}}
			if got := rows(t, conn); !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func beginSQL(t *testing.T, url string) *sql.Tx {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// awkward are payloads whose text must survive, alone and in an array.
var awkward = []string{
	`{"b":1,"a":2,"b":3}`,
	" {\n\t\"n\" : 1.0 , \"big\":12345678901234567890 }\n",
	`"quoted \" back \\ slash \u0000 \ud83d\ude00 \/"`,
	`"NULL"`,
	`null`,
	`{"{,}":["é 😀 ` + "\u2028" + `","<&>"]}`,
	strings.Repeat("[", 3000) + strings.Repeat("]", 3000),
}

func TestRawPayloadsKeepTheirText(t *testing.T) {
	conn, _ := connect(t)
	var events []outbox.Event
	for _, text := range awkward {
		events = append(events, outbox.Event{Type: "a.b", Payload: json.RawMessage(text), Key: `k"\{},NULL`})
	}
	check := func(t *testing.T) {
		t.Helper()
		var got []string
		for _, r := range rows(t, conn) {
			got = append(got, r.Payload)
			if r.Key != `k"\{},NULL` || r.Tenant != "NULL" || r.Headers != "NULL" {
				t.Errorf("got key %q, tenant %q, headers %q", r.Key, r.Tenant, r.Headers)
			}
		}
		if !slices.Equal(got, awkward) {
			t.Errorf("got  %q\nwant %q", got, awkward)
		}
	}
	t.Run("one by one", func(t *testing.T) {
		for _, e := range events {
			if _, err := outbox.Write(t.Context(), conn, e); err != nil {
				t.Fatal(err)
			}
		}
		check(t)
	})
	exec(t, conn, `TRUNCATE posthorn.outbox`)
	t.Run("in a batch", func(t *testing.T) {
		if _, err := outbox.WriteBatch(t.Context(), conn, events); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
}

// counter counts what is executed.
type counter struct{ statements int }

func (c *counter) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	c.statements++
	return pgconn.CommandTag{}, nil
}

type unmarshallable struct{}

func (unmarshallable) MarshalJSON() ([]byte, error) { return nil, errors.New("not today") }

func TestWrongEventsRunNoSQL(t *testing.T) {
	ok := json.RawMessage("{}")
	tests := []struct {
		name  string
		event outbox.Event
		want  string
	}{
		{"no type", outbox.Event{Payload: ok}, "type is empty"},
		{"long type", outbox.Event{Type: strings.Repeat("x", 256), Payload: ok}, "type has 256 bytes, at most 255 are allowed"},
		{"type is not UTF-8", outbox.Event{Type: "\xff", Payload: ok}, "type is not UTF-8"},
		{"zero byte", outbox.Event{Type: "a", Tenant: "\x00", Payload: ok}, "tenant holds a zero byte"},
		{"long key", outbox.Event{Type: "a", Key: strings.Repeat("x", 1025), Payload: ok}, "key has 1025 bytes, at most 1024 are allowed"},
		{"nil payload", outbox.Event{Type: "a"}, "payload is nil"},
		{"empty payload", outbox.Event{Type: "a", Payload: []byte{}}, "payload is not valid JSON"},
		{"invalid payload", outbox.Event{Type: "a", Payload: []byte(`{"hunter2"`)}, "payload is not valid JSON"},
		{"payload is not UTF-8", outbox.Event{Type: "a", Payload: []byte("\"\xff\"")}, "payload is not UTF-8"},
		{"channel", outbox.Event{Type: "a", Payload: make(chan int)}, "marshal payload of type chan int: json: unsupported type: chan int"},
		{"failing Marshaler", outbox.Event{Type: "a", Payload: unmarshallable{}}, "not today"},
		{"no UUID", outbox.Event{ID: "42", Type: "a", Payload: ok}, "id is not a UUID"},
		{"odd UUID", outbox.Event{ID: "018f99e2-ed3a-7f4c-ae97-83d619bdf9-c", Type: "a", Payload: ok}, "id is not a UUID"},
		{"large headers", outbox.Event{Type: "a", Payload: ok, Headers: map[string]string{"h": strings.Repeat("x", 65<<10)}}, "headers have 66568 bytes as JSON, at most 65536 are allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := &counter{}
			_, err := outbox.Write(t.Context(), tx, tt.event)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			_, err = outbox.WriteBatch(t.Context(), tx, []outbox.Event{{Type: "a", Payload: ok}, tt.event})
			if err == nil || !strings.Contains(err.Error(), "event 1: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("batch: got %v\nwant event 1: … %s", err, tt.want)
			}
			if tx.statements != 0 {
				t.Errorf("%d statements were run", tx.statements)
			}
		})
	}
}

func TestWriteBatchSplitsWhatIsLarge(t *testing.T) {
	conn, _ := connect(t)
	large := json.RawMessage(`"` + strings.Repeat("x", 3<<20) + `"`)
	var events []outbox.Event
	for range 5 {
		events = append(events, outbox.Event{Type: "a", Payload: large})
	}
	events = append(events, outbox.Event{Type: "huge", Payload: json.RawMessage(`"` + strings.Repeat("x", 9<<20) + `"`)})
	for i := range 1000 {
		events = append(events, outbox.Event{Type: "small", Payload: i})
	}

	count := &counter{}
	if _, err := outbox.WriteBatch(t.Context(), count, events); err != nil || count.statements != 5 {
		t.Errorf("got %d statements, %v, want 5", count.statements, err)
	}
	if ids, err := outbox.WriteBatch(t.Context(), count, nil); err != nil || len(ids) != 0 || count.statements != 5 {
		t.Errorf("no events: got %v, %v and %d statements", ids, err, count.statements)
	}

	ids, err := outbox.WriteBatch(t.Context(), conn, events)
	if err != nil {
		t.Fatal(err)
	}
	got := rows(t, conn) // by id: ids ascend in the order of the events
	if len(got) != len(events) {
		t.Fatalf("got %d rows, want %d", len(got), len(events))
	}
	for i, r := range got {
		if r.ID != ids[i] || r.Type != events[i].Type {
			t.Fatalf("row %d: got %s %s, want %s %s", i, r.ID, r.Type, ids[i], events[i].Type)
		}
	}
}

func TestSameIDTwiceIsThePrimaryKeysError(t *testing.T) {
	conn, _ := connect(t)
	event := outbox.Event{ID: "018F99E2-ED3A-7F4C-AE97-83D619BDF95C", Type: "a", Payload: 1}
	id, err := outbox.Write(t.Context(), conn, event)
	if err != nil || id != "018f99e2-ed3a-7f4c-ae97-83d619bdf95c" {
		t.Fatalf("got %s, %v, want the id in lower case", id, err)
	}
	_, err = outbox.Write(t.Context(), conn, event)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "23505" {
		t.Errorf("got %v, want a unique violation", err)
	}
}

func TestSchemaCanBeRunAgain(t *testing.T) {
	conn, _ := connect(t)
	id, err := outbox.Write(t.Context(), conn, outbox.Event{Type: "a", Payload: 1})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, outbox.Schema())
	if got := rows(t, conn); len(got) != 1 || got[0].ID != id {
		t.Errorf("got %v, want the row that was there", got)
	}
}

func TestARoleThatMayOnlyInsertCanPublish(t *testing.T) {
	conn, url := connect(t)
	role := "app_" + conn.Config().Database // roles are the server's, not the database's
	exec(t, conn, `CREATE ROLE `+role)
	exec(t, conn, `GRANT USAGE ON SCHEMA posthorn TO `+role)
	exec(t, conn, `GRANT INSERT ON posthorn.outbox TO `+role)
	app := open(t, url)
	exec(t, app, `SET ROLE `+role)
	if _, err := outbox.Write(t.Context(), app, outbox.Event{Type: "write", Payload: 1}); err != nil {
		t.Error(err)
	}
	if _, err := outbox.WriteBatch(t.Context(), app, []outbox.Event{{Type: "batch", Payload: 1}}); err != nil {
		t.Error(err)
	}
	exec(t, app, `INSERT INTO posthorn.outbox (type, payload) VALUES ('insert', '1')`)
	exec(t, app, `SELECT posthorn.publish('publish', '1')`)
	if got := rows(t, conn); len(got) != 4 {
		t.Errorf("got %d rows, want 4", len(got))
	}
}

func TestPublishInsertsAndReturnsTheID(t *testing.T) {
	conn, _ := connect(t)
	const given = "018f99e2-ed3a-7f4c-ae97-83d619bdf95c"
	tests := []struct {
		call string
		want stored
	}{
		{`posthorn.publish('pr.submitted', '{"b": 1,  "a":2}')`, stored{"", "pr.submitted", "NULL", "NULL", `{"b": 1,  "a":2}`, "NULL"}},
		{`posthorn.publish('pr.submitted', '{}', tenant => 'x', key => 'y')`, stored{"", "pr.submitted", "x", "y", `{}`, "NULL"}},
		{`posthorn.publish(type => 'a', payload => '1', headers => '{"h": "v"}', id => '` + given + `')`, stored{given, "a", "NULL", "NULL", "1", `{"h": "v"}`}},
	}
	for _, tt := range tests {
		t.Run(tt.call, func(t *testing.T) {
			exec(t, conn, `TRUNCATE posthorn.outbox`)
			var id string
			if err := conn.QueryRow(t.Context(), `SELECT `+tt.call+`::text`).Scan(&id); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want.ID == "" {
				want.ID = id
			}
			if got := rows(t, conn); len(got) != 1 || got[0] != want || id != want.ID {
				t.Errorf("got  %v, id %s\nwant %v", got, id, want)
			}
		})
	}
}

func TestUUIDsAreVersion7AndAscend(t *testing.T) {
	conn, _ := connect(t)
	result, err := conn.Query(t.Context(), `SELECT posthorn.uuid_v7()::text FROM generate_series(1, 2000)`)
	if err != nil {
		t.Fatal(err)
	}
	fromSQL, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, id := range fromSQL {
		checkUUID(t, id)
		// What follows the time's digits is random.
		if prefix := id[:18]; prefix < last {
			t.Fatalf("%s comes after %s", prefix, last)
		} else {
			last = prefix
		}
	}

	var before, after string
	if err := conn.QueryRow(t.Context(), `SELECT posthorn.uuid_v7()::text`).Scan(&before); err != nil {
		t.Fatal(err)
	}
	var fromGo []outbox.Event
	for range 2000 {
		fromGo = append(fromGo, outbox.Event{Type: "a", Payload: 1})
	}
	ids, err := outbox.WriteBatch(t.Context(), conn, fromGo)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), `SELECT posthorn.uuid_v7()::text`).Scan(&after); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		checkUUID(t, id)
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Error("ids made in Go do not ascend")
	}
	// Server and test share a clock: both ways of making ids agree on time.
	if before > ids[0] || ids[len(ids)-1] > after {
		t.Errorf("%s … %s is not between %s and %s", ids[0], ids[len(ids)-1], before, after)
	}
}

func checkUUID(t *testing.T, id string) {
	t.Helper()
	if len(id) != 36 || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Fatalf("%s is no UUID version 7", id)
	}
}

func TestSchemaDescribesEveryColumn(t *testing.T) {
	conn, _ := connect(t)
	var undescribed string
	err := conn.QueryRow(t.Context(), `
		SELECT coalesce(string_agg(attname, ' '), '') FROM pg_attribute
		WHERE attrelid = 'posthorn.outbox'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL`).Scan(&undescribed)
	if err != nil || undescribed != "" {
		t.Errorf("without a comment: %s, %v", undescribed, err)
	}
}

// The event is committed with the order that it tells of, or not at all.
func ExampleWrite() {
	var (
		ctx context.Context
		tx  pgx.Tx // in which the application has inserted the order
	)
	id, err := outbox.Write(ctx, tx, outbox.Event{
		Type:    "order.placed",
		Key:     "order-7",
		Payload: map[string]any{"orderId": "order-7", "amount": 4500},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(id)
}

func ExampleSQL() {
	var (
		ctx context.Context
		tx  *sql.Tx
	)
	_, err := outbox.Write(ctx, outbox.SQL(tx), outbox.Event{
		Type:    "order.placed",
		Payload: []byte(`{"orderId": "order-7"}`),
	})
	if err != nil {
		panic(err)
	}
}
