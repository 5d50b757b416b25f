package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrUnknownDelivery reports that no delivery of that id stands in the ledger.
var ErrUnknownDelivery = errors.New("no such delivery")

// Detail is all that the ledger holds of a delivery. Of request body and
// payload it has the first shownBytes.
type Detail struct {
	Delivery
	Request *Request  `json:"-"` // nil when it was not rendered or not kept
	Payload []byte    `json:"-"` // nil when it was not kept
	Tries   []Attempt `json:"-"` // the recorded attempts, in their order

	BodyBytes, PayloadBytes int64 `json:"-"` // how long they are as a whole
}

// shownBytes bounds what is read of a body, and of a payload.
const shownBytes = 1 << 20

const sqlShown = `, d.request_method, d.request_headers, substring(d.request_body FOR $2), coalesce(length(d.request_body), 0)`

const sqlShowPending = `SELECT ` + pendingColumns + sqlShown + `, substring(c.payload FOR $2), coalesce(length(c.payload), 0)
FROM posthorn.pending d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id LEFT JOIN posthorn.payloads c ON c.event_id = d.event_id WHERE d.id = $1`

const sqlShowFinal = `SELECT ` + finalColumns + sqlShown + `, substring(d.payload FOR $2), coalesce(length(d.payload), 0)
FROM posthorn.deliveries d LEFT JOIN posthorn.endpoints e ON e.id = d.endpoint_id WHERE d.id = $1 LIMIT 1`

const sqlTries = `SELECT number, started_at, outcome, coalesce(status, 0), coalesce(error, ''), response,
  coalesce(dns_us, 0), coalesce(connect_us, 0), coalesce(tls_us, 0), coalesce(first_byte_us, 0), total_us
FROM posthorn.attempts WHERE created_at = $1 AND delivery_id = $2 ORDER BY number LIMIT 1000`

// Show returns all that the ledger holds of a delivery, or ErrUnknownDelivery.
func (l *Ledger) Show(ctx context.Context, id uuid.UUID) (*Detail, error) {
	var d *Detail
	err := l.searching(ctx, func(s *searcher) (err error) {
		d, err = s.show(ctx, id)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("delivery %s: %w", id, ErrUnknownDelivery)
	case err != nil:
		return nil, fmt.Errorf("read delivery %s: %w", id, err)
	}
	return d, nil
}

func (s *searcher) show(ctx context.Context, id uuid.UUID) (*Detail, error) {
	d, err := s.detail(ctx, sqlShowPending, id)
	if errors.Is(err, pgx.ErrNoRows) {
		if err = s.use(ctx, blooms); err == nil {
			d, err = s.detail(ctx, sqlShowFinal, id)
		}
	}
	if err == nil {
		err = s.use(ctx, order)
	}
	if err != nil {
		return nil, err
	}
	rows, err := s.tx.Query(ctx, sqlTries, d.CreatedAt, id)
	if err == nil {
		d.Tries, err = pgx.CollectRows(rows, scanAttempt)
	}
	if err != nil {
		return nil, fmt.Errorf("read its attempts: %w", err)
	}
	return d, nil
}

func (s *searcher) detail(ctx context.Context, sql string, id uuid.UUID) (*Detail, error) {
	var (
		d             Detail
		method        *string
		headers, body []byte
	)
	err := s.tx.QueryRow(ctx, sql, id, shownBytes).Scan(append(d.columns(), &method, &headers, &body, &d.BodyBytes, &d.Payload, &d.PayloadBytes)...)
	if err == nil {
		d.Request, err = scanRequest(method, headers, body)
	}
	return &d, err
}

func scanAttempt(row pgx.CollectableRow) (a Attempt, err error) {
	var us [5]int64
	err = row.Scan(&a.Number, &a.StartedAt, &a.Outcome, &a.Status, &a.Error, &a.Response, &us[0], &us[1], &us[2], &us[3], &us[4])
	for i, d := range []*time.Duration{&a.DNS, &a.Connect, &a.TLS, &a.FirstByte, &a.Total} {
		*d = time.Duration(us[i]) * time.Microsecond
	}
	return a, err
}
