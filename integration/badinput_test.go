package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

const plainConfig = `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"], secret: "${SECRET}"}
`

// nowhere is plainConfig for a relay that must not get as far as sending.
const nowhere = `
endpoints:
  - {name: a, url: "http://127.0.0.1:1/a", events: ["*"]}
`

// mustRefuse fails the test unless a command ends by itself with an exit code
// other than 0 and says all of wants.
func mustRefuse(t *testing.T, db *database, config string, env, args []string, wants ...string) {
	t.Helper()
	code, output := runToEnd(t, db, config, env, args...)
	if code == 0 {
		t.Errorf("posthorn %v ended with 0", args)
	}
	for _, want := range wants {
		if !strings.Contains(output, want) {
			t.Errorf("posthorn %v does not say %q:\n%s", args, want, output)
		}
	}
}

var run, runInit, initOnly = []string{"run"}, []string{"run", "--init"}, []string{"init"}

func TestServerThatCannotReplicateIsRefused(t *testing.T) {
	t.Run("wal_level is not logical", func(t *testing.T) {
		settings := serverSettings("off")
		settings["wal_level"] = "replica"
		db := newDatabaseOn(t, newServer(t, settings))
		for _, args := range [][]string{run, runInit, initOnly} {
			mustRefuse(t, db, nowhere, nil, args, "wal_level is replica and must be logical", "ALTER SYSTEM SET wal_level = 'logical'")
		}
	})
	t.Run("the role has no replication privilege", func(t *testing.T) {
		db := newDatabase(t)
		initialise(t, db, nowhere)
		role := "limited_" + db.slot
		db.exec(t, `CREATE ROLE `+role+` LOGIN PASSWORD 'limited'`)
		t.Cleanup(func() {
			if _, err := db.pool.Exec(context.Background(), `DROP ROLE `+role); err != nil {
				t.Error(err)
			}
		})
		limited := *db
		limited.url = fmt.Sprintf("postgres://%s:limited@127.0.0.1:%d/%s?sslmode=disable", role, server.Port(), db.pool.Config().ConnConfig.Database)
		for _, args := range [][]string{run, runInit} {
			mustRefuse(t, &limited, nowhere, nil, args, "may not replicate", "ALTER ROLE", "REPLICATION")
		}
	})
	t.Run("the password is wrong", func(t *testing.T) {
		db := newDatabase(t)
		wrong := *db
		wrong.url = fmt.Sprintf("postgres://postgres:wrong-secret@127.0.0.1:%d/postgres?sslmode=disable", server.Port())
		code, output := runToEnd(t, &wrong, nowhere, nil, run...)
		if code == 0 || !strings.Contains(output, "database.url") || strings.Contains(output, "wrong-secret") {
			t.Errorf("ended with %d:\n%s", code, output)
		}
	})
}

func TestDatabaseThatLacksSomethingIsRefused(t *testing.T) {
	cases := []struct {
		name   string
		spoil  string // SQL after init; "" for no init at all
		config string
		wants  []string
	}{
		{name: "nothing is there", wants: []string{"run posthorn init"}},
		{name: "publication is missing", spoil: `DROP PUBLICATION posthorn`, wants: []string{"publication posthorn does not exist", "run posthorn init"}},
		{
			name: "publication lacks the table", spoil: `ALTER PUBLICATION posthorn DROP TABLE posthorn.outbox`,
			wants: []string{"publication posthorn does not publish the inserts of posthorn.outbox", "run posthorn init"},
		},
		{
			name: "slot never was", spoil: `SELECT pg_drop_replication_slot(slot) FROM posthorn.relay; DELETE FROM posthorn.relay`,
			wants: []string{"does not exist", "run posthorn init"},
		},
		{name: "outbox is missing", spoil: `DROP TABLE posthorn.outbox`, wants: []string{"posthorn.outbox", "run posthorn init"}},
		{
			name: "mapped column is missing", spoil: `SELECT 1`, config: "source: {columns: {key: aggregate_id}}\n",
			wants: []string{"table posthorn.outbox has no column aggregate_id (for key)", "source.columns"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db := newDatabase(t)
			if c.spoil != "" {
				initialise(t, db, nowhere)
				db.waitSlotFree(t)
				db.script(t, c.spoil)
			}
			mustRefuse(t, db, c.config+nowhere, nil, run, c.wants...)
		})
	}
}

// script runs several statements.
func (db *database) script(t testing.TB, sql string) {
	t.Helper()
	conn, err := db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("run %s: %v", sql, err)
	}
}

func TestColumnDroppedWhileRunningIsNamed(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	r := startRelay(t, db, rcv, plainConfig)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	rcv.endpoints["/a"].waitDelivered(1, 30*time.Second)
	db.script(t, `ALTER TABLE posthorn.outbox DROP COLUMN headers; INSERT INTO posthorn.outbox (type, payload) VALUES ('test.created', '{"n": 2}')`)
	if code := r.wait(30 * time.Second); code == 0 {
		t.Error("the relay ended with 0")
	}
	if end := r.tail(5); !strings.Contains(end, "table posthorn.outbox has no column headers") {
		t.Errorf("the relay does not name the column:\n%s", end)
	}
	startCommand(t, db, rcv, plainConfig, run...) // which finds the table as it is now
	rcv.endpoints["/a"].waitDelivered(2, 30*time.Second)
}

func TestSlotOutOfStepIsRefused(t *testing.T) {
	cases := []struct {
		name, spoil string
		wants       []string
	}{
		{"dropped", `SELECT pg_drop_replication_slot(slot) FROM posthorn.relay`, []string{"is missing although the ledger knows it", "uninstall"}},
		{
			"recreated", `SELECT pg_drop_replication_slot(slot) FROM posthorn.relay; SELECT pg_create_logical_replication_slot(slot, 'pgoutput') FROM posthorn.relay`,
			[]string{"ahead of the ledger", "recreated or advanced"},
		},
		{"advanced", `SELECT pg_replication_slot_advance(slot, pg_current_wal_lsn()) FROM posthorn.relay`, []string{"ahead of the ledger", "recreated or advanced"}},
		{"of another system", `UPDATE posthorn.relay SET system_id = '1234567890'`, []string{"another database system", "1234567890"}},
		{"of another timeline", `UPDATE posthorn.relay SET timeline = 99`, []string{"the server is on timeline 1, the ledger on 99"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db, rcv := newDatabase(t), newReceiver(t, "/a")
			r := startRelay(t, db, rcv, plainConfig)
			r.waitReady()
			db.mustWrite(t, bulk{From: 1, To: 1}, 1)
			rcv.endpoints["/a"].waitDelivered(1, 30*time.Second)
			if code, _ := r.stop(); code != 0 {
				t.Fatalf("the relay ended with %d", code)
			}
			db.mustWrite(t, bulk{From: 2, To: 2}, 1)
			db.waitSlotFree(t)
			db.script(t, c.spoil)
			mustRefuse(t, db, nowhere, nil, run, c.wants...)
			mustRefuse(t, db, nowhere, nil, runInit, c.wants...)
			if got := db.count(t, `SELECT count(*) FROM posthorn.outbox`); got != 2 {
				t.Errorf("the outbox has %d events, not 2", got)
			}
		})
	}
}

func TestSlotActiveElsewhereIsWaitedFor(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	initialise(t, db, nowhere)
	conn, err := pgconn.Connect(t.Context(), db.url+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	closeConn := func() { _ = conn.Close(context.Background()) } // the server may have gone first
	defer closeConn()
	err = pglogrepl.StartReplication(t.Context(), conn, db.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'posthorn'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := startCommand(t, db, rcv, plainConfig, run...)
	line := r.waitLog("another relay holds the slot, waiting to take over", 1)
	if pid := fmt.Sprint(conn.PID()); !strings.Contains(line.Text, db.slot) || !strings.Contains(line.Text, pid) {
		t.Errorf("the relay names neither slot %s nor process %s: %s", db.slot, pid, line.Text)
	}
	if role := r.role(); role != "standby" {
		t.Errorf("the relay's role is %s", role)
	}
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	closeConn()
	r.waitReady()
	rcv.endpoints["/a"].waitDelivered(1, 30*time.Second)
}

func TestPostgresThatIsDownIsWaitedFor(t *testing.T) {
	s := newServer(t, serverSettings("off"))
	db, rcv := newDatabaseOn(t, s), newReceiver(t, "/a")
	initialise(t, db, nowhere)
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
	r := startCommand(t, db, rcv, plainConfig, run...)
	r.waitLog("Postgres cannot be used, trying again", 1)
	if role := r.role(); role != "connecting" {
		t.Errorf("the relay's role is %s", role)
	}
	// The second has its own init wait, too.
	other := newReceiver(t, "/a")
	withInit := startCommand(t, db, other, plainConfig, runInit...)
	withInit.waitLog("init", 1)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		return atLeast(len(r.logged(msgReady))+len(withInit.logged(msgReady)), 1)
	})
	r.waitLog("posthorn starts", 1)
	withInit.waitLog("posthorn starts", 1)
	db.mustWrite(t, bulk{From: 1, To: 1}, 1)
	eventually(t, time.Minute, func() error {
		return atLeast(rcv.endpoints["/a"].counts().Delivered+other.endpoints["/a"].counts().Delivered, 1)
	})
}

func TestPortInUseIsRefused(t *testing.T) {
	db := newDatabase(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	address := listener.Addr().String()
	mustRefuse(t, db, nowhere, []string{"POSTHORN_HTTP__LISTEN=" + address}, runInit, address, "address already in use", "choose another http.listen")
}
