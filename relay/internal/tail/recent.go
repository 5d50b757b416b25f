package tail

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Event reads the outbox row of this id, as text, and returns the event that
// the stream would bring. A row does not say when it was committed: its
// created_at stands for that, now if it has none. Without such a row, and for
// an id that the column cannot hold, it returns ErrRowMissing.
func (s *Source) Event(ctx context.Context, id string) (*event.Event, error) {
	r, err := s.newRowReader(ctx)
	if err != nil {
		return nil, err
	}
	var found *event.Event
	err = r.each(ctx, []string{id}, func(_ int, e *event.Event) bool {
		found = e
		return false
	})
	switch state := sqlState(err); {
	case state == "22P02" || state == "22003": // no text of the column's type, or out of its range
		return nil, ErrRowMissing
	case err != nil:
		return nil, err
	case found == nil:
		return nil, ErrRowMissing
	}
	return found, nil
}

// The bounds of a page of Recent, and of the ids that it remembers.
const (
	recentRows  = 256
	recentBytes = 4 << 20 // may be exceeded by the last row
	recentIDs   = 64 << 20
)

// Recent goes through the outbox rows of some time. Use Source.Recent, then
// Next, from one goroutine.
type Recent struct {
	Total int  // how many rows there are to go through
	More  bool // there are more rows of the time asked for, beyond the limit

	rows *rowReader
	ids  []string // of the rows that were not read yet
	page int      // how many of them are asked for next
}

const sqlRecent = `SELECT %s::text FROM %s WHERE %s >= now() - $1 * interval '1 microsecond' ORDER BY %[3]s DESC, %[4]s DESC LIMIT $2`

// Recent finds the rows that are younger than age, at most limit of them, the
// newest. It reads their ids only, which are all that is held in memory beside
// one page of rows. A table without created_at is an error.
func (s *Source) Recent(ctx context.Context, age time.Duration, limit int) (*Recent, error) {
	r, err := s.newRowReader(ctx)
	if err != nil {
		return nil, err
	}
	if r.columns.CreatedAt == "" {
		return nil, fmt.Errorf("table %s has no created_at: mend source.columns", s.Table)
	}
	return r.find(ctx, sqlRecent, limit, age.Microseconds())
}

// sqlBetween reads the oldest ones first.
const sqlBetween = `SELECT %s::text FROM %s WHERE %s >= $1 AND %[3]s < $3 ORDER BY %[3]s, %[4]s LIMIT $2`

// Between finds the outbox rows that were written at from or later and before
// until, at most limit of them, the oldest; Next returns these in their order. A
// zero from is the beginning. A table without created_at has none.
func (s *Source) Between(ctx context.Context, from, until time.Time, limit int) (*Recent, error) {
	r, err := s.newRowReader(ctx)
	if err != nil {
		return nil, err
	}
	if r.columns.CreatedAt == "" {
		return &Recent{rows: r}, nil
	}
	return r.find(ctx, sqlBetween, limit, from, until)
}

// find reads the ids of rows by a statement whose second argument is the limit.
func (r *rowReader) find(ctx context.Context, sql string, limit int, first any, more ...any) (*Recent, error) {
	id, created := pgx.Identifier{r.columns.ID}.Sanitize(), pgx.Identifier{r.columns.CreatedAt}.Sanitize()
	found := &Recent{rows: r, page: recentRows}
	err := r.source.readOnly(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(sql, id, r.source.Table.SQL(), created, id), append([]any{first, int64(limit) + 1}, more...)...)
		if err != nil {
			return err
		}
		bytes := 0
		var text string
		_, err = pgx.ForEachRow(rows, []any{&text}, func() error {
			if bytes += len(text); len(found.ids) == limit || bytes > recentIDs {
				found.More = true
				return nil
			}
			found.ids = append(found.ids, text)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for rows in %s: %w", r.source.Table, err)
	}
	found.Total = len(found.ids)
	return found, nil
}

// Next returns the next events, those of the newest rows first: at most 256,
// and hardly more than 4 MiB unless one alone is larger. None are left when it
// returns none. Rows that were deleted meanwhile are left out.
func (r *Recent) Next(ctx context.Context) ([]*event.Event, error) {
	for len(r.ids) > 0 {
		asked := min(r.page, len(r.ids))
		var page []*event.Event
		var bytes int64
		read := asked
		err := r.rows.each(ctx, r.ids[:asked], func(n int, e *event.Event) bool {
			page = append(page, e)
			if bytes += e.Size(); bytes > recentBytes {
				read = n
				return false
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		r.ids = r.ids[read:]
		if read < asked { // as many may fit the next time, too
			r.page = read
		} else {
			r.page = min(2*r.page, recentRows)
		}
		if len(page) > 0 {
			return page, nil
		}
	}
	return nil, nil
}

// rowReader reads rows by their ids and makes events of them, by the code that
// does it for the stream.
type rowReader struct {
	source  *Source
	columns Columns
	mapping mapping
	sql     string
}

// sqlTypes reads the types of columns.
const sqlTypes = `SELECT a.attname, a.atttypid, format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attname = ANY($2) AND NOT a.attisdropped`

// sqlRows reads rows in the order of the ids $1, with their places in it from 1.
const sqlRows = `SELECT w.n::text, %s FROM unnest($1::text[]::%s[]) WITH ORDINALITY AS w(id, n) JOIN %s o ON o.%s = w.id ORDER BY w.n`

func (s *Source) newRowReader(ctx context.Context) (*rowReader, error) {
	columns, err := s.Columns(ctx)
	if err != nil {
		return nil, err
	}
	r := &rowReader{source: s, columns: columns}
	var idType, name, typeName string
	var oid uint32
	rows, err := s.Pool.Query(ctx, sqlTypes, s.Table.SQL(), []string{columns.ID, columns.Payload})
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &oid, &typeName}, func() error {
			if name == columns.ID {
				idType = typeName
			}
			if name == columns.Payload {
				r.mapping.checked = oid == oidJSON || oid == oidJSONB
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read columns of %s: %w", s.Table, err)
	}
	if idType == "character" { // which is of one character where it is cast to
		idType = "bpchar"
	}
	var list []string
	place := func(column string) int {
		if column == "" {
			return -1
		}
		list = append(list, "o."+pgx.Identifier{column}.Sanitize()+"::text")
		return len(list) - 1
	}
	m := &r.mapping
	m.id, m.typ, m.tenant, m.key = place(columns.ID), place(columns.Type), place(columns.Tenant), place(columns.Key)
	m.payload, m.headers, m.createdAt = place(columns.Payload), place(columns.Headers), place(columns.CreatedAt)
	r.sql = fmt.Sprintf(sqlRows, strings.Join(list, ", "), idType, s.Table.SQL(), pgx.Identifier{columns.ID}.Sanitize())
	return r, nil
}

// each calls visit with the event of each row that has one of ids, in their
// order, and its place among them from 1, until visit returns false.
func (r *rowReader) each(ctx context.Context, ids []string, visit func(n int, e *event.Event) bool) error {
	err := r.source.readOnly(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, r.sql, ids)
		if err != nil {
			return err
		}
		defer rows.Close()
		var row []value
		for rows.Next() {
			raw := rows.RawValues() // all text: the same in every format
			row = row[:0]
			for _, data := range raw[1:] {
				row = append(row, value{data: data, null: data == nil})
			}
			e := r.mapping.event(row)
			if e.CommittedAt = e.CreatedAt; e.CommittedAt.IsZero() {
				e.CommittedAt = time.Now()
			}
			n, err := strconv.Atoi(string(raw[0]))
			if err != nil {
				return err
			}
			if !visit(n, e) {
				return nil
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("read rows of %s: %w", r.source.Table, err)
	}
	return nil
}

// readOnly calls do in a transaction that cannot write, in which times are
// written as the stream writes them.
func (s *Source) readOnly(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true)`); err != nil {
			return err
		}
		return do(tx)
	})
}
