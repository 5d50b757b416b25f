package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Endpoint is how one endpoint does.
type Endpoint struct {
	Name     string
	InFlight int
	Waiting  int   // read and not yet sent
	Pending  int64 // in the ledger and not final
	Failing  bool
	Overflow bool
	State    string // enabled, paused or disabled
}

// Plugin is how one plugin does.
type Plugin struct {
	Name     string
	Running  int // processes
	Restarts uint64
	Calls    uint64
	Failures uint64 // of the calls
}

// Snapshot is how the relay does at a moment.
type Snapshot struct {
	Role            string // active, standby or connecting
	Endpoints       []Endpoint
	Plugins         []Plugin
	Buffered        int64     // bytes read and not yet settled
	LedgerBacklog   int       // outcomes that are not written yet
	LedgerDown      bool      // the newest outcomes could not be written
	Flushed         string    // the position that is recorded and confirmed; "" when it is not this relay's turn
	OldestUnsettled time.Time // commit time; zero when everything is settled
	SlotLag         int64     // bytes of WAL that are not confirmed
	SlotRetained    int64     // bytes of WAL that Postgres keeps for the slot
	SlotKnown       bool      // the two above were read lately
}

// Metrics counts what the relay does. It is safe for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	events    prometheus.Counter
	attempts  *prometheus.CounterVec
	finished  *prometheus.CounterVec
	delivered prometheus.Histogram
	reloads   *prometheus.CounterVec
	reloaded  prometheus.Gauge
	own       *prometheus.CounterVec

	mu   sync.Mutex
	gone ledger.Count // what was counted of endpoints that are forgotten
}

// NewMetrics returns metrics that read gauges off snapshot at each scrape.
func NewMetrics(version string, snapshot func() Snapshot) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "posthorn_events_total", Help: "Events of the application read from the stream, those that match no endpoint and those that are read again after a restart too.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthorn_attempts_total", Help: "Delivery attempts, by endpoint and what came of them: delivered, rejected (an answer other than 2xx) or failed (no answer).",
		}, []string{"endpoint", "outcome"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthorn_deliveries_total", Help: "Deliveries that became final, by endpoint and state: delivered, failed or skipped.",
		}, []string{"endpoint", "state"}),
		delivered: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "posthorn_delivery_seconds", Help: "Time from an event's commit to its delivery, retries included.",
			Buckets: latencyBuckets(),
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthorn_config_reloads_total", Help: "Configurations that the running relay was to change to, by outcome: applied, unchanged or refused.",
		}, []string{"outcome"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "posthorn_config_last_reload_success", Help: "0 while the relay runs on although the newest configuration was refused, else 1.",
		}),
	}
	m.own = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthorn_operational_events_total", Help: "What happened to the relay itself, by the type that endpoints get it as, such as posthorn.endpoint.paused.",
	}, []string{"type"})
	m.reloaded.Set(1)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "posthorn_build_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(info, m.events, m.attempts, m.finished, m.delivered, m.reloads, m.reloaded, m.own, &gauges{snapshot: snapshot},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Event counts one event that was read from the stream.
func (m *Metrics) Event() { m.events.Inc() }

// Attempts returns what counts one attempt.
func (m *Metrics) Attempts(endpoint, outcome string) (count func()) {
	return m.attempts.WithLabelValues(endpoint, outcome).Inc
}

// Delivered takes the time from an event's commit to its delivery.
func (m *Metrics) Delivered(sinceCommit time.Duration) {
	m.delivered.Observe(sinceCommit.Seconds())
}

// Finals returns what counts one delivery that became final.
func (m *Metrics) Finals(endpoint string, state ledger.State) (count func()) {
	return m.finished.WithLabelValues(endpoint, string(state)).Inc
}

// Forget drops what was counted of an endpoint that is gone, but not from what
// was counted of all.
func (m *Metrics) Forget(endpoint string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = plus(m.gone, m.counted(endpoint))
	labels := prometheus.Labels{"endpoint": endpoint}
	m.attempts.DeletePartialMatch(labels)
	m.finished.DeletePartialMatch(labels)
}

// Reloaded counts one configuration to change to, by what became of it: applied,
// unchanged or refused.
func (m *Metrics) Reloaded(outcome string) {
	m.reloads.WithLabelValues(outcome).Inc()
	m.reloaded.Set(number(outcome != "refused"))
}

// Operational counts one operational event, by its type.
func (m *Metrics) Operational(eventType string) { m.own.WithLabelValues(eventType).Inc() }

// gauges reads a snapshot at each scrape.
type gauges struct{ snapshot func() Snapshot }

var (
	descActive   = prometheus.NewDesc("posthorn_active", "1 on the relay that holds the slot, 0 on one that waits.", nil, nil)
	descLag      = prometheus.NewDesc("posthorn_slot_lag_bytes", "WAL that the relay has not confirmed yet.", nil, nil)
	descRetained = prometheus.NewDesc("posthorn_slot_retained_bytes", "WAL that Postgres keeps on disk for the slot.", nil, nil)
	descBuffered = prometheus.NewDesc("posthorn_buffer_bytes", "Bytes read from the stream and not yet settled; source.buffer bounds them.", nil, nil)
	descOldest   = prometheus.NewDesc("posthorn_oldest_unsettled_seconds", "Age of the oldest event that was read and whose outcome or parking is not recorded; 0 when there is none.", nil, nil)
	descBacklog  = prometheus.NewDesc("posthorn_ledger_backlog", "Outcomes that are not written to the ledger yet.", nil, nil)
	descDown     = prometheus.NewDesc("posthorn_ledger_unwritable", "1 while the ledger refuses or does not answer: nothing is acknowledged, and soon nothing is sent.", nil, nil)
	descInFlight = prometheus.NewDesc("posthorn_in_flight", "Requests being made, by endpoint.", []string{"endpoint"}, nil)
	descWaiting  = prometheus.NewDesc("posthorn_waiting", "Deliveries in memory that are not being sent yet, by endpoint.", []string{"endpoint"}, nil)
	descPending  = prometheus.NewDesc("posthorn_pending", "Deliveries parked in the ledger, waiting for a retry or for their endpoint, by endpoint.", []string{"endpoint"}, nil)
	descFailing  = prometheus.NewDesc("posthorn_endpoint_failing", "1 while first attempts are parked because the endpoint fails.", []string{"endpoint"}, nil)
	descState    = prometheus.NewDesc("posthorn_endpoint_state", "Always 1; the endpoint's state is a label: enabled, paused or disabled.", []string{"endpoint", "state"}, nil)
	descPlugin   = prometheus.NewDesc("posthorn_plugin_up", "Processes of the plugin that run.", []string{"plugin"}, nil)
	descRestarts = prometheus.NewDesc("posthorn_plugin_restarts_total", "Starts of the plugin's processes beside their first, failed ones too.", []string{"plugin"}, nil)
	descCalls    = prometheus.NewDesc("posthorn_plugin_calls_total", "Calls of the plugin, by outcome: ok, or failed as a whole.", []string{"plugin", "outcome"}, nil)
	descOverflow = prometheus.NewDesc("posthorn_endpoint_overflow", "1 while the endpoint is too slow for its deliveries to wait in memory.", []string{"endpoint"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descActive, descLag, descRetained, descBuffered, descOldest, descBacklog, descDown,
		descInFlight, descWaiting, descPending, descFailing, descOverflow, descState,
		descPlugin, descRestarts, descCalls,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	s := g.snapshot()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descActive, number(s.Role == RoleActive))
	if s.SlotKnown {
		gauge(descLag, float64(s.SlotLag))
		gauge(descRetained, float64(s.SlotRetained))
	}
	for _, p := range s.Plugins { // on standbys too
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
		}
		gauge(descPlugin, float64(p.Running), p.Name)
		count(descRestarts, p.Restarts, p.Name)
		count(descCalls, p.Calls-min(p.Calls, p.Failures), p.Name, "ok") // they are not read at one moment
		count(descCalls, p.Failures, p.Name, "failed")
	}
	if s.Endpoints == nil { // not this relay's turn
		return
	}
	gauge(descBuffered, float64(s.Buffered))
	gauge(descBacklog, float64(s.LedgerBacklog))
	gauge(descDown, number(s.LedgerDown))
	age := 0.0
	if !s.OldestUnsettled.IsZero() {
		age = max(0, time.Since(s.OldestUnsettled).Seconds())
	}
	gauge(descOldest, age)
	for _, e := range s.Endpoints {
		gauge(descInFlight, float64(e.InFlight), e.Name)
		gauge(descWaiting, float64(e.Waiting), e.Name)
		gauge(descPending, float64(e.Pending), e.Name)
		gauge(descFailing, number(e.Failing), e.Name)
		gauge(descOverflow, number(e.Overflow), e.Name)
		gauge(descState, 1, e.Name, e.State)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
