package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"
)

// session returns a session of somebody's.
func session(n int, name, tenant string) Session {
	return Session{Hash: sha256.Sum256(fmt.Append(nil, n, name, tenant)), Name: name, Role: "operator", Tenant: tenant, Profile: "p", Via: "web", Lasts: time.Hour}
}

func (l *Ledger) openSession(t *testing.T, s Session) {
	t.Helper()
	if err := l.OpenSession(t.Context(), s, Actor{Name: s.Via + ":" + s.Name, From: "192.0.2.7", Tenant: s.Tenant}); err != nil {
		t.Fatal(err)
	}
}

func TestASessionIsKnownUntilItEnds(t *testing.T) {
	l := acquire(t, open(t))
	idle, old, closed := session(1, "ops", ""), session(2, "ops", ""), session(3, "jo", "acme")
	for _, s := range []Session{idle, old, closed} {
		l.openSession(t, s)
	}
	known := func(s Session) bool {
		t.Helper()
		got, err := l.Session(t.Context(), s.Hash)
		if err != nil && !errors.Is(err, ErrUnknownSession) {
			t.Fatal(err)
		}
		s.Lasts = 0
		if err == nil && *got != s {
			t.Errorf("it is %+v, not %+v", got, s)
		}
		return err == nil
	}
	for _, s := range []Session{idle, old, closed} {
		if !known(s) {
			t.Errorf("%+v is not known", s)
		}
	}
	set := func(s Session, what string) {
		t.Helper()
		if _, err := l.pool.Exec(t.Context(), `UPDATE posthorn.sessions SET `+what+` WHERE hash = $1`, s.Hash[:]); err != nil {
			t.Fatal(err)
		}
	}
	set(idle, `seen_at = clock_timestamp() - interval '119 minutes'`)
	if !known(idle) {
		t.Error("it ends too early")
	}
	if got := texts(t, l.pool, `SELECT (clock_timestamp() - seen_at < interval '1 minute')::text FROM posthorn.sessions WHERE hash = $1`, idle.Hash[:]); got[0] != "true" {
		t.Error("its use is not noted")
	}
	set(idle, `seen_at = clock_timestamp() - interval '121 minutes'`)
	set(old, `expires_at = clock_timestamp()`)
	for range 2 { // once more does nothing
		if err := l.CloseSession(t.Context(), closed.Hash, "192.0.2.8"); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]Session{"idle": idle, "old": old, "closed": closed, "of nobody": session(4, "x", "")} {
		if known(s) {
			t.Errorf("a session that is %s is known", name)
		}
	}
	audit := texts(t, l.pool, `SELECT concat_ws(' ', actor, source, action, subject, tenant, detail->>'role') FROM posthorn.audit ORDER BY id`)
	want := "[web:ops 192.0.2.7 login ops operator web:ops 192.0.2.7 login ops operator web:jo 192.0.2.7 login jo acme operator web:jo 192.0.2.8 logout jo acme]"
	if got := fmt.Sprint(audit); got != want {
		t.Errorf("the audit has %s, want %s", got, want)
	}
}

func TestSomebodysSessionsAreBounded(t *testing.T) {
	l := acquire(t, open(t))
	l.openSession(t, session(0, "jo", "acme"))
	l.openSession(t, session(0, "jo", "bravo"))
	for n := range maxSessions + 3 {
		l.openSession(t, session(n, "ops", ""))
	}
	if _, err := l.pool.Exec(t.Context(), `UPDATE posthorn.sessions SET expires_at = now() WHERE tenant = 'bravo'`); err != nil {
		t.Fatal(err)
	}
	l.openSession(t, session(1, "jo", "acme"))
	got := texts(t, l.pool, `SELECT concat_ws(' ', name, tenant, count(*)) FROM posthorn.sessions GROUP BY name, tenant ORDER BY 1`)
	if want := fmt.Sprintf("[jo acme 2 ops %d]", maxSessions); fmt.Sprint(got) != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	for n, want := range map[int]error{2: ErrUnknownSession, 3: nil, maxSessions + 2: nil} {
		if _, err := l.Session(t.Context(), session(n, "ops", "").Hash); !errors.Is(err, want) {
			t.Errorf("session %d: %v, want %v", n, err, want)
		}
	}
}
