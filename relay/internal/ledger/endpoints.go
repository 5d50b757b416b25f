package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Endpoint is what the ledger knows of an endpoint.
type Endpoint struct {
	ID      uuid.UUID
	Name    string
	URL     string // without credentials
	Tenant  string
	Enabled bool
}

// EndpointState says what happens to the events that an endpoint wants.
type EndpointState string

// The states of an endpoint.
const (
	Enabled  EndpointState = "enabled"
	Paused   EndpointState = "paused"   // they are parked
	Disabled EndpointState = "disabled" // they are not matched
	Removed  EndpointState = "removed"  // it is no longer in the configuration
)

// Who set an endpoint's state, as it stands in the ledger.
const (
	byConfiguration = "configuration"
	byOperator      = "operator"
	byRelay         = "relay"
)

// Standing is what the ledger remembers of an endpoint between relays.
type Standing struct {
	State      EndpointState
	Failures   int           // failed attempts in a row
	FailingFor time.Duration // since the first of them; 0 without
	At         time.Time     // of the newest Change that it knows of
}

// sqlEndpoints leaves the states of endpoints that exist alone. Rows that would
// stay the same it only locks, to wait for whoever is at one, such as an
// operator. Failures at another address say nothing of the new one.
const sqlEndpoints = `INSERT INTO posthorn.endpoints AS e (id, name, url, tenant, state, reason)
SELECT id, name, url, tenant, state, CASE state WHEN 'disabled' THEN '` + reasonDisabled + `' END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u(id, name, url, tenant, state)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, tenant = excluded.tenant, failing = false,
  failures = CASE e.url WHEN excluded.url THEN e.failures ELSE 0 END,
  failing_since = CASE e.url WHEN excluded.url THEN e.failing_since END
WHERE e.failing OR (e.name, e.url, e.tenant) IS DISTINCT FROM (excluded.name, excluded.url, excluded.tenant)`

const (
	reasonDisabled = "enabled is false in the configuration"
	reasonRemoved  = "no longer in the configuration"
)

// sqlConfigured gives each endpoint the state of the configuration, unless an
// operator or a relay paused or disabled what is enabled there. Those that the
// API made have the state that it gave them.
const sqlConfigured = `WITH wanted AS (
  SELECT e.id, e.state AS was, e.state_by AS was_by, e.reason AS was_reason, coalesce(c.state, 'removed') AS state
  FROM posthorn.endpoints e LEFT JOIN unnest($1::uuid[], $2::text[]) AS c(id, state) ON c.id = e.id
  WHERE (c.id IS NOT NULL OR NOT EXISTS (SELECT FROM posthorn.definitions d WHERE d.id = e.id AND NOT d.deleted))
    AND (c.state IS DISTINCT FROM 'enabled' OR e.state_by = 'configuration')
    AND (e.state <> coalesce(c.state, 'removed') OR e.state_by <> 'configuration')
  FOR UPDATE OF e
), turned AS (
  UPDATE posthorn.endpoints e SET state = w.state, state_by = 'configuration', state_at = now(), failing = false, failures = 0, failing_since = NULL,
    reason = CASE w.state WHEN 'disabled' THEN '` + reasonDisabled + `' WHEN 'removed' THEN '` + reasonRemoved + `' END
  FROM wanted w WHERE e.id = w.id RETURNING e.id, e.name, e.tenant, w.was, w.was_by, w.was_reason, e.state, e.reason
)
INSERT INTO posthorn.audit (actor, action, subject, tenant, detail, before, after)
SELECT 'configuration', CASE state WHEN 'enabled' THEN 'endpoint.enable' WHEN 'disabled' THEN 'endpoint.disable' ELSE 'endpoint.remove' END,
  id::text, tenant, json_build_object('name', name, 'reason', reason, 'was', was),
  json_strip_nulls(json_build_object('state', was, 'state_by', was_by, 'reason', was_reason)),
  json_strip_nulls(json_build_object('state', state, 'state_by', 'configuration', 'reason', reason))
FROM turned`

const sqlStandings = `SELECT id, state, failures, coalesce((extract(epoch FROM clock_timestamp() - failing_since) * 1000000)::bigint, 0), updated_at
FROM posthorn.endpoints JOIN unnest($1::uuid[]) AS wanted(id) USING (id)`

// sqlWell forgets that endpoints which the API made are failing: the running relay
// finds out. A relay of a release that does not know them may have had the slot,
// and taken them for removed.
const sqlWell = `UPDATE posthorn.endpoints e SET failing = false,
  state = CASE WHEN e.state <> 'removed' THEN e.state WHEN d.document->>'enabled' = 'false' THEN 'disabled' ELSE 'enabled' END,
  reason = CASE WHEN e.state <> 'removed' THEN e.reason WHEN d.document->>'enabled' = 'false' THEN '` + reasonOff + `' END
FROM posthorn.definitions d WHERE (e.failing OR e.state = 'removed') AND d.id = e.id AND NOT d.deleted`

// SyncEndpoints makes the ledger's endpoints those of the configuration, beside
// those that the API made, and returns how each of the configuration stands. What an operator or a relay paused or
// disabled stays so as long as the configuration enables it; one that the
// configuration disables or lacks forgets that. It returns ErrFenced when
// another relay took over.
func (l *Ledger) SyncEndpoints(ctx context.Context, endpoints []Endpoint) (map[uuid.UUID]Standing, error) {
	ids, names, urls, states := uuids{}, []string{}, []string{}, []string{}
	var tenants []*string
	for _, e := range endpoints {
		ids, names = ids.with(e.ID), append(names, e.Name)
		urls, tenants = append(urls, e.URL), append(tenants, orNull(e.Tenant))
		states = append(states, string(e.configured()))
	}
	standings := make(map[uuid.UUID]Standing, len(endpoints))
	err := l.fenced(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlEndpoints, ids, names, urls, tenants, states); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlConfigured, ids, states); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlWell); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sqlStandings, ids)
		if err != nil {
			return err
		}
		return readStandings(rows, standings)
	})
	if err != nil {
		return nil, fmt.Errorf("record endpoints: %w", err)
	}
	return standings, nil
}

// Standings returns how endpoints stand; of one that the ledger does not know
// nothing.
func (l *Ledger) Standings(ctx context.Context, endpoints []uuid.UUID) (map[uuid.UUID]Standing, error) {
	ids, standings := uuids{}, make(map[uuid.UUID]Standing, len(endpoints))
	for _, id := range endpoints {
		ids = ids.with(id)
	}
	rows, err := l.pool.Query(ctx, sqlStandings, ids)
	if err == nil {
		err = readStandings(rows, standings)
	}
	if err != nil {
		return nil, fmt.Errorf("read how endpoints stand: %w", err)
	}
	return standings, nil
}

func readStandings(rows pgx.Rows, standings map[uuid.UUID]Standing) error {
	var id pgtype.UUID
	var s Standing
	var us int64
	_, err := pgx.ForEachRow(rows, []any{&id, &s.State, &s.Failures, &us, &s.At}, func() error {
		s.FailingFor = max(0, time.Duration(us)*time.Microsecond)
		standings[id.Bytes] = s
		return nil
	})
	return err
}

// configured returns the state that the configuration gives the endpoint.
func (e *Endpoint) configured() EndpointState {
	if e.Enabled {
		return Enabled
	}
	return Disabled
}

// reason returns why the configuration gives it that state, "" for none.
func (e *Endpoint) reason() string {
	if e.Enabled {
		return ""
	}
	return reasonDisabled
}

// fenced calls do in a transaction that begins by proving that this relay
// still holds its slot, or returns ErrFenced. No other relay can take over,
// and nothing is written, before the transaction ends.
func (l *Ledger) fenced(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlTransaction); err != nil {
			return err
		}
		epoch, err := l.lockSlot(ctx, tx)
		if err == nil && epoch != l.epoch.Load() {
			err = ErrFenced
		}
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// Revision returns the newest revision of what the API made, 0 when it made
// nothing yet.
func (l *Ledger) Revision(ctx context.Context) (revision int64, err error) {
	if err = l.pool.QueryRow(ctx, `SELECT coalesce(max(revision), 0) FROM posthorn.definitions`).Scan(&revision); err != nil {
		return 0, fmt.Errorf("read whether endpoints changed: %w", err)
	}
	return revision, nil
}

// Hold pauses or disables an endpoint for the relay itself, over whatever an
// operator did before but disabling it. The same once more does nothing. It returns
// ErrFenced, and changes nothing, when another relay took over, and
// ErrUnknownEndpoint for one that SyncEndpoints did not name.
func (l *Ledger) Hold(ctx context.Context, endpoint uuid.UUID, state EndpointState, reason string) error {
	err := l.fenced(ctx, func(tx pgx.Tx) error {
		e, err := lockEndpoint(ctx, tx, endpoint.String(), "")
		same := err == nil && e.State == state && e.By == byRelay && e.Reason == clean(reason, reasonLimit)
		if err != nil || same || e.State == Disabled && e.By == byConfiguration {
			return err
		}
		return e.turn(ctx, tx, turn{to: state, by: byRelay, reason: reason, actor: Actor{Name: byRelay}})
	})
	if err != nil {
		return fmt.Errorf("record endpoint %s as %s: %w", endpoint, state, err)
	}
	return nil
}

const sqlOrphans = `SELECT ` + claimColumns + `, p.endpoint_id FROM posthorn.pending p LEFT JOIN posthorn.payloads c ON c.event_id = p.event_id
WHERE p.id IN (SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before
  FROM (SELECT id, bytes FROM posthorn.pending o WHERE NOT EXISTS (SELECT FROM unnest($1::uuid[]) AS kept(id) WHERE kept.id = o.endpoint_id)
      AND NOT EXISTS (SELECT FROM posthorn.definitions d WHERE d.id = o.endpoint_id AND NOT d.deleted)
    ORDER BY id LIMIT 500) o) b WHERE before < 8388608)`

// FailOrphans ends the pending deliveries of endpoints other than those in
// keep and those that the API made, as failed, and returns how many there were.
func (l *Ledger) FailOrphans(ctx context.Context, keep []uuid.UUID) (int, error) {
	kept := uuids{}
	for _, id := range keep {
		kept = kept.with(id)
	}
	total := 0
	for {
		rows, err := l.pool.Query(ctx, sqlOrphans, kept)
		if err != nil {
			return total, fmt.Errorf("find deliveries of removed endpoints: %w", err)
		}
		batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Record, error) {
			r := &Record{State: Failed, Stored: true, Error: "endpoint removed"}
			d, _, err := scanClaimed(row, &r.Endpoint)
			r.ID, r.Event, r.Attempts, r.Request = d.ID, d.Event, d.Attempts, d.Request
			return r, err
		})
		if err != nil {
			return total, fmt.Errorf("find deliveries of removed endpoints: %w", err)
		}
		if len(batch) == 0 {
			return total, nil
		}
		if err := l.write(ctx, batch, l.Flushed()); err != nil {
			return total, err
		}
		total += len(batch)
	}
}

// Health is how an endpoint does.
type Health struct {
	State      EndpointState // that it had: if somebody changed it, this is out of date
	Failing    bool          // its first attempts are parked
	Failures   int           // failed attempts in a row
	FailingFor time.Duration // since the first of them; without one it counts for nothing
}

const sqlHealth = `UPDATE posthorn.endpoints SET failing = $2, failures = $3,
  failing_since = CASE WHEN $3 > 0 THEN clock_timestamp() - $4::bigint * interval '1 microsecond' END
WHERE id = $1 AND state = $7 AND EXISTS (SELECT FROM posthorn.relay WHERE slot = $5 AND epoch = $6)`

// SetHealth records how an endpoint does, for people and for the next relay:
// the running one keeps it itself. It does nothing when another took over, or
// when the endpoint is in another state: a resume forgets the failures.
func (l *Ledger) SetHealth(ctx context.Context, endpoint uuid.UUID, h Health) error {
	if _, err := l.pool.Exec(ctx, sqlHealth, endpoint, h.Failing, h.Failures, microseconds(h.FailingFor), l.slot, l.epoch.Load(), string(h.State)); err != nil {
		return fmt.Errorf("record the health of endpoint %s: %w", endpoint, err)
	}
	return nil
}

// Change is what somebody did to an endpoint.
type Change struct {
	At     time.Time // differs from one change of an endpoint to the next
	State  EndpointState
	Reason string // "" when there is none
}

// sqlChanged looks back a little: transactions do not commit in the order of
// their clocks, and the clock of a server that takes over may be behind.
const sqlChanged = `SELECT id, updated_at, state, coalesce(reason, '') FROM posthorn.endpoints
WHERE updated_at > least($1::timestamptz, now()) - interval '10 seconds'`

// Changed returns the endpoints that somebody touched after since, or shortly
// before: paused, resumed, disabled, or gave something to do, such as a retry.
func (l *Ledger) Changed(ctx context.Context, since time.Time) (map[uuid.UUID]Change, error) {
	rows, err := l.pool.Query(ctx, sqlChanged, since)
	if err != nil {
		return nil, fmt.Errorf("look for changed endpoints: %w", err)
	}
	changed := make(map[uuid.UUID]Change)
	var id uuid.UUID
	var c Change
	if _, err = pgx.ForEachRow(rows, []any{&id, &c.At, &c.State, &c.Reason}, func() error {
		changed[id] = c
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for changed endpoints: %w", err)
	}
	return changed, nil
}

const sqlPendingOf = `SELECT count(*), (extract(epoch FROM min(due_at) FILTER (WHERE state = 'pending' AND due_at < 'infinity') - now()) * 1000000)::bigint
FROM posthorn.pending WHERE endpoint_id = $1`

const sqlSomePendingOf = `SELECT (SELECT count(*) FROM (SELECT FROM posthorn.pending WHERE endpoint_id = $1 LIMIT $2) AS few),
  (SELECT (extract(epoch FROM due_at - now()) * 1000000)::bigint FROM posthorn.pending
    WHERE endpoint_id = $1 AND state = 'pending' AND due_at < 'infinity' ORDER BY due_at LIMIT 1)`

// somePending is how far BacklogOfSome counts.
const somePending = 1000

// BacklogOfSome is BacklogOf for who cannot wait: it counts a thousand.
func (l *Ledger) BacklogOfSome(ctx context.Context, endpoint uuid.UUID) (Backlog, error) {
	var b Backlog
	var next *int64
	if err := l.pool.QueryRow(ctx, sqlSomePendingOf, endpoint, somePending).Scan(&b.Rows, &next); err != nil {
		return b, fmt.Errorf("count pending deliveries of endpoint %s: %w", endpoint, err)
	}
	b.NextDue = untilDue(next)
	return b, nil
}

// BacklogOf counts what is pending for one endpoint.
func (l *Ledger) BacklogOf(ctx context.Context, endpoint uuid.UUID) (Backlog, error) {
	var b Backlog
	var next *int64
	if err := l.pool.QueryRow(ctx, sqlPendingOf, endpoint).Scan(&b.Rows, &next); err != nil {
		return b, fmt.Errorf("count pending deliveries of endpoint %s: %w", endpoint, err)
	}
	b.NextDue = untilDue(next)
	return b, nil
}
