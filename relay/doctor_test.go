package relay

import (
	"strings"
	"testing"
)

// wantFinding fails the test unless there is a finding of this name and state
// whose detail and mend hold these texts.
func wantFinding(t *testing.T, findings []Finding, name string, state FindingState, detail, mend string) {
	t.Helper()
	for _, f := range findings {
		if f.Name == name && f.State == state && strings.Contains(f.Detail, detail) && strings.Contains(f.Mend, mend) {
			return
		}
	}
	t.Errorf("no finding %s %s with %q and %q in %+v", name, state, detail, mend, findings)
}

func TestDoctorFindsNothingWrongAfterInit(t *testing.T) {
	db := newDatabase(t)
	findings := Doctor(t.Context(), db.initialised(t, ""))
	for _, f := range findings {
		if f.State == FindingFail || f.State == FindingSkipped {
			t.Errorf("%+v", f)
		}
	}
	wantFinding(t, findings, "max_slot_wal_keep_size", FindingWarn, "unlimited", "posthorn_slot_retained_bytes")
	wantFinding(t, findings, "slot", FindingWarn, "no relay runs", "posthorn run")
}

func TestDoctorNamesWhatIsWrongAndItsMend(t *testing.T) {
	cases := []struct {
		name, spoil    string // SQL after init
		finding        string
		state          FindingState
		detail, mend   string
		withoutInit    bool
		configuredWith string
	}{
		{name: "nothing was done", withoutInit: true, finding: "outbox", state: FindingFail, detail: "does not exist", mend: "posthorn init"},
		{name: "no ledger", spoil: `DROP TABLE posthorn.goose_db_version;`, finding: "ledger", state: FindingFail, detail: "no tables", mend: "posthorn init"},
		{name: "old ledger", spoil: `DELETE FROM posthorn.goose_db_version WHERE version_id > 0;`, finding: "ledger", state: FindingFail, detail: "version 0", mend: "posthorn init"},
		{name: "no publication", spoil: `DROP PUBLICATION posthorn;`, finding: "publication", state: FindingFail, detail: "does not exist", mend: "posthorn init"},
		{name: "no slot", spoil: `SELECT pg_drop_replication_slot(slot) FROM posthorn.relay; DELETE FROM posthorn.relay;`, finding: "slot", state: FindingFail, detail: "does not exist", mend: "posthorn init"},
		{name: "a slot that the ledger does not know", spoil: `DELETE FROM posthorn.relay;`, finding: "slot", state: FindingFail, detail: "does not know it", mend: "posthorn init"},
		{
			name: "slot ahead of the ledger", spoil: `UPDATE posthorn.relay SET flushed_lsn = '0/1';`, finding: "slot", state: FindingFail,
			detail: "ahead of the ledger", mend: "posthorn uninstall",
		},
		{name: "another system", spoil: `UPDATE posthorn.relay SET system_id = '1';`, finding: "slot", state: FindingFail, detail: "another database system", mend: "uninstall"},
		{name: "a missing column", configuredWith: "source: {columns: {tenant: org}}", finding: "outbox", state: FindingFail, detail: "org (for tenant)", mend: ""},
		{
			name: "old deliveries", spoil: `INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, lsn, index, created_at, state, due_at, epoch, bytes)
			VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'a', '0/1', 0, now() - interval '2 days', 'pending', now(), 0, 0);`,
			finding: "pending deliveries", state: FindingWarn, detail: "48h", mend: "posthorn deliveries list",
		},
		{
			name: "a paused endpoint", spoil: `INSERT INTO posthorn.endpoints (id, name, url, state, state_by, reason, state_at)
			VALUES (gen_random_uuid(), 'Acme ERP', 'https://a.example', 'paused', 'operator', 'they move', '2026-05-22 09:30Z');`,
			finding: "endpoints", state: FindingWarn, detail: "Acme ERP is paused since 2026-05-22T09:30:00Z by the operator: they move; 0 deliveries wait",
			mend: "posthorn endpoints resume 'Acme ERP'",
		},
		{
			name: "an endpoint that answered 410", spoil: `INSERT INTO posthorn.endpoints (id, name, url, state, state_by)
			VALUES (gen_random_uuid(), 'erp', 'https://a.example', 'disabled', 'relay');`,
			finding: "endpoints", state: FindingWarn, detail: "erp is disabled since", mend: "posthorn endpoints resume erp",
		},
		{
			name: "many paused endpoints", spoil: `INSERT INTO posthorn.endpoints (id, name, url, state, state_by)
			SELECT gen_random_uuid(), 'e' || n, 'https://a.example', 'paused', 'relay' FROM generate_series(1, 25) n;`,
			finding: "endpoints", state: FindingWarn, detail: "5 more", mend: "posthorn endpoints",
		},
		{
			name: "an endpoint that the configuration disables", spoil: `INSERT INTO posthorn.endpoints (id, name, url, state)
			VALUES (gen_random_uuid(), 'off', 'https://a.example', 'disabled');`,
			finding: "endpoints", state: FindingOK, detail: "none waits to be resumed",
		},
		{
			name: "old rows", spoil: `INSERT INTO posthorn.outbox (type, payload, created_at) VALUES ('a', '1', now() - interval '1 year');`,
			finding: "cleaning", state: FindingWarn, detail: "older than source.retention", mend: "posthorn run",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db := newDatabase(t)
			cfg := db.config(t, "")
			if !c.withoutInit {
				cfg = db.initialised(t, "")
				db.script(t, c.spoil)
			}
			if c.configuredWith != "" {
				cfg = db.config(t, c.configuredWith)
			}
			wantFinding(t, Doctor(t.Context(), cfg), c.finding, c.state, c.detail, c.mend)
		})
	}
}
