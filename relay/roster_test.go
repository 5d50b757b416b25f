package relay

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// change does what the API does to an endpoint: in one transaction the
// definition, what the ledger knows of the endpoint, and the word of it in the
// stream. A document of "" deletes it.
func (db *database) change(t *testing.T, id uuid.UUID, revision int, document string) {
	t.Helper()
	err := pgx.BeginFunc(context.Background(), db.pool, func(tx pgx.Tx) error {
		if document == "" {
			if _, err := tx.Exec(t.Context(), `UPDATE posthorn.definitions SET deleted = true, document = '{}', revision = $2 WHERE id = $1`, id, revision); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), `UPDATE posthorn.endpoints SET state = 'removed', updated_at = clock_timestamp() WHERE id = $1`, id); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'posthorn.endpoints', $1)`, strconv.Itoa(revision))
			return err
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO posthorn.definitions (id, revision, name, tenant, document, from_lsn, created_by, updated_by)
SELECT $1, $2, d->>'name', d->>'tenant', d, pg_current_wal_insert_lsn(), 'test', 'test' FROM (SELECT $3::json AS d) AS d
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, document = excluded.document`, id, revision, document); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `INSERT INTO posthorn.endpoints (id, name, url) SELECT $1, d->>'name', d->>'url' FROM (SELECT $2::json AS d) AS d
ON CONFLICT (id) DO UPDATE SET url = excluded.url, state = CASE $2::json->>'enabled' WHEN 'false' THEN 'disabled' ELSE 'enabled' END, updated_at = clock_timestamp()`, id, document); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'posthorn.endpoints', $1)`, strconv.Itoa(revision))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitAll waits until everything of want, paths and events, has arrived.
func (r *receiver) awaitAll(t *testing.T, want []string) {
	t.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	for _, a := range r.seen {
		delete(missing, a.path+" "+a.event)
	}
	for deadline := time.Now().Add(30 * time.Second); len(missing) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%v do not arrive", slices.Collect(maps.Keys(missing)))
		}
		a := r.next(t)
		delete(missing, a.path+" "+a.event)
	}
}

// eventually waits until a query is true.
func (db *database) eventually(t *testing.T, sql string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var done bool
		if err := db.pool.QueryRow(t.Context(), sql, args...).Scan(&done); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to %s", sql)
		}
		_ = pause(t.Context(), 20*time.Millisecond)
	}
}

// TestEndpointGetsWhatCommitsAfterItWasMade, and after an edit what that says,
// until it is deleted: in the order of commits, while other events flow.
func TestEndpointGetsWhatCommitsAfterItWasMade(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	cfg := recv.config(t, db, "", "always")
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	recv.await(t, db.publish(t, "t.first", `{}`))
	session := r.running.Load()
	stop := sync.OnceValue(db.publishAlways(t))
	defer stop()
	document := func(path, events string) string {
		return fmt.Sprintf(`{"name": "made", "url": "%s/%s", "events": [%q], "profile": "p"}`, recv.url, path, events)
	}
	var want []string
	expect := func(path, eventType string) { want = append(want, path+" "+db.publish(t, eventType, `{}`)) }
	for round := range 5 { // each with an endpoint of its own
		id := uuid.New()
		db.publish(t, "t.before", `{}`)
		db.change(t, id, 4*round+1, document("first", "t.*"))
		expect("/first", "t.made")
		expect("/first", "t.made")
		recv.awaitAll(t, want)
		db.change(t, id, 4*round+2, document("second", "t.*"))
		expect("/second", "t.moved")
		recv.awaitAll(t, want) // an edit applies to what was not read before it
		db.change(t, id, 4*round+3, document("second", "other.*"))
		db.publish(t, "t.unwanted", `{}`)
		expect("/second", "other.wanted")
		recv.awaitAll(t, want)
		db.change(t, id, 4*round+4, "")
		db.publish(t, "other.late", `{}`)
	}
	if r.running.Load() != session {
		t.Error("the session began anew")
	}
	recv.wantOnce(t, r, "always", stop())
	var got []string
	for _, a := range recv.seen {
		if a.path != "/always" {
			got = append(got, a.path+" "+a.event)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what arrived (-want +got):\n%s", diff)
	}
}

// TestDeletedEndpointsDeliveriesEnd as failed, where they were parked or waited
// for a retry, and those of a disabled one stay.
func TestDeletedEndpointsDeliveriesEnd(t *testing.T) {
	db := newDatabase(t)
	refusing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refusing.Close)
	cfg := db.initialised(t, anyPort+"egress: {allow: [127.0.0.0/8]}\n")
	deleted, disabled := uuid.New(), uuid.New()
	document := func(name, more string) string {
		return fmt.Sprintf(`{"name": %q, "url": %q, "events": ["*"]%s}`, name, refusing.URL, more)
	}
	db.change(t, deleted, 1, document("deleted", ""))
	db.change(t, disabled, 2, document("disabled", ""))
	r := start(t, cfg)
	r.log.waitFor(t, "slot acquired, delivering")
	for range 3 {
		db.publish(t, "t.event", `{}`)
	}
	db.eventually(t, `SELECT count(*) = 6 FROM posthorn.pending WHERE attempts = 1`)
	db.change(t, disabled, 3, document("disabled", `, "enabled": false`))
	db.change(t, deleted, 4, "")
	db.eventually(t, `SELECT count(*) = 3 FROM posthorn.deliveries WHERE state = 'failed' AND error = 'endpoint removed' AND endpoint_id = $1`, deleted)
	if n := db.text(t, `SELECT count(*)::text FROM posthorn.pending WHERE endpoint_id = $1`, disabled); n != "3" {
		t.Errorf("the disabled endpoint has %s deliveries left, not 3", n)
	}
	db.publish(t, "t.event", `{}`)
	db.change(t, disabled, 5, document("disabled", ""))
	r.log.waitFor(t, "endpoints changed", "revision=5")
	db.publish(t, "t.event", `{}`)
	db.eventually(t, `SELECT count(*) = 4 FROM posthorn.pending WHERE attempts > 0 AND endpoint_id = $1`, disabled)
}

// TestEndpointThatCannotBeUsedParksItsEvents until the configuration has what it
// needs; a change that the stream does not tell of is noticed, too.
func TestEndpointThatCannotBeUsedParksItsEvents(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	cfg := recv.config(t, db, "", "always")
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	r.log.waitFor(t, "slot acquired, delivering")
	id := db.define(t, nil, 1, fmt.Sprintf(`{"name": "made", "url": "%s/made", "events": ["t.*"], "profile": "later"}`, recv.url))
	r.log.waitFor(t, "endpoint cannot be used", "no profile of that name")
	db.publish(t, "t.event", `{}`)
	db.eventually(t, `SELECT count(*) = 1 FROM posthorn.pending WHERE endpoint_id = $1 AND reason = 'endpoint cannot be used'`, id)
	r.Reload(recv.config(t, db, "  later: {concurrency: 2}", "always"))
	r.log.waitFor(t, "configuration reloaded", "changed=[profiles]")
	for recv.next(t).path != "/made" {
	}
}

// TestEndpointsSurviveATurnOfARelayThatDoesNotKnowThem: one of a release before
// the API takes what is not in its configuration for removed.
func TestEndpointsSurviveATurnOfARelayThatDoesNotKnowThem(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	cfg := recv.config(t, db, "", "always")
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	there, off := uuid.New(), uuid.New()
	db.change(t, there, 1, fmt.Sprintf(`{"name": "made", "url": "%s/made", "events": ["*"], "profile": "p"}`, recv.url))
	db.change(t, off, 2, fmt.Sprintf(`{"name": "off", "url": "%s/off", "events": ["*"], "enabled": false}`, recv.url))
	db.script(t, `UPDATE posthorn.endpoints SET state = 'removed', state_by = 'configuration', reason = 'no longer in the configuration';`)
	r := start(t, cfg)
	recv.awaitAll(t, []string{"/made " + db.publish(t, "t.event", `{}`)})
	r.stop()
	for id, want := range map[uuid.UUID]string{there: "enabled", off: "disabled"} {
		if state := db.text(t, `SELECT state FROM posthorn.endpoints WHERE id = $1`, id); state != want {
			t.Errorf("%s stands as %s, not %s", id, state, want)
		}
	}
}

// TestChangeThatNobodyMadeHoldsEventsUpOnce: whoever may connect can write its
// message.
func TestChangeThatNobodyMadeHoldsEventsUpOnce(t *testing.T) {
	db, recv := newDatabase(t), newReceiver(t)
	cfg := recv.config(t, db, "", "always")
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	recv.await(t, db.publish(t, "t.first", `{}`))
	db.script(t, `SELECT count(pg_logical_emit_message(true, 'posthorn.endpoints', '9999999999')) FROM generate_series(1, 1000);
SELECT pg_logical_emit_message(true, 'posthorn.endpoints', '9999999998');`)
	id := db.publish(t, "t.event", `{}`)
	r.log.waitFor(t, "a change of endpoints is in the stream and not in the ledger")
	db.script(t, `SELECT pg_logical_emit_message(true, 'posthorn.endpoints', '9999999999');`)
	recv.await(t, id)
	recv.await(t, db.publish(t, "t.last", `{}`))
	r.stop()
	close(r.log)
	for line := range r.log {
		if strings.Contains(line, "a change of endpoints is in the stream and not in the ledger") {
			t.Errorf("events were held up again: %s", line)
		}
	}
}
