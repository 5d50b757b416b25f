package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// walked is how many final deliveries are looked at in the list's order before
// the bloom indexes are asked: at first for chunkWalks times as long a time as
// those are spread over, then for twice as long each time.
const (
	walked     = 10_000
	chunkWalks = 4
)

const (
	sqlFinals = `SELECT ` + finalColumns + ` FROM (SELECT * FROM posthorn.deliveries d WHERE %s) d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id`

	sqlWalk = `SELECT ` + finalColumns + ` FROM (SELECT * FROM (SELECT * FROM posthorn.deliveries d WHERE %s) d WHERE %s) d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id`

	// sqlWalked is the time of the first that was looked at, and where the last
	// stands.
	sqlWalked = `SELECT (SELECT created_at FROM posthorn.deliveries d WHERE %[1]s%[2]s LIMIT 1), created_at, id FROM posthorn.deliveries d WHERE %[1]s%[2]s OFFSET %[3]d LIMIT 1`

	sqlEdges = `SELECT min(created_at), max(created_at) FROM posthorn.deliveries d WHERE `
)

// final finds among the deliveries that are final.
func (s *searcher) final(ctx context.Context, q *search) ([]Delivery, error) {
	states := q.states(Delivered, Failed, Skipped)
	if len(states) == 0 {
		return nil, nil
	}
	unsent := states[0] != string(Delivered)
	if q.Event == uuid.Nil && !unsent {
		found, enough, err := s.walk(ctx, q, states)
		if enough || err != nil {
			return found, err
		}
		rest, span, err := s.afterWalk(ctx, q)
		if rest == nil || err != nil {
			return found, err
		}
		rest.Limit -= len(found)
		further, err := s.chunks(ctx, rest, states, chunkWalks*span)
		return append(found, further...), err
	}
	t := &statement{}
	q.place(t)
	q.match(t)
	q.inStates(t, states)
	how := blooms
	if q.Event == uuid.Nil {
		how = order
		q.unsent(t)
	}
	return s.finals(ctx, how, q, t, q.Limit)
}

// inStates adds the states, if they are not all that are final, and since when.
func (q *search) inStates(t *statement, states []string) {
	if !q.finishedBefore.IsZero() {
		t.where(`d.finished_at < %s`, q.finishedBefore)
	}
	switch len(states) {
	case 1:
		t.where(`d.state = %s`, states[0])
	case 2:
		t.where(`d.state IN (%s, %s)`, states[0], states[1])
	}
}

// unsent adds what has the index of the deliveries that were not delivered
// answer without their rows.
func (q *search) unsent(t *statement) {
	t.where(`d.state <> 'delivered'`)
	if q.Type != "" {
		t.where(`left(d.type, 64) = left(%s, 64)`, q.Type)
	}
	for _, tenant := range []string{q.Tenant, q.Scope} {
		if tenant != "" {
			t.where(`left(d.tenant, 64) = left(%s, 64)`, tenant)
		}
	}
}

func (s *searcher) finals(ctx context.Context, how reading, q *search, t *statement, limit int) ([]Delivery, error) {
	if err := s.use(ctx, how); err != nil {
		return nil, err
	}
	return s.query(ctx, fmt.Sprintf(sqlFinals, t.String()+q.ordered(limit))+q.ordered(limit), t.args)
}

// walk looks at deliveries in the list's order. It returns whether those that
// it found are enough: when nothing is looked for they are, however few.
func (s *searcher) walk(ctx context.Context, q *search, states []string) (found []Delivery, enough bool, err error) {
	if err := s.use(ctx, order); err != nil {
		return nil, false, err
	}
	t := &statement{}
	q.place(t)
	from := t.String()
	t.conditions = nil
	q.match(t)
	if q.inStates(t, states); len(t.conditions) == 0 {
		found, err = s.query(ctx, fmt.Sprintf(sqlFinals, from+q.ordered(q.Limit))+q.ordered(q.Limit), t.args)
		return found, true, err
	}
	found, err = s.query(ctx, fmt.Sprintf(sqlWalk, from+q.ordered(q.walks()), t.String()+q.ordered(q.Limit))+q.ordered(q.Limit), t.args)
	return found, len(found) == q.Limit, err
}

// afterWalk returns the search for what follows what walk looked at, nil where
// that was all, and over what time it was spread.
func (s *searcher) afterWalk(ctx context.Context, q *search) (rest *search, span time.Duration, err error) {
	t := &statement{}
	q.place(t)
	further := *q
	var first time.Time
	place := strings.TrimSuffix(q.ordered(0), " LIMIT 0")
	err = s.tx.QueryRow(ctx, fmt.Sprintf(sqlWalked, t, place, q.walks()-1), t.args...).Scan(&first, &further.After.CreatedAt, &further.After.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	return &further, max(time.Second, first.Sub(further.After.CreatedAt).Abs()), err
}

// chunks asks the bloom indexes for a time and then for ever longer ones, until
// there are enough.
func (s *searcher) chunks(ctx context.Context, q *search, states []string, span time.Duration) (all []Delivery, err error) {
	err = s.eachChunk(ctx, q, states, span, func(t *statement) (enough bool, err error) {
		found, err := s.finals(ctx, blooms, q, t, q.Limit-len(all))
		all = append(all, found...)
		return len(all) >= q.Limit, err
	})
	return all, err
}

// eachChunk calls do for a time and then for ever longer ones, in the list's
// order, until it has enough.
func (s *searcher) eachChunk(ctx context.Context, q *search, states []string, span time.Duration, do func(*statement) (enough bool, err error)) error {
	if err := s.use(ctx, order); err != nil {
		return err
	}
	t := &statement{}
	q.place(t)
	var first, last pgtype.Timestamptz
	if err := s.tx.QueryRow(ctx, sqlEdges+t.String(), t.args...).Scan(&first, &last); err != nil || !first.Valid {
		return err
	}
	from, until := first.Time, last.Time.Add(time.Microsecond)
	for ; from.Before(until); span *= 2 {
		begin, end := until.Add(-span), until
		if q.forwards {
			begin, end = from, from.Add(span)
		}
		t := &statement{}
		q.place(t)
		t.where(`d.created_at >= %s`, begin)
		t.where(`d.created_at < %s`, end)
		q.match(t)
		q.inStates(t, states)
		q.together(t)
		if enough, err := do(t); enough || err != nil {
			return err
		}
		if q.forwards {
			from = end
		} else {
			until = begin
		}
	}
	return nil
}

// together adds what has the bloom indexes tell blocks that have two words in
// one delivery from those that have them in two.
func (q *search) together(t *statement) {
	if q.Type != "" && len(q.endpoints) == 1 {
		t.where(`uuid_hash_extended(d.endpoint_id, hashtextextended(d.type, 0)) = uuid_hash_extended(%s, hashtextextended(%s, 0))`, q.endpoints[0], q.Type)
	}
	for _, tenant := range []string{q.Tenant, q.Scope} {
		if q.Type != "" && tenant != "" {
			t.where(`hashtextextended(d.type, hashtextextended(d.tenant, 0)) = hashtextextended(%s, hashtextextended(%s, 0))`, q.Type, tenant)
		}
	}
}
