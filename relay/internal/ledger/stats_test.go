package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestQuantileIsWithinItsBucket(t *testing.T) {
	buckets := func(n ...int64) []int64 {
		all := make([]int64, len(LatencyBounds)+1)
		copy(all, n)
		return all
	}
	above := buckets()
	above[len(LatencyBounds)] = 5
	cases := []struct {
		name    string
		latency []int64
		q       float64
		want    time.Duration
	}{
		{"nothing", buckets(), 0.5, 0},
		{"no buckets", nil, 0.99, 0},
		{"the middle of the first", buckets(10), 0.5, 500 * time.Microsecond},
		{"the end of the first", buckets(50, 0, 50), 0.5, time.Millisecond},
		{"a later one", buckets(50, 0, 50), 0.75, 3750 * time.Microsecond},
		{"the last", buckets(99, 0, 0, 1), 1, 10 * time.Millisecond},
		{"above all bounds", above, 0.5, 24 * time.Hour},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Quantile(c.latency, c.q); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// sample keeps a sample whose span ended ago before now.
func (l *Ledger) sample(t *testing.T, s Sample, ago time.Duration) {
	t.Helper()
	s.Took = ago + s.Span
	if err := l.Record(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
}

func TestSeriesAddUpTheSpansOfTheirSteps(t *testing.T) {
	l := acquire(t, open(t))
	other := Endpoint{ID: erp().ID, Name: "other", Tenant: "t2", Enabled: true}
	other.ID[0]++
	l.sync(t, erp(), other)
	fast, slow := make([]int64, len(LatencyBounds)+1), make([]int64, len(LatencyBounds)+1)
	fast[0], slow[4] = 10, 10
	count := Count{Events: 10, Delivered: 9, Failed: 1, Attempts: 12, FailedAttempts: 3, Latency: fast}
	slowly := count
	slowly.Latency = slow
	until := time.Now().Truncate(time.Second)
	for _, s := range []struct {
		span time.Duration
		ago  time.Duration
		all  Count
	}{{SpanShort, 5 * time.Second, count}, {SpanShort, 15 * time.Second, slowly}, {SpanShort, 65 * time.Second, count}, {SpanMiddle, 5 * time.Second, count}, {SpanLong, 5 * time.Second, count}} {
		l.sample(t, Sample{Span: s.span, All: s.all, Endpoints: map[string]Count{"erp": {Delivered: 7, Attempts: 8, FailedAttempts: 1}, other.ID.String(): {Failed: 2}, "gone": {Failed: 3}}}, s.ago)
	}
	short, err := l.Series(t.Context(), StatsQuery{From: until.Add(-2 * time.Minute), Until: until.Add(time.Minute), Step: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	sum := func(points []Point) (total Point) {
		for i, p := range points {
			total.Events += p.Events
			total.Delivered += p.Delivered
			total.Failed += p.Failed
			total.Attempts += p.Attempts
			total.FailedAttempts += p.FailedAttempts
			if total.P50 == 0 {
				total.P50 = p.P50
			}
			if i > 0 && !p.At.After(points[i-1].At) {
				t.Errorf("%s follows %s", p.At, points[i-1].At)
			}
		}
		return total
	}
	if len(short) != 6 {
		t.Errorf("%d points", len(short))
	}
	want := Point{Events: 30, Delivered: 27, Failed: 3, Attempts: 36, FailedAttempts: 9, P50: 500 * time.Microsecond}
	if diff := cmp.Diff(want, sum(short)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	of := func(q StatsQuery) Point {
		t.Helper()
		q.From, q.Until = until.Add(-time.Hour), until.Add(time.Minute)
		points, err := l.Series(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return sum(points)
	}
	if got := of(StatsQuery{Step: SpanMiddle, Endpoint: "erp"}); got != (Point{Delivered: 7, Attempts: 8, FailedAttempts: 1}) {
		t.Errorf("of one endpoint %+v", got)
	}
	if got := of(StatsQuery{Step: SpanLong, Scope: "t2"}); got != (Point{Failed: 2}) {
		t.Errorf("of one tenant %+v", got)
	}
	l.sample(t, Sample{Span: SpanMiddle, All: count, Endpoints: map[string]Count{"erp": {Delivered: 2}}}, -SpanMiddle) // after the last long one
	if got := of(StatsQuery{Step: SpanLong, Endpoint: "erp"}); got != (Point{Delivered: 9, Attempts: 8, FailedAttempts: 1}) {
		t.Errorf("of one endpoint, in long spans, %+v", got)
	}
	if got := of(StatsQuery{Step: SpanLong, Scope: "nobody"}); got != (Point{}) {
		t.Errorf("of nobody %+v", got)
	}
	if _, err := l.Series(t.Context(), StatsQuery{From: until.Add(-time.Hour), Until: until, Step: SpanLong, Endpoint: "erp", Scope: "t2"}); !errors.Is(err, ErrUnknownEndpoint) {
		t.Errorf("another tenant's endpoint: %v", err)
	}
	total, err := l.Total(t.Context(), StatsQuery{From: until.Add(-time.Hour), Until: until.Add(time.Minute), Step: SpanShort})
	if err != nil || total.Delivered != 27 || total.Latency[0] != 20 || total.Latency[4] != 10 {
		t.Errorf("in total %+v, %v", total, err)
	}
}

func TestSeriesGiveTheHighestLevelsOfTheirSteps(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	until := time.Now().Truncate(time.Second)
	bytes := func(n int64) *int64 { return &n }
	high := Levels{Parked: 9, Unsettled: 1500 * time.Microsecond, SlotLag: bytes(0), SlotRetained: bytes(7)}
	for ago, peak := range map[time.Duration]Levels{25 * time.Second: {Parked: 3, SlotLag: bytes(-1)}, 15 * time.Second: high, 5 * time.Second: {Unsettled: time.Millisecond}} {
		l.sample(t, Sample{Span: SpanMiddle, Peak: peak, Endpoints: map[string]Count{"erp": {Delivered: 1}}}, ago)
	}
	series := func(q StatsQuery) []Point {
		t.Helper()
		q.From, q.Until = until.Add(-4*time.Minute), until
		points, err := l.Series(t.Context(), q)
		if err != nil || len(points) != 2 {
			t.Fatalf("%d points, %v", len(points), err)
		}
		return points
	}
	all := series(StatsQuery{Step: 2 * time.Minute})
	if all[0].Peak != nil {
		t.Errorf("before there was a relay: %+v", all[0].Peak)
	}
	if diff := cmp.Diff(&high, all[1].Peak); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
	if one := series(StatsQuery{Step: 2 * time.Minute, Endpoint: "erp"}); one[1].Delivered != 3 || one[1].Peak != nil {
		t.Errorf("of one endpoint: %+v", one[1])
	}
}

func TestANameIsTheConfiguredEndpointsWhateverTenantsCallTheirs(t *testing.T) {
	l := acquire(t, open(t))
	l.sync(t, erp())
	planted := uuid.UUID{} // sorts before all
	planted[15] = 1
	if _, err := l.redefine(t.Context(), planted, true, Redefined{Name: "erp", Tenant: "t9", Enabled: true}); err != nil {
		t.Fatal(err)
	}
	l.sample(t, Sample{Span: SpanMiddle, Endpoints: map[string]Count{"erp": {Delivered: 7}, planted.String(): {Delivered: 1}}}, 5*time.Second)
	for _, tt := range []struct {
		endpoint, scope string
		want            int64
	}{{"erp", "", 7}, {"erp", "t9", 1}, {planted.String(), "", 1}, {erp().ID.String(), "", 7}} {
		total, err := l.Total(t.Context(), StatsQuery{Endpoint: tt.endpoint, Scope: tt.scope, From: time.Now().Add(-time.Hour), Until: time.Now(), Step: SpanMiddle})
		if err != nil || total.Delivered != tt.want {
			t.Errorf("of %q for %q %d were delivered, want %d; %v", tt.endpoint, tt.scope, total.Delivered, tt.want, err)
		}
	}
	if turned := l.pause(t, ""); turned.ID != erp().ID {
		t.Errorf("%s was paused", turned.ID)
	}
}

func TestRelayThatLostItsSlotKeepsNoStats(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	l.sync(t, erp())
	acquire(t, pool)
	l.sample(t, Sample{Span: SpanMiddle, All: Count{Events: 1}, Endpoints: map[string]Count{"erp": {Delivered: 1}}}, 0)
	if n := texts(t, pool, `SELECT count(*)::text FROM posthorn.stats`); n[0] != "0" {
		t.Errorf("%s rows", n[0])
	}
}

func TestPendingNowIsBoundedAndOfWhom(t *testing.T) {
	pool := open(t)
	l := acquire(t, pool)
	fillDays(t, pool, 10)
	all, err := l.List(t.Context(), Filter{States: []State{Pending, Sending}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []StatsQuery{{}, {Endpoint: "e2"}, {Scope: "t1"}, {Scope: "t1", Endpoint: "e2"}} {
		f := Filter{Endpoint: q.Endpoint, Scope: q.Scope, Limit: 1000}
		want := naive(all, &f, true)
		got, err := l.PendingNow(t.Context(), q)
		if err != nil || got.Rows != int64(len(want)) || got.More || (got.Oldest == nil) != (len(want) == 0) || len(want) > 0 && !got.Oldest.Equal(want[0].CreatedAt) {
			t.Errorf("%+v: %+v, %v, not %d", q, got, err, len(want))
		}
	}
}
