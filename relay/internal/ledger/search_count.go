package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// wholly is as long as all time.
const wholly = 100 * 365 * 24 * time.Hour

// tally is deliveries by endpoint.
type tally struct {
	of    map[uuid.UUID]int64
	total int
	more  bool // there may be more: the limit was reached, or it took too long
}

const (
	sqlCountPending = `SELECT endpoint_id, count(*) FROM (SELECT d.endpoint_id FROM posthorn.pending d WHERE %s LIMIT %d) c GROUP BY 1`
	sqlCountFinal   = `SELECT endpoint_id, count(*) FROM (SELECT d.endpoint_id FROM posthorn.deliveries d WHERE %s LIMIT %d) c GROUP BY 1`
)

// count counts the deliveries that q is about, up to q.Limit. Where they are
// counted row by row, and that takes longer than within, it soon stops.
func (s *searcher) count(ctx context.Context, q *search, within time.Duration) (*tally, error) {
	c := &tally{of: make(map[uuid.UUID]int64)}
	began := time.Now()
	if none, err := s.resolve(ctx, q); none || err != nil {
		return c, err
	}
	if states := q.states(Pending, Sending); len(states) > 0 {
		t := &statement{}
		q.place(t)
		q.match(t)
		if len(states) == 1 {
			t.where(`d.state = %s`, states[0])
		}
		if err := s.add(ctx, c, q, order, sqlCountPending, t); err != nil {
			return nil, err
		}
	}
	states := q.states(Delivered, Failed, Skipped)
	if c.more = c.total == q.Limit; len(states) == 0 || c.more {
		return c, nil
	}
	t := &statement{}
	q.place(t)
	before := len(t.conditions)
	q.match(t)
	how, all := order, len(t.conditions) == before && len(states) == 3
	q.inStates(t, states)
	switch {
	case q.Event != uuid.Nil:
		how = blooms
	case states[0] != string(Delivered):
		q.unsent(t)
	case !all:
		_, span, err := s.afterWalk(ctx, q)
		if err != nil {
			return nil, err
		}
		first := true
		return c, s.eachChunk(ctx, q, states, cmp.Or(span, wholly), func(t *statement) (bool, error) {
			if c.more = !first && time.Since(began) > within; c.more {
				return true, nil
			}
			first = false
			err := s.add(ctx, c, q, blooms, sqlCountFinal, t)
			c.more = c.total == q.Limit
			return c.more, err
		})
	}
	err := s.add(ctx, c, q, how, sqlCountFinal, t)
	c.more = c.total == q.Limit
	return c, err
}

// add counts what a query finds, up to the rest of the limit.
func (s *searcher) add(ctx context.Context, c *tally, q *search, how reading, sql string, t *statement) error {
	if err := s.use(ctx, how); err != nil {
		return err
	}
	rows, err := s.tx.Query(ctx, fmt.Sprintf(sql, t, q.Limit-c.total), t.args...)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		c.of[id] += n
		c.total += int(n)
		return nil
	})
	return err
}

// byName returns the counts with the endpoints' names, the most first.
func (s *searcher) byName(ctx context.Context, c *tally) ([]EndpointCount, error) {
	names := make(map[uuid.UUID]string)
	rows, err := s.tx.Query(ctx, `SELECT id, name FROM posthorn.endpoints`)
	if err == nil {
		var id uuid.UUID
		var name string
		_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			names[id] = name
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("name the endpoints: %w", err)
	}
	var list []EndpointCount
	for id, n := range c.of {
		name, ok := names[id]
		if !ok {
			name = id.String()
		}
		list = append(list, EndpointCount{Endpoint: name, Count: n})
	}
	slices.SortFunc(list, func(a, b EndpointCount) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Endpoint, b.Endpoint)
	})
	return list, nil
}
