package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// FindingState is how serious a finding is.
type FindingState string

// The states of a finding.
const (
	FindingOK      FindingState = "ok"
	FindingWarn    FindingState = "warn"
	FindingFail    FindingState = "fail"
	FindingSkipped FindingState = "skipped" // could not be checked for want of another
)

// Finding is what Doctor found in one respect.
type Finding struct {
	Name   string       `json:"name"`
	State  FindingState `json:"state"`
	Detail string       `json:"detail"`
	Mend   string       `json:"mend,omitempty"` // the statement or command that mends it
}

// Alert is a condition that is worth an operator's attention at any hour.
type Alert struct {
	When string `json:"when"` // in PromQL, over the metrics of the relay
	Why  string `json:"why"`
}

// Alerts are the alerts worth having, whatever Doctor finds.
var Alerts = []Alert{
	{"max(posthorn_active) < 1", "no relay holds the slot: nothing is delivered, and WAL piles up"},
	{"posthorn_slot_retained_bytes > 5e9", "Postgres keeps so much WAL for the slot that the disk may fill"},
	{"posthorn_oldest_unsettled_seconds > 60", "an event's outcome is not recorded: the slot stands still"},
	{"posthorn_ledger_unwritable == 1", "outcomes cannot be recorded: nothing is acknowledged, and soon nothing is sent"},
	{"posthorn_endpoint_failing == 1", "an endpoint fails; for 30m: its owner should know"},
	{"posthorn_pending > 10000", "deliveries pile up for an endpoint"},
	{`increase(posthorn_deliveries_total{state="failed"}[1h]) > 0`, "deliveries failed for good: look at them, retry them by hand"},
}

// Limits beyond which Doctor warns.
const (
	manyRetained = 1 << 30
	manyPending  = 10_000
	oldPending   = 24 * time.Hour
	cleanSlack   = time.Hour // rows may outlive source.retention by so much
	manyHeld     = 20        // endpoints that are named one by one
	doctorPause  = 10 * time.Second
)

// Doctor checks the databases and returns what it found, in the order in which
// things should be mended. It changes nothing.
func Doctor(ctx context.Context, cfg *config.Config) []Finding {
	d := &doctor{cfg: cfg}
	dbs, err := openDatabases(cfg)
	if err != nil {
		d.add("database", FindingFail, err.Error(), "mend database.url or ledger.url")
		return d.findings
	}
	defer dbs.close()
	d.databases = dbs
	d.led = ledger.New(dbs.ledger, cfg.Source.Slot, ledger.Bodies(cfg.Ledger.Bodies), slog.New(slog.DiscardHandler))
	for _, check := range []func(context.Context){
		d.reachable, d.server, d.privilege, d.table, d.publication, d.ledger, d.slot, d.endpoints, d.definitions, d.pending, d.cleaning,
	} {
		bounded, cancel := context.WithTimeout(ctx, doctorPause)
		check(bounded)
		cancel()
	}
	return d.findings
}

// doctor collects findings. What later checks need of earlier ones is here.
type doctor struct {
	cfg       *config.Config
	databases *databases
	led       *ledger.Ledger
	findings  []Finding

	sourceUp, ledgerUp bool
	facts              tail.Facts    // zero when they could not be read
	columns            *tail.Columns // nil when the table is not as it should be
}

func (d *doctor) add(name string, state FindingState, detail, mend string) {
	d.findings = append(d.findings, Finding{name, state, detail, mend})
}

// fail adds what err says, and what the server's answer hints at unless mend
// says more.
func (d *doctor) fail(name string, err error, mend string) {
	if hint := tail.Hint(err); hint != "" {
		mend = hint
	}
	d.add(name, FindingFail, err.Error(), mend)
}

// skip adds that name could not be checked.
func (d *doctor) skip(name, want string) { d.add(name, FindingSkipped, "needs "+want, "") }

func (d *doctor) reachable(ctx context.Context) {
	source, led := d.databases.source.Pool, d.databases.ledger
	if err := source.Ping(ctx); err != nil {
		d.fail("database", err, "start Postgres or mend database.url")
	} else {
		d.sourceUp = true
		d.add("database", FindingOK, "answers", "")
	}
	if d.ledgerUp = d.sourceUp; led == source {
		return
	}
	if err := led.Ping(ctx); err != nil {
		d.ledgerUp = false
		d.fail("ledger database", err, "start Postgres or mend ledger.url")
		return
	}
	d.ledgerUp = true
	d.add("ledger database", FindingOK, "answers", "")
}

func (d *doctor) server(ctx context.Context) {
	if !d.sourceUp {
		d.skip("server", "the database")
		return
	}
	f, err := d.databases.source.Facts(ctx)
	if err != nil {
		d.fail("server", err, "")
		return
	}
	d.facts = f
	switch {
	case f.Version < 14_00_00:
		d.add("version", FindingFail, "Postgres "+f.Release+" is too old", "upgrade to Postgres 14 or later")
	case f.Version >= 19_00_00:
		d.add("version", FindingWarn, "Postgres "+f.Release+" is newer than this release knows (14 to 18)", "upgrade Posthorn")
	default:
		d.add("version", FindingOK, "Postgres "+f.Release, "")
	}
	if f.WALLevel == "logical" {
		d.add("wal_level", FindingOK, "logical", "")
	} else {
		d.add("wal_level", FindingFail, f.WALLevel+"; it must be logical", "ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres")
	}
	if f.KeepSize == "-1" {
		d.add("max_slot_wal_keep_size", FindingWarn, "unlimited: while no relay runs, WAL piles up until the disk is full",
			"alert on posthorn_slot_retained_bytes; or ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; which loses the slot instead")
	} else {
		d.add("max_slot_wal_keep_size", FindingOK, f.KeepSize+"; a relay that is further behind loses its slot", "")
	}
}

func (d *doctor) privilege(ctx context.Context) {
	if d.facts.Role == "" {
		d.skip("replication privilege", "the database")
		return
	}
	if err := d.databases.source.CheckPrivilege(ctx); err != nil {
		d.fail("replication privilege", err, fmt.Sprintf("ALTER ROLE %s REPLICATION;", pgx.Identifier{d.facts.Role}.Sanitize()))
		return
	}
	d.add("replication privilege", FindingOK, "role "+d.facts.Role+" may replicate", "")
}

func (d *doctor) table(ctx context.Context) {
	if !d.sourceUp {
		d.skip("outbox", "the database")
		return
	}
	source := d.databases.source
	columns, err := source.Columns(ctx)
	if err != nil {
		mend := "posthorn init"
		if d.cfg.Source.Table != ownTable {
			mend = "mend the table, source.table or source.columns"
		}
		d.fail("outbox", err, mend)
		return
	}
	d.columns = &columns
	may, err := source.MayClean(ctx)
	switch {
	case err != nil:
		d.fail("outbox", err, "")
	case !may:
		d.add("outbox", FindingWarn, fmt.Sprintf("role %s may not select and delete in %s: old rows stay for ever", d.facts.Role, source.Table),
			fmt.Sprintf("GRANT SELECT, DELETE ON %s TO %s;", source.Table.SQL(), pgx.Identifier{d.facts.Role}.Sanitize()))
	default:
		d.add("outbox", FindingOK, source.Table.String()+" has the mapped columns", "")
	}
}

func (d *doctor) publication(ctx context.Context) {
	if !d.sourceUp {
		d.skip("publication", "the database")
		return
	}
	if err := d.databases.source.CheckPublication(ctx); err != nil {
		d.fail("publication", err, "posthorn init")
		return
	}
	d.add("publication", FindingOK, d.cfg.Source.Publication+" publishes the outbox's inserts", "")
}

func (d *doctor) ledger(ctx context.Context) {
	if !d.ledgerUp {
		d.skip("ledger", "its database")
		return
	}
	if err := ledger.CheckVersion(ctx, d.databases.ledger); err != nil {
		d.ledgerUp = false
		d.fail("ledger", err, "posthorn init")
		return
	}
	d.add("ledger", FindingOK, "its tables are of this release", "")
}

// slot looks at the slot through a replication connection, as the relay does.
func (d *doctor) slot(ctx context.Context) {
	if !d.sourceUp || !d.ledgerUp {
		d.skip("slot", "the database and the ledger")
		return
	}
	slot := d.cfg.Source.Slot
	conn, err := tail.Connect(ctx, d.cfg.Database.ReplicationURL.Reveal(), slot)
	switch {
	case errors.Is(err, tail.ErrSlotMissing):
		err := missingSlot(ctx, slot, d.led)
		d.outOfStep(err, "posthorn init")
		d.room()
		return
	case err != nil:
		d.fail("slot", err, "let pg_hba.conf admit the replication connection, or mend database.replication_url")
		d.room()
		return
	}
	conn.Close()
	place, err := d.led.Place(ctx)
	switch {
	case errors.Is(err, ledger.ErrUnknownSlot):
		d.add("slot", FindingFail, fmt.Sprintf("slot %s exists but the ledger does not know it", slot), "posthorn init")
		return
	case err != nil:
		d.fail("slot", err, "")
		return
	}
	if err := compare(slot, conn, place); err != nil {
		d.outOfStep(err, "")
		return
	}
	d.stream(ctx, place)
}

// outOfStep adds an error of slot and ledger, which may say what mends it.
func (d *doctor) outOfStep(err error, mend string) {
	var step *OutOfStepError
	if errors.As(err, &step) {
		d.add("slot", FindingFail, step.What, step.Mend)
		return
	}
	d.fail("slot", err, mend)
}

// room says whether a slot can be created and used.
func (d *doctor) room() {
	f := d.facts
	switch {
	case f.Role == "":
		d.skip("room for a slot", "the server's settings")
	case f.Slots >= f.MaxSlots:
		d.add("room for a slot", FindingFail, fmt.Sprintf("all %d slots are taken", f.MaxSlots),
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; and restart Postgres; or drop a slot that nobody uses", f.MaxSlots+5))
	case f.Senders >= f.MaxSenders:
		d.add("room for a slot", FindingFail, fmt.Sprintf("all %d WAL senders are taken", f.MaxSenders),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; and restart Postgres", f.MaxSenders+5))
	default:
		d.add("room for a slot", FindingOK, fmt.Sprintf("%d of %d slots and %d of %d WAL senders are taken", f.Slots, f.MaxSlots, f.Senders, f.MaxSenders), "")
	}
}

// stream says how far the slot is behind, and who reads it.
func (d *doctor) stream(ctx context.Context, place ledger.Place) {
	status, err := d.databases.source.SlotStatus(ctx)
	switch {
	case err != nil:
		d.fail("slot", err, "")
		return
	case status.Active:
		d.add("slot", FindingOK, fmt.Sprintf("%s is held by relay %s", d.cfg.Source.Slot, place.Holder), "")
	case d.facts.Senders >= d.facts.MaxSenders:
		d.add("slot", FindingFail, fmt.Sprintf("%s is held by nobody, and all %d WAL senders are taken", d.cfg.Source.Slot, d.facts.MaxSenders),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; and restart Postgres", d.facts.MaxSenders+5))
	default:
		d.add("slot", FindingWarn, d.cfg.Source.Slot+" is held by nobody: no relay runs", "posthorn run")
	}
	lag := fmt.Sprintf("%s of WAL are kept for the slot, %s of it not confirmed (%s)", formatBytes(status.Retained), formatBytes(status.Lag), status.WALStatus)
	switch {
	case status.WALStatus == "unreserved":
		d.add("lag", FindingWarn, lag+": Postgres removes it at the next checkpoint", "start the relay, or raise max_slot_wal_keep_size, at once")
	case status.Retained > manyRetained:
		d.add("lag", FindingWarn, lag, "start the relay, or see why it cannot keep up: posthorn_oldest_unsettled_seconds, posthorn_buffer_bytes")
	default:
		d.add("lag", FindingOK, lag, "")
	}
}

// endpoints names those that wait for somebody to resume them.
func (d *doctor) endpoints(ctx context.Context) {
	if !d.ledgerUp {
		d.skip("endpoints", "the ledger")
		return
	}
	list, err := d.led.Endpoints(ctx, "", false)
	if err != nil {
		d.fail("endpoints", err, "")
		return
	}
	held := 0
	for i := range list {
		e := &list[i]
		if !e.Held() {
			continue
		}
		if held++; held > manyHeld {
			continue
		}
		detail := fmt.Sprintf("%s is %s since %s by the %s", e.Name, e.State, e.Since.UTC().Format(time.RFC3339), e.By)
		if e.Reason != "" {
			detail += ": " + e.Reason
		}
		d.add("endpoints", FindingWarn, fmt.Sprintf("%s; %s deliveries wait", detail, e.Waiting()), ResumeCommand(e.Name))
	}
	switch {
	case held > manyHeld:
		d.add("endpoints", FindingWarn, fmt.Sprintf("%d more are paused or disabled", held-manyHeld), "posthorn endpoints")
	case held == 0:
		d.add("endpoints", FindingOK, "none waits to be resumed", "")
	}
}

func (d *doctor) pending(ctx context.Context) {
	if !d.ledgerUp {
		d.skip("pending deliveries", "the ledger")
		return
	}
	list, err := d.led.Waiting(ctx)
	if err != nil {
		d.fail("pending deliveries", err, "")
		return
	}
	warned := false
	for _, w := range list {
		if w.Rows > manyPending || w.Oldest > oldPending {
			warned = true
			d.add("pending deliveries", FindingWarn, fmt.Sprintf("endpoint %s: %d, the oldest for %s", w.Endpoint, w.Rows, w.Oldest.Round(time.Second)),
				"posthorn deliveries list --state pending --endpoint "+w.Endpoint)
		}
	}
	if !warned {
		d.add("pending deliveries", FindingOK, fmt.Sprintf("%d endpoints have some, none many or old ones", len(list)), "")
	}
}

// cleaning says whether rows outlive their retention.
func (d *doctor) cleaning(ctx context.Context) {
	switch {
	case d.columns == nil:
		d.skip("cleaning", "the outbox")
		return
	case d.columns.CreatedAt == "":
		d.skip("cleaning", "a created_at column: without one the relay deletes nothing")
		return
	}
	source := d.databases.source
	old, err := source.HoldsOlder(ctx, *d.columns, d.cfg.Source.Retention+cleanSlack)
	if err != nil {
		d.fail("cleaning", err, "")
		return
	}
	if old {
		d.add("cleaning", FindingWarn, fmt.Sprintf("%s has rows older than source.retention (%s)", source.Table, d.cfg.Source.Retention), "posthorn run, and see its log for \"housekeeping failed\"")
		return
	}
	d.add("cleaning", FindingOK, "no row is older than source.retention", "")
}

// formatBytes returns n in a unit in which it is easy to read.
func formatBytes(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
