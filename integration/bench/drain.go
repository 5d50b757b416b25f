package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// concurrency is how many requests are in flight at once, unless the scenario
// is about it.
const concurrency = 64

// load is the backlog that each contender of a scenario finds when it starts.
type load struct {
	events         int
	perTransaction int
	payload        int           // bytes; 0: the default
	delay          time.Duration // of the endpoint's answer
	limit          time.Duration // of a drain
}

// cost is what a drain came to.
type cost struct {
	rate   float64       // events a second
	cpu    time.Duration // of the contender
	server time.Duration // CPU of all of Postgres
}

// relayConfig has one endpoint, whose requests are signed.
func relayConfig(ordering string, concurrency int) string {
	return fmt.Sprintf(`
profiles:
  bench:
    signatures: [{scheme: hmac, header: X-Signature, content: "{body}", value: "sha256={signature}"}]
    ordering: %s
    concurrency: %d
endpoints:
  - {name: bench, url: "${RECEIVER}%s", events: ["*"], secret: "${SECRET}", profile: bench}
`, ordering, concurrency, path)
}

// drainRelay has the relay drain the load.
func (b *bench) drainRelay(ctx context.Context, l load, ordering string, concurrency int) (cost, error) {
	config := relayConfig(ordering, concurrency)
	c, err := b.drain(ctx, l, config, contender{
		name:  "relay, ordering " + ordering,
		start: func(o *outbox) (*process, error) { return b.startRelay(ctx, o, config) },
		recorded: func(o *outbox, p *process) error {
			if err := o.confirmed(ctx, p, l.limit); err != nil {
				return err
			}
			b.progress("relay, ordering %s: the ledger has all after %s", ordering,
				time.Since(time.Unix(0, b.receiver.total.first.Load())).Round(time.Millisecond))
			return nil
		},
		// What it parked is recorded after the slot has passed it.
		check: func(o *outbox, p *process) error {
			return b.awaitEvery(ctx, queryEvery, p, time.Minute, func() error { return o.hasDelivered(ctx, l.events) })
		},
	}, concurrency)
	return c, err
}

// hasDelivered returns an error unless the ledger has n deliveries, all of
// them delivered.
func (o *outbox) hasDelivered(ctx context.Context, n int) error {
	got, err := o.count(ctx, `SELECT count(*) FROM posthorn.deliveries WHERE state = 'delivered'`)
	if err == nil && got != n {
		err = fmt.Errorf("the ledger has %d deliveries, not %d", got, n)
	}
	return err
}

// drainPipeline has the reference pipeline drain the load.
func (b *bench) drainPipeline(ctx context.Context, l load, args ...string) (cost, error) {
	return b.drain(ctx, l, relayConfig("key", concurrency), contender{
		name:    "pipeline",
		prepare: func(o *outbox) error { return o.slotFor(ctx, "pipeline") },
		start:   func(o *outbox) (*process, error) { return b.startReference(ctx, o, "pipeline", args...) },
	}, concurrency)
}

// drainPoll has the reference poll drain the load.
func (b *bench) drainPoll(ctx context.Context, l load) (cost, error) {
	l.perTransaction = pollBatch // they are copied from the outbox
	return b.drain(ctx, l, relayConfig("none", concurrency), contender{
		name:   "poll",
		filled: func(o *outbox) error { return o.fillPolled(ctx) },
		start:  func(o *outbox) (*process, error) { return b.startReference(ctx, o, "poll") },
		recorded: func(o *outbox, p *process) error {
			return b.awaitEvery(ctx, queryEvery, p, l.limit, func() error {
				n, err := o.count(ctx, sqlPollOpen)
				if err == nil && n > 0 {
					err = fmt.Errorf("%d events are not marked done", n)
				}
				return err
			})
		},
	}, concurrency)
}

// contender is who drains a load. What it has no function for it needs not.
type contender struct {
	name     string
	prepare  func(*outbox) error // before anything is written
	filled   func(*outbox) error // after the load is written
	start    func(*outbox) (*process, error)
	recorded func(*outbox, *process) error // returns once it is done with all events that it delivered
	check    func(*outbox, *process) error // in the end
}

// drain writes the load, has a contender drain it, and checks that each event
// arrived once. The rate is that from the first request to the last event; CPU
// counts from the contender's start until all is recorded.
func (b *bench) drain(ctx context.Context, l load, config string, c contender, inFlight int) (_ cost, err error) {
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	optional := func(step func(*outbox) error) error {
		if step == nil {
			return nil
		}
		return step(o)
	}
	if err := optional(c.prepare); err != nil {
		return cost{}, err
	}
	if err := o.fill(ctx, l.events, l.perTransaction, l.payload, defaultKeys); err != nil {
		return cost{}, err
	}
	if err := optional(c.filled); err != nil {
		return cost{}, err
	}
	endpoint := b.receiver.endpoint(path)
	endpoint.set(l.delay, false)
	server := b.serverCPU()
	p, err := c.start(o)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	took, err := b.drained(ctx, p, l.events, l.limit)
	if err != nil {
		return cost{}, err
	}
	if c.recorded != nil {
		if err := c.recorded(o, p); err != nil {
			return cost{}, err
		}
	}
	atOnce := 1
	if l.delay > 0 {
		atOnce = inFlight // come before the first answer
	}
	result := cost{
		rate: float64(l.events-atOnce) / took.Seconds(),
		cpu:  p.cpu(), server: b.serverCPU() - server,
	}
	b.progress("%s: %s events/s", c.name, number(result.rate))
	if c.check != nil {
		err = c.check(o, p)
	}
	return result, errors.Join(endpoint.exactly(l.events), err)
}

// fillPolled moves the events to the table that poll takes them from.
func (o *outbox) fillPolled(ctx context.Context) error {
	for _, sql := range []string{sqlPollTable, sqlPollSettle, `CHECKPOINT`} {
		if _, err := o.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("fill the table of poll: %w", err)
		}
	}
	return nil
}

func drainScenario() scenario {
	return scenario{
		name:  "drain",
		title: "Drain of a backlog, one event a transaction",
		figures: []figure{
			{key: "none", title: "ordering: none", unit: "events/s", reference: "pipeline", goal: 1},
			{key: "key", title: "ordering: key", unit: "events/s", reference: "pipeline", goal: 1},
			{key: "cpu", title: "relay's CPU per 1,000 deliveries", unit: "ms", reference: "pipeline", goal: 1.2, lower: true},
			{key: "postgres", title: "Postgres' CPU per 1,000 events", unit: "ms", reference: "pipeline", goal: 1.5, lower: true},
			{key: "postgres poll", title: "Postgres' CPU per 1,000 events", unit: "ms", reference: "poll", goal: 1, lower: true},
		},
		run: func(ctx context.Context, b *bench) (samples, error) {
			l := load{events: b.size(500, 200_000, 200_000), perTransaction: 1, limit: 5 * time.Minute}
			got, err := b.drainBoth(ctx, l)
			if err != nil {
				return nil, err
			}
			poll, err := b.drainPoll(ctx, l)
			if err != nil {
				return nil, err
			}
			s := got.samples(l.events)
			s["postgres poll"] = sample{s["postgres"].value, perThousand(poll.server, l.events)}
			return s, nil
		},
	}
}

func transactionsScenario() scenario {
	return scenario{
		name:  "transactions",
		title: "Drain of a backlog, 100 events a transaction",
		figures: []figure{
			{key: "none", title: "ordering: none", unit: "events/s", reference: "pipeline", goal: 1},
			{key: "key", title: "ordering: key", unit: "events/s", reference: "pipeline", goal: 1},
		},
		run: func(ctx context.Context, b *bench) (samples, error) {
			l := load{events: b.size(500, 200_000, 200_000), perTransaction: 100, limit: 5 * time.Minute}
			got, err := b.drainBoth(ctx, l)
			if err != nil {
				return nil, err
			}
			s := got.samples(l.events)
			return samples{"none": s["none"], "key": s["key"]}, nil
		},
	}
}

// drains are those of the relay and of the pipeline over the same load.
type drains struct{ none, key, pipeline cost }

// drainBoth has the pipeline and the relay, with and without key order, drain
// the load.
func (b *bench) drainBoth(ctx context.Context, l load) (d drains, err error) {
	if d.none, err = b.drainRelay(ctx, l, "none", concurrency); err != nil {
		return d, err
	}
	if d.pipeline, err = b.drainPipeline(ctx, l); err != nil {
		return d, err
	}
	d.key, err = b.drainRelay(ctx, l, "key", concurrency)
	return d, err
}

// samples are the rates, and CPU as the mean of both of the relay's drains.
func (d drains) samples(events int) samples {
	return samples{
		"none":     {d.none.rate, d.pipeline.rate},
		"key":      {d.key.rate, d.pipeline.rate},
		"cpu":      {perThousand(d.none.cpu+d.key.cpu, 2*events), perThousand(d.pipeline.cpu, events)},
		"postgres": {perThousand(d.none.server+d.key.server, 2*events), perThousand(d.pipeline.server, events)},
	}
}

// perThousand returns the milliseconds of CPU per 1,000 of n events.
func perThousand(cpu time.Duration, n int) float64 {
	return cpu.Seconds() * 1000 / (float64(n) / 1000)
}
