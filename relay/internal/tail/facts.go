package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Facts is what the server says of itself.
type Facts struct {
	Role                string // who we are
	Version             int    // such as 150004
	Release             string // such as 15.4
	WALLevel            string
	KeepSize            string // max_slot_wal_keep_size; "-1" is no limit
	Slots, MaxSlots     int
	Senders, MaxSenders int
}

const sqlFacts = `SELECT current_user, current_setting('server_version_num')::int, current_setting('server_version'), current_setting('wal_level'),
  current_setting('max_slot_wal_keep_size'), (SELECT count(*) FROM pg_replication_slots), current_setting('max_replication_slots')::int,
  (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::int`

// Facts returns what the server says of itself.
func (s *Source) Facts(ctx context.Context) (Facts, error) {
	var f Facts
	err := s.Pool.QueryRow(ctx, sqlFacts).Scan(&f.Role, &f.Version, &f.Release, &f.WALLevel,
		&f.KeepSize, &f.Slots, &f.MaxSlots, &f.Senders, &f.MaxSenders)
	if err != nil {
		return Facts{}, fmt.Errorf("read the server's settings: %w", err)
	}
	return f, nil
}

const sqlMayClean = `SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'DELETE')`

// MayClean reports whether our role may do to the outbox what a Cleaner does.
func (s *Source) MayClean(ctx context.Context) (bool, error) {
	var may bool
	if err := s.Pool.QueryRow(ctx, sqlMayClean, s.Table.SQL()).Scan(&may); err != nil {
		return false, fmt.Errorf("read privileges on %s: %w", s.Table, err)
	}
	return may, nil
}

const sqlHoldsOlder = `SELECT EXISTS (SELECT FROM %s WHERE %s < now() - $1 * interval '1 microsecond')`

// HoldsOlder reports whether the outbox holds a row older than age. The table
// must have a created_at.
func (s *Source) HoldsOlder(ctx context.Context, c Columns, age time.Duration) (bool, error) {
	var older bool
	sql := fmt.Sprintf(sqlHoldsOlder, s.Table.SQL(), pgx.Identifier{c.CreatedAt}.Sanitize())
	if err := s.Pool.QueryRow(ctx, sql, age.Microseconds()).Scan(&older); err != nil {
		return false, fmt.Errorf("look for old rows in %s: %w", s.Table, err)
	}
	return older, nil
}

// ErrRowMissing reports that the outbox has no row of that id.
var ErrRowMissing = errors.New("no such row in the outbox")

// Row is what an outbox row says beside its identity.
type Row struct {
	Payload   []byte
	Headers   []byte    // nil for none
	CreatedAt time.Time // zero for none
}

// sqlRow finds a row by its uuid: of an id that is no uuid the ledger knows
// only a hash.
const sqlRow = `SELECT %s::text, %s::text, %s::timestamptz FROM %s WHERE %s = $1`

// Row reads a row of the outbox, or returns ErrRowMissing.
func (s *Source) Row(ctx context.Context, id uuid.UUID) (Row, error) {
	columns, err := s.Columns(ctx)
	if err != nil {
		return Row{}, err
	}
	quote := func(column string) string {
		if column == "" {
			return "NULL"
		}
		return pgx.Identifier{column}.Sanitize()
	}
	sql := fmt.Sprintf(sqlRow, quote(columns.Payload), quote(columns.Headers), quote(columns.CreatedAt), s.Table.SQL(), quote(columns.ID))
	var payload string
	var headers *string
	var at *time.Time
	err = s.Pool.QueryRow(ctx, sql, id).Scan(&payload, &headers, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return Row{}, ErrRowMissing
	}
	if err != nil {
		return Row{}, fmt.Errorf("read a row of %s: %w", s.Table, err)
	}
	row := Row{Payload: []byte(payload)}
	if headers != nil {
		row.Headers = []byte(*headers)
	}
	if at != nil {
		row.CreatedAt = *at
	}
	return row, nil
}
