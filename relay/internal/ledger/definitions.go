package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Definition is an endpoint that the API made.
type Definition struct {
	ID       uuid.UUID
	Revision int64 // grows over all definitions with each change
	Name     string
	Tenant   string    // "" for none
	Document []byte    // JSON: the keys that were given, as in the configuration, secrets as "***"
	Sealed   []byte    // encrypted JSON object of the keys that hold secrets, whole; nil for none
	From     event.LSN // it gets events that committed at or after
	Deleted  bool      // then document and secrets are gone

	CreatedAt, UpdatedAt time.Time
	CreatedBy, UpdatedBy string // as the audit has them
}

const definitionColumns = `id, revision, name, coalesce(tenant, ''), document, sealed, from_lsn::text, deleted, created_at, created_by, updated_at, updated_by`

const sqlDefinitions = `SELECT ` + definitionColumns + ` FROM posthorn.definitions WHERE revision > $1 AND ($1 > 0 OR NOT deleted) ORDER BY revision`

// Definitions returns those with a revision above after, ascending; deleted
// ones only when after is above 0.
func (l *Ledger) Definitions(ctx context.Context, after int64) ([]Definition, error) {
	rows, err := l.pool.Query(ctx, sqlDefinitions, after)
	if err != nil {
		return nil, fmt.Errorf("read the endpoints' definitions: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Definition, error) { return scanDefinition(row) })
	if err != nil {
		return nil, fmt.Errorf("read the endpoints' definitions: %w", err)
	}
	return list, nil
}

func scanDefinition(row pgx.Row) (d Definition, err error) {
	err = row.Scan(&d.ID, &d.Revision, &d.Name, &d.Tenant, &d.Document, &d.Sealed, &d.From, &d.Deleted, &d.CreatedAt, &d.CreatedBy, &d.UpdatedAt, &d.UpdatedBy)
	return d, err
}

const sqlSealedKeys = `SELECT DISTINCT substring(sealed FOR $1) FROM posthorn.definitions WHERE sealed IS NOT NULL`

// SealedPrefixes returns the different first bytes, so many, of what is sealed.
func (l *Ledger) SealedPrefixes(ctx context.Context, bytes int) ([][]byte, error) {
	rows, err := l.pool.Query(ctx, sqlSealedKeys, bytes)
	if err != nil {
		return nil, fmt.Errorf("look with which keys secrets are encrypted: %w", err)
	}
	prefixes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("look with which keys secrets are encrypted: %w", err)
	}
	return prefixes, nil
}

const sqlReseal = `UPDATE posthorn.definitions d SET sealed = u.sealed
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS u(id, was, sealed) WHERE d.id = u.id AND d.sealed = u.was`

// Resealed is what one definition has sealed, and the same sealed anew.
type Resealed struct {
	ID          uuid.UUID
	Was, Sealed []byte
}

// Reseal puts what is sealed anew in the place of what was sealed, unless that
// has changed since. The definitions' revisions stay.
func (l *Ledger) Reseal(ctx context.Context, list []Resealed) error {
	ids, was, sealed := uuids{}, make([][]byte, len(list)), make([][]byte, len(list))
	for i, r := range list {
		ids, was[i], sealed[i] = ids.with(r.ID), r.Was, r.Sealed
	}
	if _, err := l.pool.Exec(ctx, sqlReseal, ids, was, sealed); err != nil {
		return fmt.Errorf("write secrets that were encrypted anew: %w", err)
	}
	return nil
}
