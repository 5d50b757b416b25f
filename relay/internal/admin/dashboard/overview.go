package dashboard

import (
	"encoding/json"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// span is a time that charts can show, and how long a point of it is.
type span struct {
	Key  string
	Name string
	Last string // after "the last"
	All  time.Duration
	Step time.Duration
}

var spans = []span{
	{"15m", "15 minutes", "15 minutes", 15 * time.Minute, 20 * time.Second},
	{"1h", "1 hour", "hour", time.Hour, time.Minute},
	{"6h", "6 hours", "6 hours", 6 * time.Hour, 5 * time.Minute},
	{"24h", "24 hours", "24 hours", 24 * time.Hour, 15 * time.Minute},
	{"7d", "7 days", "7 days", 7 * 24 * time.Hour, 2 * time.Hour},
}

// of returns the span for an endpoint, "" for all: what is one's is recorded by
// the minute.
func (s span) of(endpoint string) span {
	if endpoint != "" {
		s.Step = max(s.Step, time.Minute)
	}
	return s
}

// spanOf returns the span that a request asks for, or the one before all.
func spanOf(q *request) span {
	for _, s := range spans {
		if q.URL.Query().Get("span") == s.Key {
			return s
		}
	}
	return spans[0]
}

// written is how long after a step's end its figures stand in the ledger: those
// of one endpoint are written each minute.
func written(endpoint string) time.Duration {
	if endpoint == "" {
		return 15 * time.Second
	}
	return 75 * time.Second
}

// stats returns those of an endpoint, "" for all, for the last so long, of steps
// that are complete: others would look as if less had happened.
func (d *Dashboard) stats(q *request, endpoint string, s span) (*admin.Stats, error) {
	step := s.of(endpoint).Step
	until := time.Now().Add(-written(endpoint)).Truncate(min(step, time.Minute))
	return d.Control.Stats(q.Context(), q.who, ledger.StatsQuery{From: until.Add(-s.All), Until: until, Step: step, Endpoint: endpoint})
}

// home leads to the first page that the caller has.
func (d *Dashboard) home(q *request) (*answer, error) {
	return &answer{redirect: navigation(q.who)[0].Path}, nil
}

// overviewBody is what the overview shows.
type overviewBody struct {
	*admin.Stats
	Stream  admin.Snapshot
	Known   bool // the stream's numbers are this relay's
	Trouble []ledger.EndpointStatus
	Total   int
	Newest  []ledger.Delivery
	Span    span
	Spans   []span
	Bars    *bars
}

// Unsettled returns how old the oldest event is that is not recorded.
func (o *overviewBody) Unsettled() time.Duration {
	if o.Now.OldestUnsettled == nil {
		return 0
	}
	return max(time.Millisecond, time.Since(*o.Now.OldestUnsettled))
}

const maxTrouble = 8

func (d *Dashboard) overview(q *request) (*answer, error) {
	o := &overviewBody{Stream: d.Snapshot(), Span: spanOf(q), Spans: spans}
	var err error
	if o.Stats, err = d.stats(q, "", o.Span); err != nil {
		return nil, err
	}
	o.Known, o.Bars = o.Stream.Role == admin.RoleActive, barsOf(o.Series, o.Span.All)
	all, err := d.Control.Endpoints(q.Context(), q.who, false)
	if err != nil {
		return nil, err
	}
	o.Total = len(all)
	for i := range all {
		if len(o.Trouble) < maxTrouble && healthOf(&all[i]).bad() {
			o.Trouble = append(o.Trouble, all[i])
		}
	}
	if o.Newest, err = d.Control.List(q.Context(), q.who, ledger.Filter{Limit: 8}); err != nil {
		return nil, err
	}
	a := &answer{page: "overview", title: "Overview", section: "overview", body: o}
	if q.partial() {
		a.part = "refresh"
	}
	return a, nil
}

// series is what charts are drawn from: columns over time, in seconds.
type series struct {
	At        []int64   `json:"at"`
	Events    []float64 `json:"events"`    // a second
	Delivered []float64 `json:"delivered"` // a second
	Failed    []float64 `json:"failed"`    // a second
	Attempts  []float64 `json:"attempts"`  // a second
	Missed    []float64 `json:"missed"`    // failed attempts a second
	P50       []any     `json:"p50"`       // milliseconds, null where nothing was delivered
	P95       []any     `json:"p95"`
	P99       []any     `json:"p99"`
	Share     []any     `json:"share"`     // of attempts that succeed, null where none was made
	Parked    []any     `json:"parked"`    // the most; this and what follows null where nobody knew
	Unsettled []any     `json:"unsettled"` // milliseconds
	Lag       []any     `json:"lag"`       // bytes
	Retained  []any     `json:"retained"`  // bytes
}

func seriesOf(points []ledger.Point, step time.Duration) *series {
	s := &series{At: []int64{}, Events: []float64{}, Delivered: []float64{}, Failed: []float64{}, Attempts: []float64{}, Missed: []float64{}, P50: []any{}, P95: []any{}, P99: []any{},
		Share: []any{}, Parked: []any{}, Unsettled: []any{}, Lag: []any{}, Retained: []any{}}
	ms := func(d time.Duration) any {
		if d == 0 {
			return nil
		}
		return round(float64(d.Microseconds()) / 1000)
	}
	known := func(n *int64) any {
		if n == nil {
			return nil
		}
		return *n
	}
	for _, p := range points {
		s.At = append(s.At, p.At.Unix())
		s.Events = append(s.Events, float64(p.Events)/step.Seconds())
		s.Delivered = append(s.Delivered, float64(p.Delivered)/step.Seconds())
		s.Failed = append(s.Failed, float64(p.Failed)/step.Seconds())
		s.Attempts = append(s.Attempts, float64(p.Attempts)/step.Seconds())
		s.Missed = append(s.Missed, float64(p.FailedAttempts)/step.Seconds())
		s.P50, s.P95, s.P99 = append(s.P50, ms(p.P50)), append(s.P95, ms(p.P95)), append(s.P99, ms(p.P99))
		var share, parked, unsettled, lag, retained any
		if p.Attempts > 0 {
			share = 1 - float64(p.FailedAttempts)/float64(p.Attempts)
		}
		if peak := p.Peak; peak != nil {
			parked, unsettled, lag, retained = peak.Parked, peak.Unsettled.Milliseconds(), known(peak.SlotLag), known(peak.SlotRetained)
		}
		s.Share, s.Parked, s.Unsettled = append(s.Share, share), append(s.Parked, parked), append(s.Unsettled, unsettled)
		s.Lag, s.Retained = append(s.Lag, lag), append(s.Retained, retained)
	}
	return s
}

// statsJSON gives app.js what it draws.
func (d *Dashboard) statsJSON(q *request) (*answer, error) {
	endpoint, s := q.URL.Query().Get("endpoint"), spanOf(q)
	if q.portal() && endpoint == "" || len(endpoint) > maxFilter {
		return nil, errNoPage
	}
	stats, err := d.stats(q, endpoint, s)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(seriesOf(stats.Series, s.of(endpoint).Step))
	return &answer{json: text}, err
}
