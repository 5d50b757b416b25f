package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func TestTheAuditTakesInsertsOnly(t *testing.T) {
	l := acquire(t, open(t))
	if err := l.Note(t.Context(), Actor{Name: "api:ops"}, Entry{Action: "a", Subject: "s"}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`UPDATE posthorn.audit SET actor = 'nobody'`,
		`UPDATE posthorn.audit SET actor = 'nobody' WHERE false`,
		`DELETE FROM posthorn.audit`,
		`TRUNCATE posthorn.audit`,
		`SET LOCAL session_replication_role = replica; DELETE FROM posthorn.audit`,
		`MERGE INTO posthorn.audit a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE`,
		`INSERT INTO posthorn.audit (id, actor, action, subject) OVERRIDING SYSTEM VALUE SELECT id, 'x', 'x', 'x' FROM posthorn.audit ON CONFLICT (id) DO UPDATE SET actor = 'nobody'`,
	} {
		err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "append-only") && codeOf(err) != "42601" { // MERGE came with 15
			t.Errorf("%s: %v", sql, err)
		}
	}
	if got := texts(t, l.pool, `SELECT actor FROM posthorn.audit`); fmt.Sprint(got) != "[api:ops]" {
		t.Errorf("the audit has %s", got)
	}
}

func TestTheAuditIsListedByWhatIsAskedFor(t *testing.T) {
	l := acquire(t, open(t))
	note := func(actor Actor, e Entry) {
		t.Helper()
		if err := l.Note(t.Context(), actor, e); err != nil {
			t.Fatal(err)
		}
	}
	note(Actor{Name: "api:ops", From: "192.0.2.7"}, Entry{Action: "a", Subject: "1", Tenant: "acme", Detail: map[string]any{"n": 1}, Before: map[string]any{"x": nil}, After: []int{2}})
	note(Actor{Name: "api:ops"}, Entry{Action: "b", Subject: "2"})
	note(Actor{Name: "portal:jo", Tenant: "bravo"}, Entry{Action: "a", Subject: "2", Tenant: "bravo"})
	at := time.Now()
	cases := []struct {
		name string
		f    AuditFilter
		want string
	}{
		{"all", AuditFilter{}, "3 2 1"},
		{"two", AuditFilter{Limit: 2}, "3 2"},
		{"the next", AuditFilter{Before: 2}, "1"},
		{"an actor's", AuditFilter{Actor: "api:ops"}, "2 1"},
		{"an action", AuditFilter{Action: "a"}, "3 1"},
		{"a subject's", AuditFilter{Subject: "2"}, "3 2"},
		{"a tenant's", AuditFilter{Tenant: "acme"}, "1"},
		{"all at once", AuditFilter{Actor: "portal:jo", Action: "a", Subject: "2", Tenant: "bravo", From: at.Add(-time.Hour), Until: at.Add(time.Hour), Before: 9}, "3"},
		{"later", AuditFilter{From: at.Add(time.Hour)}, ""},
		{"earlier", AuditFilter{Until: at.Add(-time.Hour)}, ""},
		{"what could be SQL", AuditFilter{Actor: "' OR true --"}, ""},
	}
	var first AuditEntry
	for _, c := range cases {
		if c.f.Limit == 0 {
			c.f.Limit = 10
		}
		list, err := l.Audit(t.Context(), c.f)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, e := range list {
			ids = append(ids, fmt.Sprint(e.ID))
			first = e
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.name == "a tenant's" {
			text, _ := json.Marshal(first)
			if want := `"actor":"api:ops","from":"192.0.2.7","action":"a","subject":"1","tenant":"acme","detail":{"n":1},"before":{"x":null},"after":[2]}`; !strings.HasSuffix(string(text), want) {
				t.Errorf("the entry is %s", text)
			}
		}
	}
}

func TestTurningAnEndpointIsAuditedWithBeforeAndAfter(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	if _, err := l.Pause(t.Context(), "erp", "why", Actor{Name: "api:ops", From: "192.0.2.7"}); err != nil {
		t.Fatal(err)
	}
	l.sync(t)
	got := texts(t, l.pool, `SELECT concat_ws(' ', actor, source, tenant, before, after) FROM posthorn.audit ORDER BY id`)
	want := []string{
		`api:ops 192.0.2.7 t1 {"state":"enabled","state_by":"configuration"} {"state":"paused","state_by":"operator","reason":"why"}`,
		`configuration t1 {"state":"paused","state_by":"operator","reason":"why"} {"state":"removed","state_by":"configuration","reason":"` + reasonRemoved + `"}`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the audit has %s, want %s", got, want)
	}
}

func TestToATenantThereIsNothingOfAnothers(t *testing.T) {
	l := acquire(t, open(t))
	others := Endpoint{ID: uuid.New(), Name: "other", URL: "https://b.example", Tenant: "t2", Enabled: true}
	everybodys := Endpoint{ID: uuid.New(), Name: "all", URL: "https://c.example", Enabled: true}
	l.sync(t, erp(), others, everybodys)
	var records []*Record
	for i, to := range []struct {
		endpoint Endpoint
		tenant   string
		state    State
	}{{erp(), "t1", Pending}, {erp(), "t1", Failed}, {others, "t2", Pending}, {others, "t2", Failed}, {everybodys, "t1", Failed}, {everybodys, "", Pending}, {erp(), "t2", Failed}} {
		r := newRecord(i+1, to.state)
		r.Endpoint, r.Event.Tenant, r.Event.CommittedAt = to.endpoint.ID, to.tenant, committed
		records = append(records, r)
	}
	if err := write(t, l, &positions{}, records...); err != nil {
		t.Fatal(err)
	}
	mine := map[uuid.UUID]bool{records[0].ID: true, records[1].ID: true}
	list, err := l.List(t.Context(), Filter{Scope: "t1", Limit: 10})
	if err != nil || len(list) != len(mine) {
		t.Errorf("%d deliveries, %v", len(list), err)
	}
	for _, d := range list {
		if !mine[d.ID] {
			t.Errorf("%s is listed, of %s", d.ID, d.Tenant)
		}
	}
	for i, r := range records {
		if err := l.Owned(t.Context(), r.ID, "t1"); (err == nil) != mine[r.ID] || err != nil && !errors.Is(err, ErrUnknownDelivery) {
			t.Errorf("delivery %d: %v", i, err)
		}
	}
	tenant := Actor{Name: "portal:jo", Tenant: "t1"}
	for _, name := range []string{"other", "all", others.ID.String(), everybodys.ID.String()} {
		if _, err := l.Pause(t.Context(), name, "", tenant); !errors.Is(err, ErrUnknownEndpoint) {
			t.Errorf("pause %s: %v", name, err)
		}
		if _, err := l.Resume(t.Context(), name, "", tenant); !errors.Is(err, ErrUnknownEndpoint) {
			t.Errorf("resume %s: %v", name, err)
		}
	}
	if _, err := l.Pause(t.Context(), "erp", "", tenant); err != nil {
		t.Error(err)
	}
	if got := texts(t, l.pool, `SELECT string_agg(name, ' ') FROM posthorn.endpoints WHERE state = 'paused'`); got[0] != "erp" {
		t.Errorf("paused: %s", got)
	}
}
