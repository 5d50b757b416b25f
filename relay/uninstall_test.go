package relay

import (
	"context"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestUninstallRemovesWhatItIsToldAndNoMore(t *testing.T) {
	db := newDatabase(t)
	db.script(t, `CREATE TABLE events (id uuid PRIMARY KEY, type text, payload json);`)
	cfg := db.initialised(t, "source: {table: events}")
	if err := Uninstall(t.Context(), cfg, UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
	const left = `SELECT format('%s slots, %s publications, %s entries', (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1),
		(SELECT count(*) FROM pg_publication), (SELECT count(*) FROM posthorn.relay))`
	if got := db.text(t, left, db.slot); got != "0 slots, 0 publications, 0 entries" {
		t.Errorf("left: %s", got)
	}
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil { // as the mend of a lost slot says
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing left
		if err := Uninstall(t.Context(), cfg, UninstallOptions{Schema: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := db.text(t, `SELECT format('%s %s', to_regnamespace('posthorn') IS NULL, to_regclass('public.events'))`); got != "t events" {
		t.Errorf("schema gone, table left: %s", got)
	}
}

func TestUninstallRefusesASlotInUse(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "")
	conn, err := pgconn.Connect(t.Context(), db.url+"&replication=database&application_name=busy")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	err = pglogrepl.StartReplication(t.Context(), conn, db.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'posthorn'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, Uninstall(t.Context(), cfg, UninstallOptions{Schema: true}), "is in use", "busy", "stop the relay first")
	if got := db.text(t, `SELECT slot FROM posthorn.relay`); got != db.slot {
		t.Error("the ledger was removed nevertheless")
	}
	if _, err := db.pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int32(conn.PID())); err != nil {
		t.Fatal(err)
	}
	for db.text(t, `SELECT active::text FROM pg_replication_slots WHERE slot_name = $1`, db.slot) == "true" {
		continue // the cleanup needs it free
	}
}
