package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// LatencyBounds are the upper bounds of the buckets that the times from commit
// to delivery are counted in; one more bucket is above them.
var LatencyBounds = []time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Quantile returns the time within which the share q of what is counted in the
// buckets of LatencyBounds was delivered: within its bucket everything is taken
// to be spread evenly, and what is above all bounds to be at the last one. It is
// 0 where nothing is counted.
func Quantile(latency []int64, q float64) time.Duration {
	var total int64
	for _, n := range latency {
		total += n
	}
	rank, below := q*float64(total), int64(0)
	for i, n := range latency {
		if n == 0 || float64(below+n) < rank {
			below += n
			continue
		}
		if i >= len(LatencyBounds) {
			return LatencyBounds[len(LatencyBounds)-1]
		}
		from := time.Duration(0)
		if i > 0 {
			from = LatencyBounds[i-1]
		}
		return from + time.Duration(float64(LatencyBounds[i]-from)*(rank-float64(below))/float64(n))
	}
	return 0
}

// Count is what happened.
type Count struct {
	Events         int64 // read from the stream; not counted for one endpoint
	Delivered      int64
	Failed         int64 // deliveries that failed for good
	Attempts       int64
	FailedAttempts int64
	Latency        []int64 // times from commit to delivery, in the buckets of LatencyBounds; nil for one endpoint
}

// The lengths of the spans that samples are kept in.
const (
	SpanShort  = 10 * time.Second // of all endpoints together only
	SpanMiddle = time.Minute
	SpanLong   = 10 * time.Minute
)

// Levels is how much there is of what comes and goes.
type Levels struct {
	Parked       int64         // deliveries that wait in the ledger
	Unsettled    time.Duration // age of the oldest event that is read and not recorded; 0 without any
	SlotLag      *int64        // bytes of WAL that are not confirmed; nil while that is not known
	SlotRetained *int64        // bytes of WAL that Postgres keeps for the slot; nil as above
}

// Raise makes l the higher of itself and another, level by level.
func (l *Levels) Raise(other Levels) {
	higher := func(a, b *int64) *int64 {
		if a == nil || b != nil && *b > *a {
			return b
		}
		return a
	}
	l.Parked, l.Unsettled = max(l.Parked, other.Parked), max(l.Unsettled, other.Unsettled)
	l.SlotLag, l.SlotRetained = higher(l.SlotLag, other.SlotLag), higher(l.SlotRetained, other.SlotRetained)
}

// Sample is what happened in a span that ends now.
type Sample struct {
	Span      time.Duration // one of the three
	Took      time.Duration // how long the span really was
	All       Count
	Peak      Levels           // the highest of the span
	Endpoints map[string]Count // by name or id, of those at which something did
}

const sqlSample = `INSERT INTO posthorn.stats (created_at, span, events, delivered, failed, attempts, failed_attempts, latency, parked, unsettled_us, slot_lag, slot_retained)
SELECT now() - $1 * interval '1 microsecond', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE EXISTS (SELECT FROM posthorn.relay WHERE slot = $13 AND epoch = $14)`

// sqlSampleEndpoints takes an endpoint by its id where the counters name that:
// a name is one of the configuration's, whatever endpoints of the API have it too.
const sqlSampleEndpoints = `WITH u AS (
  SELECT * FROM unnest($3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) AS u(name, id, delivered, failed, attempts, failed_attempts)
), found AS (
  SELECT e.id AS endpoint_id, u.* FROM u JOIN posthorn.endpoints e ON e.id = u.id UNION ALL
  SELECT e.id, u.* FROM u JOIN posthorn.endpoints e ON e.name = u.name AND e.state <> 'removed' WHERE u.id IS NULL AND NOT ` + sqlMade + `
)
INSERT INTO posthorn.stats (created_at, span, endpoint_id, events, delivered, failed, attempts, failed_attempts)
SELECT DISTINCT ON (name) now() - $1 * interval '1 microsecond', $2, endpoint_id, 0, delivered, failed, attempts, failed_attempts
FROM found WHERE EXISTS (SELECT FROM posthorn.relay WHERE slot = $9 AND epoch = $10) ORDER BY name, endpoint_id`

// Record keeps a sample. It does nothing when another relay took over.
func (l *Ledger) Record(ctx context.Context, s *Sample) error {
	b := &pgx.Batch{}
	b.Queue(`SELECT posthorn.ensure_partition(now() - $1 * interval '1 microsecond')`, microseconds(s.Took))
	span := int(s.Span / time.Second)
	b.Queue(sqlSample, microseconds(s.Took), span, s.All.Events, s.All.Delivered, s.All.Failed, s.All.Attempts, s.All.FailedAttempts, s.All.Latency,
		s.Peak.Parked, microseconds(s.Peak.Unsettled), s.Peak.SlotLag, s.Peak.SlotRetained, l.slot, l.epoch.Load())
	if len(s.Endpoints) > 0 {
		var names []string
		var ids []*uuid.UUID
		var delivered, failed, attempts, failedAttempts []int64
		for name, c := range s.Endpoints {
			var known *uuid.UUID
			if id, err := uuid.Parse(name); err == nil {
				known = &id
			}
			names, ids = append(names, name), append(ids, known)
			delivered, failed = append(delivered, c.Delivered), append(failed, c.Failed)
			attempts, failedAttempts = append(attempts, c.Attempts), append(failedAttempts, c.FailedAttempts)
		}
		b.Queue(sqlSampleEndpoints, microseconds(s.Took), span, names, ids, delivered, failed, attempts, failedAttempts, l.slot, l.epoch.Load())
	}
	if err := l.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("record stats: %w", err)
	}
	return nil
}

// StatsQuery says of which time figures are wanted.
type StatsQuery struct {
	From, Until time.Time
	Step        time.Duration // of a point; at least SpanShort, and SpanMiddle for less than all endpoints
	Endpoint    string        // name or id; "" for all together
	Scope       string        // the tenant of the endpoints; "" for all
}

// Point is what happened in one step.
type Point struct {
	At             time.Time // its begin
	Events         int64     // read from the stream; 0 for less than all endpoints
	Delivered      int64
	Failed         int64 // deliveries that failed for good
	Attempts       int64
	FailedAttempts int64
	P50, P95, P99  time.Duration // from commit to delivery; 0 without any, and for less than all endpoints
	Peak           *Levels       // the highest of the step; nil where no relay delivered, and for less than all endpoints
}

// span returns the longest of the spans that are no longer than a step.
func (q *StatsQuery) span() time.Duration {
	switch {
	case q.Step >= SpanLong:
		return SpanLong
	case q.Step >= SpanMiddle || q.partly():
		return SpanMiddle
	}
	return SpanShort
}

// partly reports whether the query is not about all endpoints together.
func (q *StatsQuery) partly() bool { return q.Endpoint != "" || q.Scope != "" }

// sqlSeries is completed with whose rows are read. What is newer than the last
// long span stands in the middle ones: these begin where that ended, but for what
// the clock is off.
const sqlSeries = `WITH ended AS MATERIALIZED (
  SELECT coalesce(max(created_at) + ($4 - 30) * interval '1 second', $2) AS at
  FROM posthorn.stats WHERE %[1]s AND span = $4 AND created_at >= $2 AND created_at < $3
), spans AS (
  SELECT * FROM posthorn.stats WHERE %[1]s AND span = $4 AND created_at >= $2 AND created_at < $3 UNION ALL
  SELECT * FROM posthorn.stats WHERE %[1]s AND span = 60 AND $4 = 600 AND created_at >= (SELECT at FROM ended) AND created_at < $3
), rows AS MATERIALIZED (
  SELECT floor(extract(epoch FROM created_at - $2::timestamptz) * 1000000 / $1)::bigint AS step, events, delivered, failed, attempts, failed_attempts, latency,
    parked, unsettled_us, slot_lag, slot_retained FROM spans
), buckets AS (
  SELECT step, array_agg(n ORDER BY bucket) AS latency FROM (
    SELECT r.step, u.bucket, sum(u.n)::bigint AS n FROM rows r, unnest(r.latency) WITH ORDINALITY AS u(n, bucket) GROUP BY 1, 2) summed GROUP BY 1
), counts AS (
  SELECT step, sum(events)::bigint AS events, sum(delivered)::bigint AS delivered, sum(failed)::bigint AS failed,
    sum(attempts)::bigint AS attempts, sum(failed_attempts)::bigint AS failed_attempts,
    max(parked) AS parked, max(unsettled_us) AS unsettled_us, max(slot_lag) AS slot_lag, max(slot_retained) AS slot_retained FROM rows GROUP BY 1
)
SELECT step, events, delivered, failed, attempts, failed_attempts, latency, parked, unsettled_us, slot_lag, slot_retained FROM counts LEFT JOIN buckets USING (step) ORDER BY step`

// Series returns what happened, in steps of q.Step from q.From on: those in
// which nothing did are there too. The last one may be cut off. An endpoint that
// there is not is ErrUnknownEndpoint.
func (l *Ledger) Series(ctx context.Context, q StatsQuery) ([]Point, error) {
	var points []Point
	for at := q.From; at.Before(q.Until); at = at.Add(q.Step) {
		points = append(points, Point{At: at})
	}
	err := l.countsIn(ctx, q, q.span(), func(step int64, c *Count, peak *Levels) {
		if step < 0 || step >= int64(len(points)) {
			return
		}
		points[step] = Point{
			At: points[step].At, Events: c.Events, Delivered: c.Delivered, Failed: c.Failed, Attempts: c.Attempts, FailedAttempts: c.FailedAttempts,
			P50: Quantile(c.Latency, 0.5), P95: Quantile(c.Latency, 0.95), P99: Quantile(c.Latency, 0.99), Peak: peak,
		}
	})
	return points, err
}

// Total returns what happened from q.From until q.Until, all in all.
func (l *Ledger) Total(ctx context.Context, q StatsQuery) (total Count, err error) {
	span := q.span()
	q.Step = q.Until.Sub(q.From)
	err = l.countsIn(ctx, q, span, func(_ int64, c *Count, _ *Levels) { total = *c })
	return total, err
}

// countsIn sums up the spans of a length in steps, and gives the highest levels
// of each where they are known.
func (l *Ledger) countsIn(ctx context.Context, q StatsQuery, span time.Duration, each func(step int64, c *Count, peak *Levels)) error {
	whose, args := `endpoint_id IS NULL`, []any{microseconds(q.Step), q.From, q.Until, int(span / time.Second)}
	if q.partly() {
		rows, err := l.pool.Query(ctx, sqlScope, q.Endpoint, q.Scope)
		var ids []uuid.UUID
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		}
		switch {
		case err != nil:
			return fmt.Errorf("find the endpoints: %w", err)
		case len(ids) == 0 && q.Endpoint != "":
			return fmt.Errorf("endpoint %s: %w", q.Endpoint, ErrUnknownEndpoint)
		}
		whose, args = `endpoint_id = ANY($5)`, append(args, idsOf(ids))
	}
	var step int64
	var c Count
	var parked, unsettled, lag, retained *int64
	scanned := []any{&step, &c.Events, &c.Delivered, &c.Failed, &c.Attempts, &c.FailedAttempts, &c.Latency, &parked, &unsettled, &lag, &retained}
	// As lists are read: what Postgres would compile takes longer than the rest.
	err := l.searching(ctx, func(s *searcher) error {
		rows, err := s.tx.Query(ctx, fmt.Sprintf(sqlSeries, whose), args...)
		if err == nil {
			_, err = pgx.ForEachRow(rows, scanned, func() error {
				var peak *Levels
				if parked != nil && unsettled != nil {
					peak = &Levels{Parked: *parked, Unsettled: time.Duration(*unsettled) * time.Microsecond, SlotLag: lag, SlotRetained: retained}
				}
				each(step, &c, peak)
				return nil
			})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read stats: %w", err)
	}
	return nil
}

// sqlPendingNow counts up to a bound, and of each endpoint reads the oldest.
const sqlPendingNow = `WITH RECURSIVE lanes AS (
  (SELECT p.endpoint_id FROM posthorn.pending p ORDER BY p.endpoint_id LIMIT 1) UNION ALL
  SELECT (SELECT p.endpoint_id FROM posthorn.pending p WHERE p.endpoint_id > l.endpoint_id ORDER BY p.endpoint_id LIMIT 1) FROM lanes l WHERE l.endpoint_id IS NOT NULL
), wanted AS (
  SELECT l.endpoint_id FROM lanes l WHERE l.endpoint_id IS NOT NULL
    AND ($1 = '' AND $2 = '' OR EXISTS (SELECT FROM posthorn.endpoints e WHERE e.id = l.endpoint_id AND ` + sqlNamed + ` AND ($2 = '' OR e.tenant = $2)))
)
SELECT (SELECT count(*) FROM (SELECT FROM wanted w CROSS JOIN LATERAL (SELECT FROM posthorn.pending p WHERE p.endpoint_id = w.endpoint_id LIMIT $3) p LIMIT $3) counted),
  (SELECT min(p.created_at) FROM wanted w CROSS JOIN LATERAL (SELECT p.created_at FROM posthorn.pending p WHERE p.endpoint_id = w.endpoint_id ORDER BY p.created_at LIMIT 1) p)`

// PendingNow is what is not final.
type PendingNow struct {
	Rows   int64      // counted up to 100,000
	More   bool       // there are more than were counted
	Oldest *time.Time // commit time of the oldest one's event; nil without any
}

const pendingNowCounted = 100_000

// PendingNow returns what is not final, of an endpoint or a tenant's if q has
// one.
func (l *Ledger) PendingNow(ctx context.Context, q StatsQuery) (PendingNow, error) {
	var p PendingNow
	if err := l.pool.QueryRow(ctx, sqlPendingNow, q.Endpoint, q.Scope, pendingNowCounted+1).Scan(&p.Rows, &p.Oldest); err != nil {
		return p, fmt.Errorf("count pending deliveries: %w", err)
	}
	p.More, p.Rows = p.Rows > pendingNowCounted, min(p.Rows, pendingNowCounted)
	return p, nil
}
