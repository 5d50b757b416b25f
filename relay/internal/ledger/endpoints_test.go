package ledger

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// erp is an endpoint that the configuration enables.
func erp() Endpoint {
	return Endpoint{ID: endpointID, Name: "erp", URL: "https://erp.example", Tenant: "t1", Enabled: true}
}

// sync records the configuration's endpoints.
func (l *Ledger) sync(t *testing.T, endpoints ...Endpoint) map[uuid.UUID]Standing {
	t.Helper()
	standings, err := l.SyncEndpoints(t.Context(), endpoints)
	if err != nil {
		t.Fatal(err)
	}
	return standings
}

// row returns state, who set it and why.
func (l *Ledger) row(t *testing.T) string {
	t.Helper()
	return texts(t, l.pool, `SELECT concat_ws(' ', state, state_by, reason) FROM posthorn.endpoints WHERE id = $1`, endpointID)[0]
}

// audited has the last entry of the audit that a test looked at, by its pool.
var audited sync.Map

// audit returns the actors and actions on the endpoint since the last call.
func (l *Ledger) audit(t *testing.T) string {
	t.Helper()
	last, _ := audited.LoadOrStore(l.pool, "0")
	all := texts(t, l.pool, `SELECT concat_ws(' ', actor, action, detail->>'name', detail->>'was', detail->>'reason')
		FROM posthorn.audit WHERE subject = $1 AND id > $2::text::bigint ORDER BY id`, endpointID.String(), last)
	audited.Store(l.pool, texts(t, l.pool, `SELECT coalesce(max(id), 0)::text FROM posthorn.audit`)[0])
	return strings.Join(all, "; ")
}

func (l *Ledger) pause(t *testing.T, reason string) *Turned {
	t.Helper()
	e, err := l.Pause(t.Context(), "erp", reason, Actor{Name: "cli:test"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (l *Ledger) resume(t *testing.T) *Turned {
	t.Helper()
	e, err := l.Resume(t.Context(), "erp", "", Actor{Name: "cli:test"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (l *Ledger) hold(t *testing.T, state EndpointState, reason string) {
	t.Helper()
	if err := l.Hold(t.Context(), endpointID, state, reason); err != nil {
		t.Fatal(err)
	}
}

// TestStatesOutliveTheRelay restarts it with another configuration.
func TestStatesOutliveTheRelay(t *testing.T) {
	pool := open(t)
	none := func(*testing.T, *Ledger) {}
	disable := func(t *testing.T, l *Ledger) { e := erp(); e.Enabled = false; l.sync(t, e) }
	remove := func(t *testing.T, l *Ledger) { l.sync(t) }
	pause := func(t *testing.T, l *Ledger) { l.pause(t, "by hand") }
	gone := func(t *testing.T, l *Ledger) { l.hold(t, Disabled, "410") }
	cases := []struct {
		name           string
		before, change func(*testing.T, *Ledger)
		want, again    string // after change, and when it is enabled in the configuration after that
		audit          string // of change
	}{
		{"nothing happened", none, none, "enabled configuration", "enabled configuration", ""},
		{"disabled there", none, disable, "disabled configuration " + reasonDisabled, "enabled configuration", "configuration endpoint.disable erp enabled " + reasonDisabled},
		{"disabled there twice", disable, disable, "disabled configuration " + reasonDisabled, "enabled configuration", ""},
		{"removed there", none, remove, "removed configuration " + reasonRemoved, "enabled configuration", "configuration endpoint.remove erp enabled " + reasonRemoved},
		{"removed there twice", remove, remove, "removed configuration " + reasonRemoved, "enabled configuration", ""},
		{"paused by hand", none, pause, "paused operator by hand", "paused operator by hand", "cli:test endpoint.pause erp enabled by hand"},
		{"disabled for a 410", none, gone, "disabled relay 410", "disabled relay 410", "relay endpoint.disable erp enabled 410"},
		{"paused, then disabled there", pause, disable, "disabled configuration " + reasonDisabled, "enabled configuration", "configuration endpoint.disable erp paused " + reasonDisabled},
		{"410, then disabled there", gone, disable, "disabled configuration " + reasonDisabled, "enabled configuration", "configuration endpoint.disable erp disabled " + reasonDisabled},
		{"paused, then removed", pause, remove, "removed configuration " + reasonRemoved, "enabled configuration", "configuration endpoint.remove erp paused " + reasonRemoved},
		{"410, then paused", gone, pause, "paused operator by hand", "paused operator by hand", "cli:test endpoint.pause erp disabled by hand"},
		{"paused, then 410", pause, gone, "disabled relay 410", "disabled relay 410", "relay endpoint.disable erp paused 410"},
		{"paused, then resumed", pause, func(t *testing.T, l *Ledger) { l.resume(t) }, "enabled operator", "enabled operator", "cli:test endpoint.resume erp paused"},
		{"410, then resumed", gone, func(t *testing.T, l *Ledger) { l.resume(t) }, "enabled operator", "enabled operator", "cli:test endpoint.resume erp disabled"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := pool.Exec(t.Context(), `TRUNCATE posthorn.endpoints`); err != nil {
				t.Fatal(err)
			}
			l := acquire(t, pool)
			l.sync(t, erp())
			c.before(t, l)
			l.audit(t)
			c.change(t, l)
			if got := l.row(t); got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
			if got := l.audit(t); got != c.audit {
				t.Errorf("audit: %q, want %q", got, c.audit)
			}
			l = acquire(t, pool)
			standings := l.sync(t, erp())
			if got := l.row(t); got != c.again {
				t.Errorf("enabled there it is %q, want %q", got, c.again)
			}
			if state, _, _ := strings.Cut(c.again, " "); string(standings[endpointID].State) != state {
				t.Errorf("the relay sees %+v", standings)
			}
		})
	}
}

func TestSyncReturnsOneStandingPerEndpointAndUpdatesWhatIsKnown(t *testing.T) {
	l := acquire(t, open(t))
	off := Endpoint{ID: uuid.New(), Name: "off", URL: "https://off.example"}
	want := map[uuid.UUID]Standing{endpointID: {State: Enabled}, off.ID: {State: Disabled}}
	if diff := cmp.Diff(want, l.sync(t, erp(), off), cmpopts.IgnoreFields(Standing{}, "At")); diff != "" {
		t.Errorf("standings differ (-want +got):\n%s", diff)
	}
	renamed := erp()
	renamed.Name, renamed.URL, renamed.Tenant = "erp 2", "https://other.example", ""
	if got := l.sync(t, renamed); len(got) != 1 {
		t.Errorf("a removed one stands as %+v", got)
	}
	if got := texts(t, l.pool, `SELECT concat_ws(' ', name, url, tenant) FROM posthorn.endpoints WHERE id = $1`, endpointID)[0]; got != "erp 2 https://other.example" {
		t.Errorf("it is known as %s", got)
	}
	if audit := l.audit(t); audit != "" {
		t.Errorf("a new name stands in the audit: %s", audit)
	}
}

func TestSyncWritesNothingThatStandsThere(t *testing.T) {
	l := acquire(t, open(t))
	plain := Endpoint{ID: uuid.New(), Name: "plain", URL: "https://plain.example", Enabled: true} // of every tenant
	versions := func() []string {
		return texts(t, l.pool, `SELECT concat_ws(' ', name, ctid, xmin) FROM posthorn.endpoints ORDER BY name`)
	}
	l.sync(t, erp(), plain)
	before := versions()
	if got := l.sync(t, erp(), plain); len(got) != 2 {
		t.Errorf("standings: %+v", got)
	}
	if diff := cmp.Diff(before, versions()); diff != "" {
		t.Errorf("rows were written again (-before +after):\n%s", diff)
	}
	changed := plain
	changed.Tenant = "acme"
	l.sync(t, erp(), changed)
	if now := versions(); now[0] != before[0] || now[1] == before[1] {
		t.Errorf("with another tenant of plain they are %q, before %q", now, before)
	}
}

func TestHealthOutlivesTheRelayUntilThereIsAReasonToForgetIt(t *testing.T) {
	pool := open(t)
	cases := []struct {
		name   string
		change func(*testing.T, *Ledger)
		keeps  bool
	}{
		{"a restart", func(t *testing.T, l *Ledger) { l.sync(t, erp()) }, true},
		{"another name", func(t *testing.T, l *Ledger) { e := erp(); e.Name = "erp 2"; l.sync(t, e) }, true},
		{"a pause", func(t *testing.T, l *Ledger) { l.pause(t, ""); l.sync(t, erp()) }, true},
		{"another address", func(t *testing.T, l *Ledger) { e := erp(); e.URL += "/2"; l.sync(t, e) }, false},
		{"a pause and its end", func(t *testing.T, l *Ledger) { l.pause(t, ""); l.resume(t) }, false},
		{"disabled and enabled there", func(t *testing.T, l *Ledger) { e := erp(); e.Enabled = false; l.sync(t, e); l.sync(t, erp()) }, false},
		{"removed and back", func(t *testing.T, l *Ledger) { l.sync(t); l.sync(t, erp()) }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := pool.Exec(t.Context(), `TRUNCATE posthorn.endpoints`); err != nil {
				t.Fatal(err)
			}
			l := acquire(t, pool)
			l.sync(t, erp())
			if err := l.SetHealth(t.Context(), endpointID, Health{State: Enabled, Failing: true, Failures: 7, FailingFor: time.Hour}); err != nil {
				t.Fatal(err)
			}
			c.change(t, l)
			if c.name != "a pause" {
				if failing := texts(t, pool, `SELECT failing::text FROM posthorn.endpoints`)[0]; failing != "false" {
					t.Error("it is failing, and nobody found that out")
				}
			}
			var failures int
			var since *time.Time
			if err := pool.QueryRow(t.Context(), `SELECT failures, failing_since FROM posthorn.endpoints`).Scan(&failures, &since); err != nil {
				t.Fatal(err)
			}
			if kept := failures == 7 && since != nil; kept != c.keeps || !kept && (failures != 0 || since != nil) {
				t.Errorf("%d failures since %v, kept should be %t", failures, since, c.keeps)
			}
			got := l.sync(t, erp())[endpointID]
			if c.keeps != (got.Failures == 7 && got.FailingFor >= time.Hour && got.FailingFor < 2*time.Hour) {
				t.Errorf("the next relay sees %+v", got)
			}
		})
	}
}

func TestHealthWithoutFailuresIsSinceNever(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	before := texts(t, l.pool, `SELECT updated_at::text FROM posthorn.endpoints`)
	for _, h := range []Health{{State: Enabled, Failures: 1}, {State: Enabled, FailingFor: time.Hour}} { // the first failure, just now; then a success
		if err := l.SetHealth(t.Context(), endpointID, h); err != nil {
			t.Fatal(err)
		}
		if got := texts(t, l.pool, `SELECT concat_ws(' ', failures, failing_since IS NOT NULL) FROM posthorn.endpoints`)[0]; got != map[int]string{1: "1 t", 0: "0 f"}[h.Failures] {
			t.Errorf("%+v stands as %s", h, got)
		}
	}
	if after := texts(t, l.pool, `SELECT updated_at::text FROM posthorn.endpoints`); after[0] != before[0] {
		t.Error("the relay told itself to look again")
	}
}

func TestHealthFromBeforeAResumeIsForgotten(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	if err := l.Hold(t.Context(), endpointID, Paused, "it failed"); err != nil {
		t.Fatal(err)
	}
	old := Health{State: Paused, Failing: true, Failures: 9, FailingFor: 130 * time.Hour}
	if err := l.SetHealth(t.Context(), endpointID, old); err != nil {
		t.Fatal(err)
	}
	if got := l.sync(t, erp())[endpointID]; got.Failures != 9 {
		t.Errorf("while it is paused the next relay sees %+v", got)
	}
	l.resume(t)
	if err := l.SetHealth(t.Context(), endpointID, old); err != nil { // the relay has not noticed yet
		t.Fatal(err)
	}
	if got := l.sync(t, erp())[endpointID]; got.Failures != 0 || got.FailingFor != 0 {
		t.Errorf("after the resume the next relay sees %+v", got)
	}
}

func TestAStandingKnowsTheNewestChange(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	l.pause(t, "")
	standing := l.sync(t, erp())[endpointID]
	changed, err := l.Changed(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if change := changed[endpointID]; !change.At.Equal(standing.At) || change.At.IsZero() {
		t.Errorf("the standing is of %s, the newest change of %s", standing.At, change.At)
	}
}

func TestARelayThatLostItsSlotTurnsNothing(t *testing.T) {
	pool := open(t)
	old := acquire(t, pool)
	old.sync(t, erp())
	acquire(t, pool)
	if err := old.Hold(t.Context(), endpointID, Paused, "out of date"); !errors.Is(err, ErrFenced) {
		t.Errorf("hold: %v", err)
	}
	if _, err := old.SyncEndpoints(t.Context(), nil); !errors.Is(err, ErrFenced) {
		t.Errorf("sync: %v", err)
	}
	if err := old.SetHealth(t.Context(), endpointID, Health{State: Enabled, Failing: true, Failures: 3}); err != nil {
		t.Errorf("health: %v", err)
	}
	if got := old.row(t); got != "enabled configuration" {
		t.Errorf("it is %s", got)
	}
	if got := texts(t, pool, `SELECT failures::text FROM posthorn.endpoints`)[0]; got != "0" {
		t.Errorf("it has %s failures", got)
	}
	other := New(pool, "other", BodiesAll, slog.New(slog.DiscardHandler))
	if err := other.Hold(t.Context(), endpointID, Paused, ""); !errors.Is(err, ErrUnknownSlot) {
		t.Errorf("hold by a relay of another slot: %v", err)
	}
}

func TestHoldIsWrittenOnceHoweverOftenItIsTried(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	l.audit(t)
	for range 2 { // the answer to the first may be lost
		l.hold(t, Paused, "seven failures")
	}
	if got, want := l.audit(t), "relay endpoint.pause erp enabled seven failures"; got != want {
		t.Errorf("audit: %q, want %q", got, want)
	}
	if err := l.Hold(t.Context(), uuid.New(), Paused, ""); !errors.Is(err, ErrUnknownEndpoint) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestHoldLeavesWhatTheAPIDisabled(t *testing.T) {
	l := acquire(t, open(t))
	made := func(enabled bool) {
		t.Helper()
		if _, err := l.redefine(t.Context(), endpointID, false, Redefined{Name: "erp", Enabled: enabled, Anew: enabled}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.redefine(t.Context(), endpointID, true, Redefined{Name: "erp", Enabled: true}); err != nil {
		t.Fatal(err)
	}
	made(false)
	l.hold(t, Disabled, "it answered 410 Gone") // which it did before
	made(true)
	if state := texts(t, l.pool, `SELECT state FROM posthorn.endpoints`); state[0] != string(Enabled) {
		t.Errorf("enabled again, it is %s", state[0])
	}
}

// TestAPauseDuringSyncIsNotLost holds the endpoint's row while it begins.
func TestAPauseDuringSyncIsNotLost(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	done := make(chan error, 1)
	err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE posthorn.endpoints SET state = 'paused', state_by = 'operator'`); err != nil {
			return err
		}
		go func() {
			_, err := l.SyncEndpoints(t.Context(), []Endpoint{erp()})
			done <- err
		}()
		for waiting := false; !waiting; {
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			if err := l.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())`).Scan(&waiting); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := l.row(t); got != "paused operator" {
		t.Errorf("it is %s", got)
	}
}

func TestChangedTellsWhatWasDone(t *testing.T) {
	l := acquire(t, open(t))
	other := Endpoint{ID: uuid.New(), Name: "other", URL: "https://other.example", Enabled: true}
	l.sync(t, erp(), other)
	if _, err := l.pool.Exec(t.Context(), `UPDATE posthorn.endpoints SET updated_at = now() - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	changed := func(since time.Time) map[uuid.UUID]Change {
		t.Helper()
		all, err := l.Changed(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := changed(time.Time{})
	if len(all) != 2 || all[endpointID].State != Enabled || all[endpointID].Reason != "" {
		t.Errorf("at first %+v", all)
	}
	since := all[other.ID].At
	steps := []struct {
		name string
		do   func()
		want Change
	}{
		{"pause", func() { l.pause(t, "why") }, Change{State: Paused, Reason: "why"}},
		{"resume", func() { l.resume(t) }, Change{State: Enabled}},
		{"hold", func() { l.hold(t, Disabled, "410") }, Change{State: Disabled, Reason: "410"}},
	}
	for _, s := range steps {
		s.do()
		got := changed(since)[endpointID]
		if !got.At.After(since) || got.State != s.want.State || got.Reason != s.want.Reason {
			t.Errorf("%s: %+v after %v", s.name, got, since)
		}
		since = got.At
	}
	if late := changed(since); len(late) != 1 {
		t.Errorf("it returns what is long past: %+v", late)
	}
	if ahead := changed(since.Add(time.Hour)); len(ahead) != 1 {
		t.Errorf("after the clock was set back it sees %+v", ahead)
	}
}
