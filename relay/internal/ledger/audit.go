package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Actor is who does something, for the audit.
type Actor struct {
	Name   string // such as api:ops, cli:root@host or relay
	From   string // the network address that asked; "" for what was done on the spot
	Tenant string // whose things only it may touch; "" for all: others there are not for it
}

// Entry is what the audit has of something that was done. Nothing of it holds
// a secret.
type Entry struct {
	Action  string         // such as endpoint.pause
	Subject string         // the id of what it was done to; of a login the name
	Tenant  string         // whose that is; "" for nobody in particular
	Detail  map[string]any // nil for none
	Before  any            // as JSON, what was changed as it was; nil for nothing
	After   any            // and as it is
}

const sqlAudit = `INSERT INTO posthorn.audit (actor, source, action, subject, tenant, detail, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

func (a Actor) columns(e Entry) []any {
	var detail any
	if e.Detail != nil {
		detail = e.Detail
	}
	return []any{a.Name, orNull(a.From), e.Action, e.Subject, orNull(e.Tenant), detail, e.Before, e.After}
}

// record writes to the audit what the actor does in tx.
func (a Actor) record(ctx context.Context, tx pgx.Tx, e Entry) error {
	_, err := tx.Exec(ctx, sqlAudit, a.columns(e)...)
	return err
}

// queue is record, as part of a batch.
func (a Actor) queue(b *pgx.Batch, e Entry) { b.Queue(sqlAudit, a.columns(e)...) }

// Note writes to the audit what an actor does that nothing else stands of in
// the ledger.
func (l *Ledger) Note(ctx context.Context, actor Actor, e Entry) error {
	if _, err := l.pool.Exec(ctx, sqlAudit, actor.columns(e)...); err != nil {
		return fmt.Errorf("write the audit: %w", err)
	}
	return nil
}

// AuditFilter says which entries Audit returns. A zero field matches all.
type AuditFilter struct {
	Actor, Action, Subject string
	Tenant                 string
	From, Until            time.Time // at or after the one, before the other
	Before                 int64     // those that a list has after the entry of this id
	Limit                  int       // at most so many, the newest first
}

// AuditEntry is an entry of the audit.
type AuditEntry struct {
	ID      int64           `json:"id"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"`
	From    string          `json:"from,omitempty"` // network address; "" for what was done on the spot
	Action  string          `json:"action"`
	Subject string          `json:"subject"`
	Tenant  string          `json:"tenant,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
}

const sqlAuditList = `SELECT id, at, actor, coalesce(source, ''), action, subject, coalesce(tenant, ''), detail, before, after FROM posthorn.audit`

// sql returns the statement for what f asks, and nothing else: so that each
// filter has its index.
func (f *AuditFilter) sql() (statement string, args []any) {
	statement = sqlAuditList
	and := " WHERE "
	where := func(given bool, condition string, arg any) {
		if given {
			args = append(args, arg)
			statement += and + fmt.Sprintf(condition, len(args))
			and = " AND "
		}
	}
	where(f.Actor != "", "actor = $%d", f.Actor)
	where(f.Action != "", "action = $%d", f.Action)
	where(f.Subject != "", "subject = $%d", f.Subject)
	where(f.Tenant != "", "tenant = $%d", f.Tenant)
	where(!f.From.IsZero(), "at >= $%d", f.From)
	where(!f.Until.IsZero(), "at < $%d", f.Until)
	where(f.Before != 0, "id < $%d", f.Before)
	args = append(args, f.Limit)
	return statement + fmt.Sprintf(" ORDER BY id DESC LIMIT $%d", len(args)), args
}

// Audit returns the entries that match f, the newest first.
func (l *Ledger) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	statement, args := f.sql()
	rows, err := l.pool.Query(ctx, statement, args...)
	if err != nil {
		return nil, fmt.Errorf("list the audit: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e AuditEntry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Actor, &e.From, &e.Action, &e.Subject, &e.Tenant, &e.Detail, &e.Before, &e.After)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the audit: %w", err)
	}
	return list, nil
}
