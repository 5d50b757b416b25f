package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// MaxDefinitions bounds how many endpoints the API makes.
const MaxDefinitions = 10_000

// ErrChanged reports that an endpoint is not as it was when somebody who wants
// to change it read it.
var ErrChanged = errors.New("it was changed meanwhile: read it again")

// ErrNameTaken reports that another endpoint of the tenant has the name.
var ErrNameTaken = errors.New("another endpoint has that name")

// Redefinition is a change of what an endpoint is.
type Redefinition struct {
	ID     uuid.UUID
	New    bool // it is made by this
	Actor  Actor
	Action string // of the audit, such as endpoint.edit
	// Decide returns what becomes of the definition, which is nil for a new one.
	// Nobody else changes any definition meanwhile.
	Decide func(ctx context.Context, was *Definition) (*Redefined, error)

	// InStream is whether the ledger stands in the database that events come
	// from. The change is announced in its own transaction then, by a logical
	// message with the prefix Message; else Now is the position of that database.
	InStream bool
	Message  string
	Now      event.LSN
}

// Redefined is what becomes of a definition.
type Redefined struct {
	Name, Tenant string
	URL          string // without credentials
	Enabled      bool
	Anew         bool // it gets only events that commit from now on
	Deleted      bool
	Document     []byte // see Definition
	Sealed       []byte
	MaxOfTenant  int // how many of its tenant's there may be with a new one; 0 for as many as there may be at all

	Before, After json.RawMessage // what the audit shows; nil for nothing
}

// sqlLockDefinitions makes revisions commit in their order.
const sqlLockDefinitions = `SELECT pg_advisory_xact_lock(hashtext('posthorn.definitions'))`

const sqlDefinition = `SELECT ` + definitionColumns + ` FROM posthorn.definitions WHERE id = $1 AND NOT deleted`

// Redefine makes, changes or deletes a definition, and returns it as it stands
// then. It returns ErrUnknownEndpoint for one that is not there, ErrNameTaken,
// a *RefusedError where there are too many, or Decide's error.
func (l *Ledger) Redefine(ctx context.Context, r Redefinition) (*Definition, error) {
	var d Definition
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlTransaction); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlLockDefinitions); err != nil {
			return err
		}
		was, err := r.read(ctx, tx)
		if err != nil {
			return err
		}
		next, err := r.Decide(ctx, was)
		if err != nil {
			return err
		}
		if err := r.check(ctx, tx, next); err != nil {
			return err
		}
		d, err = r.write(ctx, tx, next)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("change endpoint %s: %w", r.ID, err)
	}
	return &d, nil
}

// read returns the definition as it stands; nil for a new one.
func (r *Redefinition) read(ctx context.Context, tx pgx.Tx) (*Definition, error) {
	if r.New {
		return nil, nil
	}
	d, err := scanDefinition(tx.QueryRow(ctx, sqlDefinition, r.ID))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrUnknownEndpoint
	}
	return &d, err
}

const sqlDefinitionsBeside = `SELECT count(*), count(*) FILTER (WHERE coalesce(tenant, '') = $2), count(*) FILTER (WHERE coalesce(tenant, '') = $2 AND name = $3)
FROM posthorn.definitions WHERE NOT deleted AND id <> $1`

// check returns why the definition cannot stand beside the others.
func (r *Redefinition) check(ctx context.Context, tx pgx.Tx, next *Redefined) error {
	if next.Deleted {
		return nil
	}
	var all, ofTenant, ofName int
	if err := tx.QueryRow(ctx, sqlDefinitionsBeside, r.ID, next.Tenant, next.Name).Scan(&all, &ofTenant, &ofName); err != nil {
		return err
	}
	switch {
	case ofName > 0:
		return ErrNameTaken
	case r.New && all >= MaxDefinitions:
		return Refused("there are %d endpoints that the API made, and no more can be: delete some", MaxDefinitions)
	case r.New && next.MaxOfTenant > 0 && ofTenant >= next.MaxOfTenant:
		return Refused("there are %d endpoints, and no more can be: delete some", next.MaxOfTenant)
	}
	return nil
}

const sqlDefine = `INSERT INTO posthorn.definitions AS d (id, revision, name, tenant, document, sealed, from_lsn, deleted, created_by, updated_by)
VALUES ($1, (SELECT coalesce(max(revision), 0) + 1 FROM posthorn.definitions), $2, $3, $4, $5,
  CASE WHEN $10::boolean THEN pg_current_wal_insert_lsn() ELSE $9::text::pg_lsn END, $6, $7, $7)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, name = excluded.name, tenant = excluded.tenant, document = excluded.document, sealed = excluded.sealed,
  from_lsn = CASE WHEN $8::boolean THEN excluded.from_lsn ELSE d.from_lsn END, deleted = excluded.deleted, updated_at = clock_timestamp(), updated_by = excluded.updated_by
RETURNING ` + definitionColumns

// The reasons of endpoints that the API made.
const (
	reasonOff     = "enabled is false"
	reasonDeleted = "deleted"
)

// sqlStand gives an endpoint that the API made the state that it has by its
// definition. What an operator or a relay paused or disabled stays so as long as
// the definition enables it. Failures at another address say nothing of the new
// one.
const sqlStand = `INSERT INTO posthorn.endpoints AS e (id, name, url, tenant, state, reason, state_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE SET name = excluded.name, url = excluded.url, tenant = excluded.tenant, updated_at = excluded.updated_at, (state, state_by, reason, state_at, failing, failures, failing_since) = (
  SELECT excluded.state, 'configuration', excluded.reason, CASE WHEN (e.state, e.state_by) = (excluded.state, 'configuration') THEN e.state_at ELSE excluded.state_at END, false, 0, NULL::timestamptz
    WHERE excluded.state <> 'enabled' OR e.state_by = 'configuration' AND e.state <> 'enabled'
  UNION ALL
  SELECT e.state, e.state_by, e.reason, e.state_at, e.failing AND e.url = excluded.url, CASE e.url WHEN excluded.url THEN e.failures ELSE 0 END,
    CASE e.url WHEN excluded.url THEN e.failing_since END
    WHERE NOT (excluded.state <> 'enabled' OR e.state_by = 'configuration' AND e.state <> 'enabled'))`

// write writes the definition, its endpoint and the audit, and announces the
// change.
func (r *Redefinition) write(ctx context.Context, tx pgx.Tx, next *Redefined) (d Definition, err error) {
	anew := next.Anew || r.New
	d, err = scanDefinition(tx.QueryRow(ctx, sqlDefine, r.ID, next.Name, orNull(next.Tenant), next.Document, next.Sealed, next.Deleted, r.Actor.Name,
		anew, r.Now.String(), anew && r.InStream))
	if err != nil {
		return d, err
	}
	state, reason := Enabled, ""
	switch {
	case next.Deleted:
		state, reason = Removed, reasonDeleted
	case !next.Enabled:
		state, reason = Disabled, reasonOff
	}
	if _, err = tx.Exec(ctx, sqlStand, r.ID, next.Name, next.URL, orNull(next.Tenant), string(state), orNull(reason)); err != nil {
		return d, err
	}
	entry := Entry{
		Action: r.Action, Subject: r.ID.String(), Tenant: next.Tenant, Detail: map[string]any{"name": next.Name, "revision": d.Revision},
	}
	if next.Before != nil {
		entry.Before = next.Before
	}
	if next.After != nil {
		entry.After = next.After
	}
	if err = r.Actor.record(ctx, tx, entry); err != nil || !r.InStream {
		return d, err
	}
	_, err = tx.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, $2)`, r.Message, strconv.FormatInt(d.Revision, 10))
	return d, err
}
