package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Claim asks for due deliveries of one endpoint. Nothing is marked: only the
// relay that holds the slot claims, and Exclude names what it has already.
type Claim struct {
	Endpoint uuid.UUID
	Ordered  bool // only the first of each key, followed by the rest of that key in order
	Retries  bool // only deliveries that were tried before
	Exclude  []uuid.UUID
	Except   []string // types of which only what was rendered before is asked for
	Rows     int      // at most so many, followers included
	Bytes    int64    // at most so many, but always one row
}

// Claimed is a delivery that came back from the ledger.
type Claimed struct {
	ID       uuid.UUID
	Event    *event.Event
	Attempts int
	Request  *Request
	KeyHash  *int64
}

// Page is what a claim found.
type Page struct {
	Deliveries []Claimed
	More       bool // the claim was cut short by its bounds: claim again
	// NextDue is when the next delivery beyond this page is due, from now on;
	// negative when none is.
	NextDue time.Duration
}

// sqlClaim is completed with the conditions of a claim.
const sqlClaim = `WITH due AS (
  SELECT p.id, p.due_at, p.lsn, p.index, p.bytes FROM posthorn.pending p
  WHERE p.endpoint_id = $1 AND p.state = 'pending' AND p.due_at <= now() AND p.id <> ALL($2)%s
  ORDER BY p.due_at, p.lsn, p.index LIMIT $3
), page AS (
  SELECT id, due_at, lsn, index, sum(bytes) OVER (ORDER BY due_at, lsn, index, id) - bytes AS before FROM due
)
SELECT %s FROM page JOIN posthorn.pending p USING (id) LEFT JOIN posthorn.payloads c ON c.event_id = p.event_id
WHERE page.before < $4 ORDER BY page.due_at, page.lsn, page.index`

const claimColumns = `p.id, p.event_id, p.type, coalesce(p.tenant, ''), coalesce(p.key, ''), p.key_hash, p.lsn::text, p.index, p.created_at, p.attempts,
  p.request_method, p.request_headers, p.request_body, c.payload, c.headers, c.created_at, coalesce(c.invalid, ''), p.bytes`

// exceptTypes is completed with its parameter's number.
const exceptTypes = ` AND (p.request_method IS NOT NULL OR p.type <> ALL($%d::text[]))`

const onlyRetries = ` AND p.attempts > 0`

const onlyHeads = ` AND (p.key_hash IS NULL OR NOT EXISTS (SELECT FROM posthorn.pending q
  WHERE q.endpoint_id = p.endpoint_id AND q.key_hash = p.key_hash AND (q.lsn, q.index) < (p.lsn, p.index)))`

// sqlFollowers reads what follows the claimed heads of keys, with what is not
// due among them, which ends a key's run.
const sqlFollowers = `SELECT ` + claimColumns + `, p.state = 'pending' AND (p.due_at <= now() OR p.due_at = 'infinity')
FROM posthorn.pending p LEFT JOIN posthorn.payloads c ON c.event_id = p.event_id
WHERE p.id IN (SELECT id FROM (SELECT next.id, sum(next.bytes) OVER (ORDER BY next.lsn, next.index, next.id) AS upto
  FROM unnest($2::bigint[], $3::text[], $4::bigint[]) AS h(key_hash, lsn, index)
  CROSS JOIN LATERAL (SELECT q.id, q.bytes, q.lsn, q.index FROM posthorn.pending q
    WHERE q.endpoint_id = $1 AND q.key_hash = h.key_hash AND (q.lsn, q.index) > (h.lsn::pg_lsn, h.index)
    ORDER BY q.lsn, q.index LIMIT $5) next) n WHERE upto <= $6)
ORDER BY p.lsn, p.index`

const sqlNextDue = `SELECT (extract(epoch FROM p.due_at - clock_timestamp()) * 1000000)::bigint FROM posthorn.pending p
WHERE p.endpoint_id = $1 AND p.state = 'pending' AND p.due_at < 'infinity' AND p.id <> ALL($2)%s ORDER BY p.due_at LIMIT 1`

// Claim returns a page of due deliveries in the order in which they should be
// sent.
func (l *Ledger) Claim(ctx context.Context, c Claim) (Page, error) {
	conditions := ""
	if c.Retries {
		conditions += onlyRetries
	}
	if c.Ordered {
		conditions += onlyHeads
	}
	exclude := c.Exclude
	if exclude == nil {
		exclude = []uuid.UUID{}
	}
	// complete adds the condition that has a parameter.
	complete := func(parameters ...any) (string, []any) {
		if len(c.Except) == 0 {
			return conditions, parameters
		}
		return conditions + fmt.Sprintf(exceptTypes, len(parameters)+1), append(parameters, c.Except)
	}
	page := Page{NextDue: -1}
	var size int64
	completed, parameters := complete(c.Endpoint, exclude, c.Rows, c.Bytes)
	rows, err := l.pool.Query(ctx, fmt.Sprintf(sqlClaim, completed, claimColumns), parameters...)
	if err == nil {
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			d, bytes, err := scanClaimed(row)
			page.Deliveries = append(page.Deliveries, d)
			size += bytes
			return struct{}{}, err
		})
	}
	if err != nil {
		return page, fmt.Errorf("claim deliveries of endpoint %s: %w", c.Endpoint, err)
	}
	page.More = len(page.Deliveries) == c.Rows || size >= c.Bytes
	if c.Ordered && !page.More && len(page.Deliveries) > 0 {
		if err := l.follow(ctx, c, &page, c.Bytes-size); err != nil {
			return page, err
		}
	}
	if page.More {
		page.NextDue = 0
		return page, nil
	}
	for _, d := range page.Deliveries {
		exclude = append(exclude, d.ID)
	}
	var next *int64
	completed, parameters = complete(c.Endpoint, exclude)
	err = l.pool.QueryRow(ctx, fmt.Sprintf(sqlNextDue, completed), parameters...).Scan(&next)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return page, fmt.Errorf("find the next due delivery of endpoint %s: %w", c.Endpoint, err)
	}
	page.NextDue = untilDue(next)
	return page, nil
}

// follow adds to the page what follows its keyed deliveries in their keys'
// order, so that a long backlog of one key is not claimed one at a time.
func (l *Ledger) follow(ctx context.Context, c Claim, page *Page, room int64) error {
	var keys, indexes []int64
	var lsns []string
	for _, d := range page.Deliveries {
		if d.KeyHash != nil {
			keys = append(keys, *d.KeyHash)
			lsns, indexes = append(lsns, d.Event.Position.LSN.String()), append(indexes, d.Event.Position.Index)
		}
	}
	each := (c.Rows - len(page.Deliveries)) / max(1, len(keys))
	if len(keys) == 0 || each == 0 {
		return nil
	}
	rows, err := l.pool.Query(ctx, sqlFollowers, c.Endpoint, keys, lsns, indexes, each, room)
	if err != nil {
		return fmt.Errorf("claim followers of endpoint %s: %w", c.Endpoint, err)
	}
	ended := map[int64]bool{}
	held := make(map[uuid.UUID]bool, len(c.Exclude))
	for _, id := range c.Exclude {
		held[id] = true
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var ready bool
		d, _, err := scanClaimed(row, &ready)
		if err != nil {
			return struct{}{}, err
		}
		if !ready || held[d.ID] {
			ended[*d.KeyHash] = true
		}
		if !ended[*d.KeyHash] {
			page.Deliveries = append(page.Deliveries, d)
		}
		return struct{}{}, nil
	})
	if err != nil {
		return fmt.Errorf("claim followers of endpoint %s: %w", c.Endpoint, err)
	}
	return nil
}

func scanClaimed(row pgx.CollectableRow, more ...any) (Claimed, int64, error) {
	var (
		d         = Claimed{Event: &event.Event{}}
		e         = d.Event
		method    *string
		headers   []byte
		body      []byte
		createdAt *time.Time
		bytes     int64
	)
	err := row.Scan(append([]any{&d.ID, &e.ID, &e.Type, &e.Tenant, &e.Key, &d.KeyHash, &e.Position.LSN, &e.Position.Index, &e.CommittedAt, &d.Attempts,
		&method, &headers, &body, &e.Payload, &e.Headers, &createdAt, &e.Invalid, &bytes}, more...)...)
	if err != nil {
		return d, 0, err
	}
	e.CommittedAt = e.CommittedAt.UTC()
	if e.CreatedAt = e.CommittedAt; createdAt != nil {
		e.CreatedAt = createdAt.UTC()
	} else {
		e.Invalid = "the copy of the payload is gone"
	}
	d.Request, err = scanRequest(method, headers, body)
	return d, bytes, err
}

// scanRequest rebuilds a rendered request from its columns; nil when there is none.
func scanRequest(method *string, headers, body []byte) (*Request, error) {
	if method == nil {
		return nil, nil
	}
	q := &Request{Method: *method, Body: body}
	if err := json.Unmarshal(headers, &q.Headers); err != nil {
		return nil, fmt.Errorf("decode stored request headers: %w", err)
	}
	return q, nil
}
