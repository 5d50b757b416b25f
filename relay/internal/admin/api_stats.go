package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

type statsInput struct {
	Endpoint string `query:"endpoint" maxLength:"256" doc:"Only of this endpoint, by name or id."`
	From     string `query:"from" format:"date-time" maxLength:"40" doc:"The series begins here; by default an hour before its end."`
	Until    string `query:"until" format:"date-time" maxLength:"40" doc:"The series ends here; by default now."`
	Step     string `query:"step" maxLength:"40" doc:"How long each point is, such as 10s or 1h; by default what makes about 60 points. Of one endpoint at least 1m, else 10s."`
}

type statsOutput struct{ Body stats }

type stats struct {
	Now    statsNow     `json:"now" doc:"Rates and times of the last minute; of one endpoint, and of a tenant, of the last five."`
	StepMS int64        `json:"step_ms" doc:"How long each point is, in milliseconds."`
	Series []statsPoint `json:"series" nullable:"false" doc:"The oldest first, those in which nothing happened too."`
}

type statsNow struct {
	EventsPerSecond     float64    `json:"events_per_second" doc:"Read from the stream; 0 of one endpoint, and of a tenant."`
	DeliveriesPerSecond float64    `json:"deliveries_per_second" doc:"That succeeded."`
	SuccessShare        float64    `json:"success_share" doc:"Of attempts, from 0 to 1; 1 without any."`
	P50MS               float64    `json:"p50_ms" doc:"From commit to delivery, in milliseconds, as are the next two; 0 without any, of one endpoint, and of a tenant."`
	P95MS               float64    `json:"p95_ms"`
	P99MS               float64    `json:"p99_ms"`
	Pending             int64      `json:"pending" doc:"Deliveries that are not final, counted up to 100,000."`
	PendingMore         bool       `json:"pending_more" doc:"Whether there are more than were counted."`
	OldestPending       *time.Time `json:"oldest_pending,omitempty" doc:"Commit time of the oldest one's event."`
	SlotLagBytes        *int64     `json:"slot_lag_bytes,omitempty" doc:"WAL that the relay has not confirmed; absent when it could not be read lately, and for a tenant."`
	SlotRetainedBytes   *int64     `json:"slot_retained_bytes,omitempty" doc:"WAL that Postgres keeps for the slot; absent as above."`
	OldestUnsettled     *time.Time `json:"oldest_unsettled,omitempty" doc:"Commit time of the oldest event that is not recorded; absent when there is none, on standbys, and for a tenant."`
}

type statsPoint struct {
	At             time.Time `json:"at" doc:"When it begins."`
	Events         int64     `json:"events" doc:"Read from the stream; 0 of one endpoint, and of a tenant."`
	Delivered      int64     `json:"delivered"`
	Failed         int64     `json:"failed" doc:"Deliveries that failed for good."`
	Attempts       int64     `json:"attempts"`
	FailedAttempts int64     `json:"failed_attempts"`
	P50MS          float64   `json:"p50_ms"`
	P95MS          float64   `json:"p95_ms"`
	P99MS          float64   `json:"p99_ms"`

	Parked            *int64   `json:"parked,omitempty" doc:"The most deliveries that waited in the ledger; this and what follows is absent of steps in which no relay delivered, of one endpoint, and of a tenant."`
	OldestUnsettledMS *float64 `json:"oldest_unsettled_ms,omitempty" doc:"The highest age of the oldest event that was not recorded, in milliseconds."`
	SlotLagBytes      *int64   `json:"slot_lag_bytes,omitempty" doc:"The most WAL that was not confirmed."`
	SlotRetainedBytes *int64   `json:"slot_retained_bytes,omitempty" doc:"The most WAL that Postgres kept for the slot."`
}

// The bounds of a series.
const (
	statsPoints  = 60 // without a step, about
	maxPoints    = 1000
	defaultStats = time.Hour
)

func (a *API) statsOperations() {
	register(a, operation{
		id: "show-stats", method: http.MethodGet, path: "/stats", role: Viewer, portal: true,
		summary: "Show figures now and over time", doc: "From what the active relay kept of its counters; for as long as the ledger keeps deliveries.",
		errors: []int{http.StatusNotFound},
	}, a.showStats)
}

// query returns what is asked for at a time, or the problem of a field.
func (in *statsInput) query(now time.Time, partly bool) (q ledger.StatsQuery, err error) {
	q = ledger.StatsQuery{Endpoint: in.Endpoint}
	if err := checkText("query.endpoint", in.Endpoint); err != nil {
		return q, err
	}
	if q.From, err = parseTime("query.from", in.From); err != nil {
		return q, err
	}
	if q.Until, err = parseTime("query.until", in.Until); err != nil {
		return q, err
	}
	if q.Until.IsZero() {
		q.Until = now
	}
	if q.From.IsZero() {
		q.From = q.Until.Add(-defaultStats)
	}
	if !q.From.Before(q.Until) || q.Until.Sub(q.From) > maxSince {
		return q, invalid("query.from", "is before until, by 100 years at most")
	}
	least := ledger.SpanShort
	if partly || q.Endpoint != "" {
		least = ledger.SpanMiddle
	}
	if in.Step == "" {
		q.Step = (q.Until.Sub(q.From)/statsPoints + least - 1).Truncate(least)
		q.Step = max(q.Step, least)
		return q, nil
	}
	if q.Step, err = time.ParseDuration(in.Step); err != nil || q.Step < least || q.Until.Sub(q.From)/q.Step >= maxPoints {
		return q, invalid("query.step", "is a duration of "+least.String()+" or more that makes at most 1000 points")
	}
	return q, nil
}

func (a *API) showStats(ctx context.Context, who *Caller, in *statsInput) (*statsOutput, error) {
	q, err := in.query(time.Now(), who.Tenant != "")
	if err != nil {
		return nil, err
	}
	s, err := a.Control.Stats(ctx, who, q)
	if err != nil {
		return nil, err
	}
	n := &s.Now
	out := stats{StepMS: q.Step.Milliseconds(), Series: []statsPoint{}, Now: statsNow{
		EventsPerSecond: n.EventsPerSecond, DeliveriesPerSecond: n.DeliveriesPerSecond, SuccessShare: n.SuccessShare,
		P50MS: inMS(n.P50), P95MS: inMS(n.P95), P99MS: inMS(n.P99),
		Pending: n.Pending, PendingMore: n.PendingMore, OldestPending: n.OldestPending, OldestUnsettled: n.OldestUnsettled,
	}}
	if n.SlotKnown {
		out.Now.SlotLagBytes, out.Now.SlotRetainedBytes = &n.SlotLag, &n.SlotRetained
	}
	for _, p := range s.Series {
		point := statsPoint{
			At: p.At, Events: p.Events, Delivered: p.Delivered, Failed: p.Failed, Attempts: p.Attempts, FailedAttempts: p.FailedAttempts,
			P50MS: inMS(p.P50), P95MS: inMS(p.P95), P99MS: inMS(p.P99),
		}
		if peak := p.Peak; peak != nil {
			unsettled := inMS(peak.Unsettled)
			point.Parked, point.OldestUnsettledMS, point.SlotLagBytes, point.SlotRetainedBytes = &peak.Parked, &unsettled, peak.SlotLag, peak.SlotRetained
		}
		out.Series = append(out.Series, point)
	}
	return &statsOutput{out}, nil
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
