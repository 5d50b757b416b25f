package tail

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Table names the outbox.
type Table struct{ Schema, Name string }

// ParseTable reads "schema.table" or "table", which is in the schema public.
func ParseTable(s string) Table {
	if schema, name, ok := strings.Cut(s, "."); ok {
		return Table{schema, name}
	}
	return Table{"public", s}
}

func (t Table) String() string { return t.Schema + "." + t.Name }

// SQL returns the table's name for SQL.
func (t Table) SQL() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Source is the outbox side of a database, through ordinary connections.
type Source struct {
	Pool        *pgxpool.Pool
	Table       Table
	Publication string
	Slot        string
	// Mapped are the columns that the configuration maps, by logical name. One
	// that it does not name stands for itself, if the table has it.
	Mapped map[string]string
}

const sqlColumns = `SELECT a.attname FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`

// Columns finds the outbox's columns in the table, or returns an error that
// names those missing.
func (s *Source) Columns(ctx context.Context) (Columns, error) {
	rows, err := s.Pool.Query(ctx, sqlColumns, s.Table.SQL())
	if err != nil {
		return Columns{}, fmt.Errorf("read columns of %s: %w", s.Table, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return Columns{}, fmt.Errorf("read columns of %s: %w", s.Table, err)
	}
	if len(names) == 0 {
		return Columns{}, fmt.Errorf("table %s does not exist: run posthorn init, or mend source.table", s.Table)
	}
	has := make(map[string]bool, len(names))
	for _, name := range names {
		has[name] = true
	}
	var missing []string
	find := func(logical string, required bool) string {
		name, mapped := s.Mapped[logical]
		if !mapped {
			name = logical
		}
		switch {
		case has[name]:
			return name
		case required || mapped && name != "":
			missing = append(missing, fmt.Sprintf("%s (for %s)", name, logical))
		}
		return ""
	}
	c := Columns{
		ID: find("id", true), Type: find("type", true), Payload: find("payload", true),
		Tenant: find("tenant", false), Key: find("key", false), Headers: find("headers", false), CreatedAt: find("created_at", false),
	}
	if len(missing) > 0 {
		return c, fmt.Errorf("table %s has no column %s: mend the table or source.columns", s.Table, strings.Join(missing, ", "))
	}
	return c, nil
}

const sqlPublished = `SELECT p.pubinsert, EXISTS (SELECT FROM pg_publication_tables t WHERE t.pubname = p.pubname AND t.schemaname = $2 AND t.tablename = $3)
FROM pg_publication p WHERE p.pubname = $1`

// CheckPublication returns an error unless the publication exists and
// publishes the table's inserts.
func (s *Source) CheckPublication(ctx context.Context) error {
	var inserts, holds bool
	err := s.Pool.QueryRow(ctx, sqlPublished, s.Publication, s.Table.Schema, s.Table.Name).Scan(&inserts, &holds)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("publication %s does not exist: run posthorn init", s.Publication)
	case err != nil:
		return fmt.Errorf("read publication %s: %w", s.Publication, err)
	case !inserts || !holds:
		return fmt.Errorf("publication %s does not publish the inserts of %s: run posthorn init", s.Publication, s.Table)
	}
	return nil
}

// CheckLogical returns an error unless the server decodes its WAL.
func (s *Source) CheckLogical(ctx context.Context) error {
	var level string
	if err := s.Pool.QueryRow(ctx, `SHOW wal_level`).Scan(&level); err != nil {
		return fmt.Errorf("read wal_level: %w", err)
	}
	if level != "logical" {
		return fmt.Errorf("wal_level is %s and must be logical: run ALTER SYSTEM SET wal_level = 'logical' and restart Postgres", level)
	}
	return nil
}

const sqlMayReplicate = `SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(current_user, g.oid, 'usage'))
FROM pg_roles WHERE rolname = current_user`

// CheckPrivilege returns an error unless the role may replicate.
func (s *Source) CheckPrivilege(ctx context.Context) error {
	var may bool
	var role string
	if err := s.Pool.QueryRow(ctx, `SELECT current_user`).Scan(&role); err != nil {
		return fmt.Errorf("read role: %w", err)
	}
	if err := s.Pool.QueryRow(ctx, sqlMayReplicate).Scan(&may); err != nil {
		return fmt.Errorf("read privileges of role %s: %w", role, err)
	}
	if !may {
		return fmt.Errorf("role %s may not replicate: run ALTER ROLE %s REPLICATION as a superuser", role, pgx.Identifier{role}.Sanitize())
	}
	return nil
}

// SlotStatus is how the slot stands.
type SlotStatus struct {
	Exists    bool
	Active    bool
	Lag       int64  // bytes of WAL that are not confirmed
	Retained  int64  // bytes of WAL that the server keeps for the slot
	WALStatus string // reserved, extended, unreserved or lost
	Safe      *int64 // bytes of WAL that can still be written before the server removes some that the slot needs; nil for no limit
}

const sqlSlotStatus = `SELECT active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint,
  coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, coalesce(wal_status, ''), safe_wal_size
FROM pg_replication_slots WHERE slot_name = $1`

// SlotStatus returns how the slot stands; Exists is false when there is none.
func (s *Source) SlotStatus(ctx context.Context) (SlotStatus, error) {
	st := SlotStatus{Exists: true}
	err := s.Pool.QueryRow(ctx, sqlSlotStatus, s.Slot).Scan(&st.Active, &st.Lag, &st.Retained, &st.WALStatus, &st.Safe)
	if errors.Is(err, pgx.ErrNoRows) {
		return SlotStatus{}, nil
	}
	if err != nil {
		return st, fmt.Errorf("read slot %s: %w", s.Slot, err)
	}
	return st, nil
}

// EmitHeartbeat writes the logical message that the reader recognises.
func (s *Source) EmitHeartbeat(ctx context.Context) error {
	if _, err := s.Pool.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, '')`, Heartbeat); err != nil {
		return fmt.Errorf("emit heartbeat: %w", err)
	}
	return nil
}

// AnnounceEndpoints writes the logical message that says that somebody changed
// endpoints, which are of that revision now.
func (s *Source) AnnounceEndpoints(ctx context.Context, revision int64) error {
	if _, err := s.Pool.Exec(ctx, `SELECT pg_logical_emit_message(true, $1, $2)`, EndpointsChanged, strconv.FormatInt(revision, 10)); err != nil {
		return fmt.Errorf("announce that endpoints changed: %w", err)
	}
	return nil
}

// Position returns where the server writes its log at present: what commits
// from now on commits at or after it.
func (s *Source) Position(ctx context.Context) (at event.LSN, err error) {
	if err = s.Pool.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&at); err != nil {
		return 0, fmt.Errorf("read the server's position: %w", err)
	}
	return at, nil
}
