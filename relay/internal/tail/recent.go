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

// Recent goes through the outbox rows of some time. Use Source.Recent or
// Source.Between, then Next, from one goroutine.
type Recent struct {
	Total int  // how many rows there are to go through
	More  bool // there are more rows of the time asked for, beyond the limit
	Lists int  // how often ids were read: whatever Next returns had been committed by the last time

	rows *rowReader
	ids  []string // of the rows that were not read yet
	page int      // how many of them are asked for next
	next *between // nil when there are no more to list
}

const sqlRecent = `SELECT o.%[1]s::text FROM %[2]s o WHERE o.%[3]s >= now() - $1 * interval '1 microsecond' ORDER BY o.%[3]s DESC, o.%[1]s DESC LIMIT $2`

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
	return r.newest(ctx, age, limit)
}

// newest reads the ids of the newest rows.
func (r *rowReader) newest(ctx context.Context, age time.Duration, limit int) (*Recent, error) {
	id, created := pgx.Identifier{r.columns.ID}.Sanitize(), pgx.Identifier{r.columns.CreatedAt}.Sanitize()
	found := &Recent{rows: r, page: recentRows}
	err := r.source.readOnly(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(sqlRecent, id, r.source.Table.SQL(), created), age.Microseconds(), int64(limit)+1)
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

// sqlBetween is completed with the columns id and created_at, the table, and
// those columns' types. Without $2 it begins with the first rows of a time, else
// after the row of that time and id.
const sqlBetween = `SELECT o.%[1]s::text, o.%[2]s::text FROM %[3]s o WHERE o.%[2]s >= $1::text::%[5]s AND o.%[2]s < $3::text::%[5]s
  AND ($2::text IS NULL OR (o.%[2]s, o.%[1]s) > ($1::text::%[5]s, $2::text::%[4]s)) ORDER BY o.%[2]s, o.%[1]s LIMIT $4`

// between is where Next lists the next ids.
type between struct {
	from, until string
	after       *string // the id of the last row, of the time from; nil at first
	atOnce      int
}

// Between goes through the outbox rows that were written at from or later and
// before until, the oldest first. A zero from is the beginning. It reads the ids
// of at most atOnce rows at once, and reads none before Next. A table without
// created_at has none.
func (s *Source) Between(ctx context.Context, from, until time.Time, atOnce int) (*Recent, error) {
	r, err := s.newRowReader(ctx)
	if err != nil {
		return nil, err
	}
	found := &Recent{rows: r, page: recentRows}
	if r.columns.CreatedAt != "" {
		const layout = "2006-01-02 15:04:05.999999+00" // a column without time zone takes no notice of it
		found.next = &between{from: from.UTC().Format(layout), until: until.UTC().Format(layout), atOnce: atOnce}
	}
	return found, nil
}

// list reads the next ids, if there are any.
func (r *Recent) list(ctx context.Context) error {
	b, columns, table := r.next, &r.rows.columns, r.rows.source.Table
	if b == nil {
		return nil
	}
	id, created := pgx.Identifier{columns.ID}.Sanitize(), pgx.Identifier{columns.CreatedAt}.Sanitize()
	sql := fmt.Sprintf(sqlBetween, id, created, table.SQL(), r.rows.idType, r.rows.createdType)
	var ids []string
	next, bytes := *b, 0
	err := r.rows.source.readOnly(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, b.from, b.after, b.until, b.atOnce)
		if err != nil {
			return err
		}
		defer rows.Close()
		for bytes < recentIDs && rows.Next() {
			var text string
			if err := rows.Scan(&text, &next.from); err != nil {
				return err
			}
			next.after, ids, bytes = &text, append(ids, text), bytes+len(text)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("look for rows in %s: %w", table, err)
	}
	r.ids, r.next, r.Lists = ids, nil, r.Lists+1
	if len(ids) == b.atOnce || bytes >= recentIDs {
		r.next = &next
	}
	return nil
}

// Next returns the next events, in the order of the rows: at most 256,
// and hardly more than 4 MiB unless one alone is larger. None are left when it
// returns none. Rows that were deleted meanwhile are left out.
func (r *Recent) Next(ctx context.Context) ([]*event.Event, error) {
	for {
		if len(r.ids) == 0 {
			if err := r.list(ctx); err != nil {
				return nil, err
			}
		}
		if len(r.ids) == 0 {
			return nil, nil
		}
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
}

// rowReader reads rows by their ids and makes events of them, by the code that
// does it for the stream.
type rowReader struct {
	source  *Source
	columns Columns
	mapping mapping
	sql     string

	idType, createdType string
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
	var name, typeName string
	var oid uint32
	rows, err := s.Pool.Query(ctx, sqlTypes, s.Table.SQL(), []string{columns.ID, columns.Payload, columns.CreatedAt})
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&name, &oid, &typeName}, func() error {
			if name == columns.ID {
				r.idType = typeName
			}
			if name == columns.CreatedAt {
				r.createdType = typeName
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
	if r.idType == "character" { // which is of one character where it is cast to
		r.idType = "bpchar"
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
	r.sql = fmt.Sprintf(sqlRows, strings.Join(list, ", "), r.idType, s.Table.SQL(), pgx.Identifier{columns.ID}.Sanitize())
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
