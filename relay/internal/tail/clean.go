package tail

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// The bounds of one cleaning round and of one delete.
const (
	cleanRound = 10_000
	cleanBatch = 500
)

// Cleaner deletes old rows from the outbox, once everything that committed
// before them is flushed. Use it from one goroutine.
type Cleaner struct {
	Source    *Source
	Columns   Columns
	Retention time.Duration

	picked []string  // ids, as text
	idType string    // the id column's type, for SQL
	safe   event.LSN // WAL position after which they may go
}

// Clean does what can be done of a round: it picks rows, or deletes those it
// picked once flushed has passed the position that was current after they
// were. It returns how many rows it deleted, and whether there is more to do
// at once. A table without created_at is never cleaned.
func (c *Cleaner) Clean(ctx context.Context, flushed event.LSN) (deleted int64, more bool, err error) {
	if c.Columns.CreatedAt == "" {
		return 0, false, nil
	}
	if len(c.picked) == 0 {
		if err := c.pick(ctx); err != nil || len(c.picked) == 0 {
			return 0, false, err
		}
	}
	if flushed < c.safe {
		return 0, false, nil
	}
	full := len(c.picked) == cleanRound
	for len(c.picked) > 0 {
		n := min(cleanBatch, len(c.picked))
		sql := fmt.Sprintf(`DELETE FROM %s WHERE %s = ANY($1::text[]::%s[])`, c.Source.Table.SQL(), pgx.Identifier{c.Columns.ID}.Sanitize(), c.idType)
		tag, err := c.Source.Pool.Exec(ctx, sql, c.picked[:n])
		if err != nil {
			return deleted, false, fmt.Errorf("clean outbox: %w", err)
		}
		deleted += tag.RowsAffected()
		c.picked = c.picked[n:]
	}
	return deleted, full, nil
}

// pick reads the ids of old rows, then the WAL position: all of them were
// committed before it.
func (c *Cleaner) pick(ctx context.Context) error {
	created := pgx.Identifier{c.Columns.CreatedAt}.Sanitize()
	id := pgx.Identifier{c.Columns.ID}.Sanitize()
	sql := fmt.Sprintf(`SELECT %s::text, pg_typeof(%s)::text FROM %s WHERE %s < now() - $1 * interval '1 microsecond' LIMIT %d`,
		id, id, c.Source.Table.SQL(), created, cleanRound)
	rows, err := c.Source.Pool.Query(ctx, sql, c.Retention.Microseconds())
	if err == nil {
		var text string
		_, err = pgx.ForEachRow(rows, []any{&text, &c.idType}, func() error {
			c.picked = append(c.picked, text)
			return nil
		})
	}
	if err == nil {
		err = c.Source.Pool.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&c.safe)
	}
	if c.idType == "character" { // which is of one character where it is cast to
		c.idType = "bpchar"
	}
	if err != nil {
		c.picked = nil
		return fmt.Errorf("pick old outbox rows: %w", err)
	}
	return nil
}
