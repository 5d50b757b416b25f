package main

import (
	"context"
	"fmt"
	"strings"
)

// The ledger that the control plane is asked about: a month, in which few
// endpoints get most. Of each tenant there are four endpoints.
const (
	controlEndpoints = 200
	controlTenants   = 50
	controlTypes     = 20
	controlDays      = 30
	controlToken     = "bench-0123456789abcdef0123456789abcdef"

	fillRows = 1_000_000 // of one statement
)

// controlConfig returns a configuration of so many endpoints that match nothing.
func controlConfig() string {
	var text strings.Builder
	fmt.Fprintf(&text, "http: {tokens: [{name: bench, role: admin, token: %s}]}\n", controlToken)
	text.WriteString(signedProfile(concurrency))
	for i := range controlEndpoints {
		fmt.Fprintf(&text, "  - {name: e%d, tenant: t%d, url: \"${RECEIVER}/e/%d\", events: [\"nothing.*\"], profile: bench}\n", i, i%controlTenants, i)
	}
	return text.String()
}

// sqlControl fills the tables in this order; $1 is the first row's number, $2
// the last one's, $3 how many there will be. Rows lie in the order of their
// commits, as the relay writes them. The last types and endpoints are rare.
var sqlControl = []struct{ table, sql string }{
	{"deliveries", `INSERT INTO posthorn.deliveries (created_at, id, endpoint_id, event_id, type, tenant, key, lsn, index, state, attempts, status, error, finished_at,
  request_method, request_headers, request_body, payload)
SELECT at, md5('d' || n)::uuid, e.id, md5('v' || n / 2)::uuid, type, 't' || place % ` + fmt.Sprint(controlTenants) + `, 'key-' || n % 1000, '0/1', n,
  CASE WHEN failed THEN 'failed' ELSE 'delivered' END, CASE WHEN failed THEN 3 ELSE 1 END, CASE WHEN failed THEN 500 ELSE 200 END,
  CASE WHEN failed THEN 'answered 500 Internal Server Error' END, at + interval '20 milliseconds',
  CASE WHEN failed THEN 'POST' END, CASE WHEN failed THEN '[["Content-Type", "application/json"]]'::json END, NULL,
  CASE WHEN failed THEN convert_to('{"pad": "' || repeat('x', 500) || '"}', 'UTF8') END
FROM (SELECT n, now() - interval '` + fmt.Sprint(controlDays) + ` days' * (1 - n::float8 / $3::int) AS at, place, hashint4(n # 77) % 50 = 0 AS failed,
    CASE WHEN n % 100003 = 0 THEN 'rare.type' ELSE 'group.type-' || (place * 7 + (hashint4(n # 1234567) & 7)) % ` + fmt.Sprint(controlTypes) + ` END AS type
  FROM (SELECT n, least(` + fmt.Sprint(controlEndpoints-1) + `, floor(` + fmt.Sprint(controlEndpoints) + ` * power((hashint4(n) & 1048575)::float8 / 1048576, 3)))::int AS place
    FROM generate_series($1::int, $2::int) n) s) s JOIN posthorn.endpoints e ON e.name = 'e' || place`},
	{"attempts", `INSERT INTO posthorn.attempts (created_at, delivery_id, number, started_at, outcome, status, error, connect_us, first_byte_us, total_us, response)
SELECT created_at, id, number, created_at + number * interval '1 minute', 'rejected', 500, error, 300, 2000, 2500, convert_to('an error of the receiver''s', 'UTF8')
FROM posthorn.deliveries, generate_series(1, 3) number WHERE state = 'failed' AND index BETWEEN $1::int AND $2::int AND $3::int > 0`},
}

// sqlControlPending fills what is pending, so many, of which nothing is due.
var sqlControlPending = []string{
	`INSERT INTO posthorn.payloads (event_id, payload, created_at) SELECT md5('w' || n)::uuid, convert_to('{"pad": "' || repeat('x', 500) || '"}', 'UTF8'), now()
FROM generate_series(1, $1::int) n`,
	`INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, tenant, lsn, index, created_at, state, reason, attempts, due_at, epoch, bytes)
SELECT md5('p' || n)::uuid, e.id, md5('w' || n)::uuid, 'group.type-' || n % ` + fmt.Sprint(controlTypes) + `, e.tenant, '0/1', n, now() - n * interval '3 days' / $1::int, 'pending', 'retry', 1,
  now() + interval '2 days', 1, 512
FROM generate_series(1, $1::int) n JOIN posthorn.endpoints e ON e.name = 'e' || n * n % ` + fmt.Sprint(controlEndpoints),
}

// sqlControlStats fills so many days of stats, of endpoints two in short spans.
var sqlControlStats = []string{
	`INSERT INTO posthorn.stats (created_at, span, endpoint_id, events, delivered, failed, attempts, failed_attempts, latency, parked, unsettled_us, slot_lag, slot_retained)
SELECT at, span, NULL, 100, 99, 1, 103, 4, array_fill(5::bigint, ARRAY[21]), 1000, 20000, 200000, 50000000 FROM unnest(ARRAY[10, 60, 600]) span,
  generate_series(now() - $1::int * interval '1 day', now(), span * interval '1 second') at`,
	`INSERT INTO posthorn.stats (created_at, span, endpoint_id, events, delivered, failed, attempts, failed_attempts)
SELECT at, span, e.id, 0, 99, 1, 103, 4 FROM (VALUES (60, least($1::int, 2)), (600, $1::int)) s(span, days),
  generate_series(now() - days * interval '1 day', now(), span * interval '1 second') at, posthorn.endpoints e`,
}

// fillLedger writes so many final and pending deliveries, and what comes with
// them, straight to the ledger: through a relay it would take hours.
func (o *outbox) fillLedger(ctx context.Context, rows, pending, statsDays int) error {
	exec := func(sql string, args ...any) error {
		if _, err := o.pool.Exec(ctx, sql, args...); err != nil {
			return fmt.Errorf("fill the ledger: %w", err)
		}
		return nil
	}
	if err := exec(`SELECT posthorn.ensure_partition(now() - n * interval '1 day') FROM generate_series(0, $1::int) n`, controlDays); err != nil {
		return err
	}
	for first := 1; first <= rows; first += fillRows {
		last := min(first+fillRows-1, rows)
		for _, fill := range sqlControl {
			if err := exec(fill.sql, first, last, rows); err != nil {
				return fmt.Errorf("%s: %w", fill.table, err)
			}
		}
		o.b.progress("%s rows", number(float64(last)))
	}
	for _, sql := range sqlControlPending {
		if err := exec(sql, pending); err != nil {
			return err
		}
	}
	for _, sql := range sqlControlStats {
		if err := exec(sql, statsDays); err != nil {
			return err
		}
	}
	for _, sql := range []string{
		`VACUUM (ANALYZE) posthorn.deliveries, posthorn.attempts, posthorn.pending, posthorn.payloads, posthorn.stats`, `SELECT posthorn.summarize()`, `CHECKPOINT`,
	} {
		if err := exec(sql); err != nil {
			return err
		}
	}
	return o.pool.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&o.lastBegan)
}
