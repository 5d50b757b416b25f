package ledger

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// errorLimit bounds the error text that is stored with a delivery or attempt.
const errorLimit = 1024

// uuids is a uuid[], which pgx sends as it is: uuid.UUID it sends as text.
type uuids []pgtype.UUID

func (u uuids) with(id uuid.UUID) uuids { return append(u, pgtype.UUID{Bytes: id, Valid: true}) }

const sqlPayloads = `INSERT INTO posthorn.payloads (event_id, payload, headers, created_at, invalid)
SELECT DISTINCT ON (event_id) * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::timestamptz[], $5::text[]) AS u(event_id, payload, headers, created_at, invalid)
ON CONFLICT (event_id) DO NOTHING`

// sqlPending parks, schedules or marks as sending. An ordered delivery that was
// never tried is not due until it is found to be the first of its key.
const sqlPending = `INSERT INTO posthorn.pending (id, endpoint_id, event_id, type, tenant, key, key_hash, lsn, index, created_at, state, reason,
  attempts, due_at, epoch, bytes, request_method, request_headers, request_body, status, error)
SELECT id, endpoint_id, event_id, type, tenant, key, key_hash, lsn::pg_lsn, index, created_at, state, reason, attempts,
  CASE WHEN key_hash IS NOT NULL AND attempts = 0 THEN 'infinity'::timestamptz ELSE now() + wait * interval '1 microsecond' END,
  $20, bytes, request_method, request_headers::json, request_body, status, error
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::timestamptz[],
  $11::text[], $12::text[], $13::int[], $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::bytea[], $19::int[], $21::text[])
  AS u(id, endpoint_id, event_id, type, tenant, key, key_hash, lsn, index, created_at, state, reason, attempts, wait, bytes,
  request_method, request_headers, request_body, status, error)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts, due_at = excluded.due_at,
  epoch = excluded.epoch, bytes = excluded.bytes, request_method = excluded.request_method, request_headers = excluded.request_headers,
  request_body = excluded.request_body, status = excluded.status, error = excluded.error, updated_at = now()`

// queuePending adds the records that are not final, with their events' payloads.
func (l *Ledger) queuePending(b *pgx.Batch, batch []*Record) {
	n := 0
	for _, r := range batch {
		if !r.State.Final() {
			n++
		}
	}
	if n == 0 {
		return
	}
	var (
		payloadOf, id, endpoint, eventID             uuids
		payload, eventHeaders                        [][]byte
		eventCreated, createdAt                      []time.Time
		invalid                                      []*string
		typ, lsn, state                              []string
		tenant, key, reason, method, headers, errors []*string
		keyHash                                      []*int64
		index, wait, bytes                           []int64
		attempts                                     []int32
		body                                         [][]byte
		status                                       []*int32
	)
	for _, r := range batch {
		if r.State.Final() {
			continue
		}
		e := r.Event
		if !r.Stored {
			payloadOf = payloadOf.with(e.ID)
			payload = append(payload, orEmpty(e.Payload))
			eventHeaders = append(eventHeaders, e.Headers)
			eventCreated = append(eventCreated, e.CreatedAt)
			invalid = append(invalid, orNull(e.Invalid))
		}
		id, endpoint, eventID = id.with(r.ID), endpoint.with(r.Endpoint), eventID.with(e.ID)
		typ, tenant, key = append(typ, e.Type), append(tenant, orNull(e.Tenant)), append(key, orNull(e.Key))
		keyHash = append(keyHash, r.KeyHash)
		lsn, index = append(lsn, e.Position.LSN.String()), append(index, e.Position.Index)
		createdAt = append(createdAt, e.CommittedAt)
		state, reason = append(state, string(r.State)), append(reason, orNull(r.Reason))
		attempts, wait = append(attempts, int32(r.Attempts)), append(wait, microseconds(r.Wait))
		size := len(e.Payload) + len(e.Headers)
		var m *string
		var bodyBytes []byte
		if r.Request != nil {
			m, bodyBytes = &r.Request.Method, r.Request.Body
			size += len(bodyBytes)
		}
		bytes = append(bytes, int64(size))
		method, headers, body = append(method, m), append(headers, r.Request.headersJSON()), append(body, bodyBytes)
		status, errors = append(status, orNullInt(r.Status)), append(errors, orNull(clean(r.Error, errorLimit)))
	}
	if len(payloadOf) > 0 {
		b.Queue(sqlPayloads, payloadOf, payload, eventHeaders, eventCreated, invalid)
	}
	b.Queue(sqlPending, id, endpoint, eventID, typ, tenant, key, keyHash, lsn, index, createdAt, state, reason,
		attempts, wait, bytes, method, headers, body, status, l.epoch.Load(), errors)
}

const sqlFinal = `INSERT INTO posthorn.deliveries (created_at, id, endpoint_id, event_id, type, tenant, key, lsn, index, state, attempts, status, error,
  finished_at, request_method, request_headers, request_body, payload, headers, event_created_at)
SELECT created_at, id, endpoint_id, event_id, type, tenant, key, lsn::pg_lsn, index, state, attempts, status, error, clock_timestamp(),
  request_method, request_headers::json, request_body, payload, headers, event_created_at
FROM unnest($1::timestamptz[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[],
  $11::int[], $12::int[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::bytea[], $18::bytea[], $19::timestamptz[])
  AS u(created_at, id, endpoint_id, event_id, type, tenant, key, lsn, index, state, attempts, status, error, request_method, request_headers,
  request_body, payload, headers, event_created_at)
ON CONFLICT (created_at, id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, status = excluded.status, error = excluded.error,
  finished_at = excluded.finished_at, request_method = excluded.request_method, request_headers = excluded.request_headers,
  request_body = excluded.request_body, payload = excluded.payload, headers = excluded.headers`

const sqlUnpend = `DELETE FROM posthorn.pending WHERE id = ANY($1)`

const sqlUnused = `DELETE FROM posthorn.payloads p WHERE event_id = ANY($1) AND NOT EXISTS (SELECT FROM posthorn.pending q WHERE q.event_id = p.event_id)`

// queueFinal adds the records that are final, where something is copied without
// what is, and removes what they leave behind.
func (l *Ledger) queueFinal(b *pgx.Batch, batch []*Record, copies bool) {
	var (
		createdAt                                   []time.Time
		eventCreated                                []*time.Time
		id, endpoint, eventID                       uuids
		typ, lsn, state                             []string
		tenant, key, errors, method, requestHeaders []*string
		index                                       []int64
		attempts                                    []int32
		status                                      []*int32
		body, payload, eventHeaders                 [][]byte
		stored, storedEvents                        uuids
	)
	for _, r := range batch {
		if !r.State.Final() || copies && r.copied() {
			continue
		}
		e := r.Event
		if r.Stored {
			stored, storedEvents = stored.with(r.ID), storedEvents.with(e.ID)
		}
		createdAt, id = append(createdAt, e.CommittedAt), id.with(r.ID)
		endpoint, eventID = endpoint.with(r.Endpoint), eventID.with(e.ID)
		typ, tenant, key = append(typ, e.Type), append(tenant, orNull(e.Tenant)), append(key, orNull(e.Key))
		lsn, index = append(lsn, e.Position.LSN.String()), append(index, e.Position.Index)
		state, attempts = append(state, string(r.State)), append(attempts, int32(r.Attempts))
		status, errors = append(status, orNullInt(r.Status)), append(errors, orNull(clean(r.Error, errorLimit)))
		keep := l.keep(r)
		method, requestHeaders, body = append(method, keep.method), append(requestHeaders, keep.requestHeaders), append(body, keep.body)
		payload, eventHeaders, eventCreated = append(payload, keep.payload), append(eventHeaders, keep.headers), append(eventCreated, keep.createdAt)
	}
	if len(id) > 0 {
		b.Queue(sqlFinal, createdAt, id, endpoint, eventID, typ, tenant, key, lsn, index, state, attempts, status, errors,
			method, requestHeaders, body, payload, eventHeaders, eventCreated)
	}
	if len(stored) > 0 {
		b.Queue(sqlUnpend, stored)
		b.Queue(sqlUnused, storedEvents)
	}
}

// kept is what a final delivery keeps so that it can be sent again.
type kept struct {
	method, requestHeaders *string
	body, payload, headers []byte
	createdAt              *time.Time
}

// keep returns nothing where ledger.bodies says so.
func (l *Ledger) keep(r *Record) kept {
	if l.bodies != BodiesAll && (l.bodies != BodiesFailed || r.State != Failed) {
		return kept{}
	}
	k := kept{payload: orEmpty(r.Event.Payload), headers: r.Event.Headers, createdAt: &r.Event.CreatedAt}
	if r.Request != nil {
		k.method, k.requestHeaders, k.body = &r.Request.Method, r.Request.headersJSON(), r.Request.Body
	}
	return k
}

const sqlAttempts = `INSERT INTO posthorn.attempts (created_at, delivery_id, number, started_at, outcome, status, error, dns_us, connect_us, tls_us, first_byte_us, total_us, response)
SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::int[], $4::timestamptz[], $5::text[], $6::int[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bytea[])
ON CONFLICT DO NOTHING`

func queueAttempts(b *pgx.Batch, batch []*Record) {
	var (
		createdAt, startedAt                   []time.Time
		id                                     uuids
		number                                 []int32
		outcome                                []string
		status                                 []*int32
		errors                                 []*string
		dns, connect, tls, firstByte, totalFor []int64
		response                               [][]byte
	)
	for _, r := range batch {
		a := r.Attempt
		if a == nil {
			continue
		}
		createdAt, startedAt = append(createdAt, r.Event.CommittedAt), append(startedAt, a.StartedAt)
		id, number, outcome = id.with(r.ID), append(number, int32(a.Number)), append(outcome, a.Outcome)
		status, errors = append(status, orNullInt(a.Status)), append(errors, orNull(clean(a.Error, errorLimit)))
		dns, connect, tls = append(dns, a.DNS.Microseconds()), append(connect, a.Connect.Microseconds()), append(tls, a.TLS.Microseconds())
		firstByte, totalFor = append(firstByte, a.FirstByte.Microseconds()), append(totalFor, a.Total.Microseconds())
		response = append(response, a.Response)
	}
	if len(id) > 0 {
		b.Queue(sqlAttempts, createdAt, id, number, startedAt, outcome, status, errors, dns, connect, tls, firstByte, totalFor, response)
	}
}

// sqlHeads makes due what has become the first pending delivery of its key.
const sqlHeads = `UPDATE posthorn.pending SET due_at = now(), updated_at = now() WHERE due_at = 'infinity' AND id IN (
  SELECT head.id FROM unnest($1::uuid[], $2::bigint[]) AS t(endpoint_id, key_hash)
  CROSS JOIN LATERAL (SELECT p.id FROM posthorn.pending p WHERE p.endpoint_id = t.endpoint_id AND p.key_hash = t.key_hash ORDER BY p.lsn, p.index LIMIT 1) head)`

func queueHeads(b *pgx.Batch, batch []*Record) {
	type lane struct {
		endpoint uuid.UUID
		key      int64
	}
	var endpoints uuids
	var keys []int64
	seen := map[lane]bool{}
	for _, r := range batch {
		hash := r.KeyHash
		if hash == nil || r.State.Final() && !r.Stored || seen[lane{r.Endpoint, *hash}] {
			continue
		}
		seen[lane{r.Endpoint, *hash}] = true
		endpoints, keys = endpoints.with(r.Endpoint), append(keys, *hash)
	}
	if len(endpoints) > 0 {
		b.Queue(sqlHeads, endpoints, keys)
	}
}

// orEmpty returns b, or an empty slice for nil, which would be NULL.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
