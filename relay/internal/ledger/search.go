package ledger

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// search is what a list, or a replay's next batch, is searched by.
type search struct {
	Filter
	forwards bool // the oldest event's first, those after After upwards
	walk     int  // see walks

	finals         bool      // only what is final
	finishedBefore time.Time // and since before this; zero for whenever

	endpoints []uuid.UUID // to which; nil for all
	since     time.Time   // at or after which; zero for ever
}

// searcher reads from one snapshot, so that a delivery that becomes final
// meanwhile is found once.
type searcher struct {
	tx  pgx.Tx
	use func(ctx context.Context, how reading) error
}

// reading is how Postgres is to read. It estimates that a filter's matches are
// spread evenly, and from what it would choose then, a filter that matches
// little has it read everything. What reads how is decided here.
type reading string

const (
	order  reading = `off, on` // an index in the order of the list, until there are enough
	blooms reading = `on, off` // the blocks that the bloom indexes name
)

const sqlReading = `SELECT set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true), set_config('max_parallel_workers_per_gather', '0', true),
  set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', $1, true), set_config('enable_indexscan', $2, true), set_config('enable_indexonlyscan', $2, true)`

// searching calls do with a searcher, which reads in the list's order at first.
func (l *Ledger) searching(ctx context.Context, do func(*searcher) error) error {
	return pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var now reading
		s := &searcher{tx: tx, use: func(ctx context.Context, how reading) error {
			if how == now {
				return nil
			}
			bitmaps, ordered, _ := strings.Cut(string(how), ", ")
			_, err := tx.Exec(ctx, sqlReading, bitmaps, ordered)
			now = how
			return err
		}}
		if err := s.use(ctx, order); err != nil {
			return err
		}
		return do(s)
	})
}

const (
	sqlMade = `EXISTS (SELECT FROM posthorn.definitions f WHERE f.id = e.id)`

	// sqlNamed is for $1, a name or an id, and $2, whose scope it is looked for in.
	// Where a tenant gave an endpoint the name that one of the configuration has, it
	// is that of the configuration for everybody but the tenant.
	sqlNamed = `($1 = '' OR e.id::text = lower($1) OR e.name = $1 AND ($2 <> '' OR NOT ` + sqlMade + ` OR NOT EXISTS (
  SELECT FROM posthorn.endpoints o WHERE o.name = $1 AND o.state <> 'removed' AND NOT EXISTS (SELECT FROM posthorn.definitions f WHERE f.id = o.id))))`

	sqlScope = `SELECT e.id FROM posthorn.endpoints e WHERE ` + sqlNamed + ` AND ($2 = '' OR e.tenant = $2)`
)

// find returns the deliveries that q is about.
func (s *searcher) find(ctx context.Context, q *search) ([]Delivery, error) {
	if none, err := s.resolve(ctx, q); none || err != nil {
		return nil, err
	}
	found, err := s.pending(ctx, q)
	if err != nil {
		return nil, err
	}
	final, err := s.final(ctx, q)
	if err != nil {
		return nil, err
	}
	found = append(found, final...)
	slices.SortFunc(found, func(a, b Delivery) int {
		if q.forwards {
			return a.compare(&b)
		}
		return b.compare(&a)
	})
	return found[:min(len(found), q.Limit)], nil
}

// compare orders deliveries by their places in lists, the oldest first.
func (d *Delivery) compare(o *Delivery) int {
	if c := d.CreatedAt.Compare(o.CreatedAt); c != 0 {
		return c
	}
	return bytes.Compare(d.ID[:], o.ID[:])
}

// resolve looks up what q names; none is true when nothing can match.
func (s *searcher) resolve(ctx context.Context, q *search) (none bool, err error) {
	q.since = q.From
	if q.Since > 0 {
		var at time.Time
		if err := s.tx.QueryRow(ctx, `SELECT now() - $1 * interval '1 microsecond'`, microseconds(q.Since)).Scan(&at); err != nil {
			return false, err
		}
		if at.After(q.since) {
			q.since = at
		}
	}
	if q.Endpoint == "" && q.Scope == "" {
		return false, nil
	}
	rows, err := s.tx.Query(ctx, sqlScope, q.Endpoint, q.Scope)
	if err == nil {
		q.endpoints, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	if err != nil {
		return false, fmt.Errorf("find the endpoints: %w", err)
	}
	if id, err := uuid.Parse(q.Endpoint); err == nil && q.Scope == "" && !slices.Contains(q.endpoints, id) {
		q.endpoints = append(q.endpoints, id) // the ledger may know no more of it
	}
	return len(q.endpoints) == 0, nil
}

// states returns which of the states are wanted; all of them without a filter.
func (q *search) states(of ...State) []string {
	var wanted []string
	for _, s := range of {
		if (len(q.States) == 0 || slices.Contains(q.States, s)) && (s.Final() || !q.finals) {
			wanted = append(wanted, string(s))
		}
	}
	return wanted
}

// statement is a query in the making.
type statement struct {
	conditions []string
	args       []any
}

// where adds a condition, in which each %s is the next of args.
func (t *statement) where(condition string, args ...any) {
	names := make([]any, len(args))
	for i, a := range args {
		t.args = append(t.args, a)
		names[i] = fmt.Sprintf("$%d", len(t.args))
	}
	t.conditions = append(t.conditions, fmt.Sprintf(condition, names...))
}

// String returns the conditions.
func (t *statement) String() string {
	if len(t.conditions) == 0 {
		return "true"
	}
	return strings.Join(t.conditions, " AND ")
}

// place adds where in the list q looks, and from when to when.
func (q *search) place(t *statement) {
	if q.After != (Cursor{}) {
		if q.forwards {
			t.where(`(d.created_at, d.id) > (%s, %s)`, q.After.CreatedAt, q.After.ID)
		} else {
			t.where(`(d.created_at, d.id) < (%s, %s)`, q.After.CreatedAt, q.After.ID)
		}
	}
	if !q.since.IsZero() {
		t.where(`d.created_at >= %s`, q.since)
	}
	if !q.Until.IsZero() {
		t.where(`d.created_at < %s`, q.Until)
	}
}

// match adds what q looks for, but for the states.
func (q *search) match(t *statement) {
	switch {
	case len(q.endpoints) == 1:
		t.where(`d.endpoint_id = %s`, q.endpoints[0])
	case q.endpoints != nil:
		t.where(`d.endpoint_id = ANY(%s)`, idsOf(q.endpoints))
	}
	if q.Tenant != "" {
		t.where(`d.tenant = %s`, q.Tenant)
	}
	if q.Scope != "" {
		t.where(`d.tenant = %s`, q.Scope)
	}
	if q.Type != "" {
		t.where(`d.type = %s`, q.Type)
	}
	if q.Event != uuid.Nil {
		t.where(`d.event_id = %s`, q.Event)
	}
}

// walks returns how many are looked at in the list's order.
func (q *search) walks() int { return cmp.Or(q.walk, walked) }

// ordered returns ORDER BY in the list's order, with the limit.
func (q *search) ordered(limit int) string {
	if q.forwards {
		return fmt.Sprintf(` ORDER BY d.created_at, d.id LIMIT %d`, limit)
	}
	return fmt.Sprintf(` ORDER BY d.created_at DESC, d.id DESC LIMIT %d`, limit)
}

const (
	// sqlPendingLanes are the endpoints that have something pending: each is
	// found by one look into an index.
	sqlPendingLanes = `WITH RECURSIVE lanes AS (
  (SELECT p.endpoint_id FROM posthorn.pending p ORDER BY p.endpoint_id LIMIT 1) UNION ALL
  SELECT (SELECT p.endpoint_id FROM posthorn.pending p WHERE p.endpoint_id > l.endpoint_id ORDER BY p.endpoint_id LIMIT 1) FROM lanes l WHERE l.endpoint_id IS NOT NULL
) SELECT d.* FROM lanes l`

	sqlPendingFirst = ` CROSS JOIN LATERAL (SELECT ` + pendingColumns + ` FROM posthorn.pending d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id
WHERE d.endpoint_id = l.endpoint_id AND %s) d(id, state, endpoint, endpoint_id, event_id, type, tenant, key, created_at, attempts, status, error, reason, due_at, finished_at)`

	sqlPendingOfEvent = `SELECT ` + pendingColumns + ` FROM posthorn.pending d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id WHERE %s`
)

// pending finds among the deliveries that are not final. Of each endpoint it
// reads as many as are wanted; for a type or a state that few have it reads on.
func (s *searcher) pending(ctx context.Context, q *search) ([]Delivery, error) {
	states := q.states(Pending, Sending)
	if len(states) == 0 {
		return nil, nil
	}
	t := &statement{}
	q.place(t)
	q.match(t)
	if len(states) == 1 {
		t.where(`d.state = %s`, states[0])
	}
	if q.Event != uuid.Nil {
		return s.query(ctx, fmt.Sprintf(sqlPendingOfEvent, t.String()+q.ordered(q.Limit)), t.args)
	}
	lanes := sqlPendingLanes
	if q.endpoints != nil {
		lanes = fmt.Sprintf(`SELECT d.* FROM unnest($%d::uuid[]) AS l(endpoint_id)`, len(t.args)+1)
		t.args = append(t.args, idsOf(q.endpoints))
	}
	return s.query(ctx, lanes+fmt.Sprintf(sqlPendingFirst, t.String()+q.ordered(q.Limit))+q.ordered(q.Limit), t.args)
}

// idsOf returns the ids as Postgres takes them.
func idsOf(list []uuid.UUID) uuids {
	ids := uuids{}
	for _, id := range list {
		ids = ids.with(id)
	}
	return ids
}

func (s *searcher) query(ctx context.Context, sql string, args []any) ([]Delivery, error) {
	rows, err := s.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanDelivery)
}
