package ledger

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Actor is who does something, for the audit.
type Actor struct {
	Name   string // such as api:ops, cli:root@host or relay
	From   string // the network address that asked; "" for what was done on the spot
	Tenant string // whose things only it may touch; "" for all: others there are not for it
}

const sqlAudit = `INSERT INTO posthorn.audit (actor, action, subject, detail) VALUES ($1, $2, $3, $4)`

// record writes to the audit what the actor does in tx.
func (a Actor) record(ctx context.Context, tx pgx.Tx, action, subject string, detail map[string]any) error {
	_, err := tx.Exec(ctx, sqlAudit, a.Name, action, subject, detail)
	return err
}

// queue is record, as part of a batch.
func (a Actor) queue(b *pgx.Batch, action, subject string, detail map[string]any) {
	b.Queue(sqlAudit, a.Name, action, subject, detail)
}
