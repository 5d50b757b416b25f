package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	calmRate = 200 // events a second

	// warmUp is what is written before each turn and not counted: the first
	// event waits for a connection, for one.
	warmUp = 500 * time.Millisecond
)

func latencyScenario() scenario {
	return scenario{
		name:  "latency",
		title: "200 events a second",
		figures: []figure{
			{key: "p50", title: "commit to receipt, p50", unit: "ms", reference: "floor", goal: 1.5, lower: true},
			{key: "p99", title: "commit to receipt, p99", unit: "ms", reference: "floor", goal: 2, lower: true},
			{key: "cpu", title: "CPU per 1,000 deliveries", unit: "ms", reference: "floor", goal: 1.5, lower: true},
			{key: "net/http", title: "floor by net/http: commit to receipt, p50", unit: "ms", reference: "floor"},
			{key: "net/http cpu", title: "floor by net/http: CPU per 1,000 deliveries", unit: "ms", reference: "floor"},
		},
		run: runLatency,
	}
}

// calm is what a contender came to at a rate that is far from any limit.
type calm struct {
	took []time.Duration // from the commit's return to the receipt
	cpu  time.Duration
}

func runLatency(ctx context.Context, b *bench) (samples, error) {
	turns := b.size(1, 2, 4)
	config := relayConfig("none", concurrency)
	contenders := []struct {
		name  string
		start func(*outbox) (*process, error)
	}{
		{"floor", func(o *outbox) (*process, error) { return b.startReference(ctx, o, "floor") }},
		{"relay", func(o *outbox) (*process, error) { return b.startRelay(ctx, o, config) }},
		{"net/http", func(o *outbox) (*process, error) { return b.startReference(ctx, o, "floor", "-client=net/http") }},
	}
	got := make([]calm, len(contenders))
	for range turns {
		for i, c := range contenders {
			turn, err := b.calmTurn(ctx, config, c.start)
			if err != nil {
				return nil, err
			}
			got[i].took = append(got[i].took, turn.took...)
			got[i].cpu += turn.cpu
			b.progress("%s: p50 %s ms, p99 %s ms", c.name, number(milliseconds(percentile(turn.took, 50))), number(milliseconds(percentile(turn.took, 99))))
		}
	}
	floor, relay, withHTTP := got[0], got[1], got[2]
	cpu := func(c calm) float64 { return perThousand(c.cpu, len(c.took)) }
	p := func(c calm, p int) float64 { return milliseconds(percentile(c.took, p)) }
	return samples{
		"p50":          {p(relay, 50), p(floor, 50)},
		"p99":          {p(relay, 99), p(floor, 99)},
		"cpu":          {cpu(relay), cpu(floor)},
		"net/http":     {p(withHTTP, 50), p(floor, 50)},
		"net/http cpu": {cpu(withHTTP), cpu(floor)},
	}, nil
}

// calmTurn has a contender deliver events as they are committed by one
// session, and checks that each arrived once.
func (b *bench) calmTurn(ctx context.Context, config string, start func(*outbox) (*process, error)) (got calm, err error) {
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	if err := o.slotFor(ctx, "floor"); err != nil {
		return got, err
	}
	length := time.Duration(b.size(1, 5, 5)) * time.Second
	events := int((warmUp + length) * calmRate / time.Second)
	endpoint := b.receiver.endpoint(path)
	endpoint.keepArrivals(events)
	p, err := start(o)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := o.write(ctx, calmRate, warmUp, nil); err != nil {
		return got, err
	}
	if _, err := b.drained(ctx, p, o.written, time.Minute); err != nil {
		return got, err
	}
	cpu, warm := p.cpu(), o.written
	commits := make([]time.Time, 0, events-warm)
	if err := o.write(ctx, calmRate, length, func(_ int, at time.Time) { commits = append(commits, at) }); err != nil {
		return got, err
	}
	if _, err := b.drained(ctx, p, o.written, time.Minute); err != nil {
		return got, err
	}
	got.cpu = p.cpu() - cpu
	for i, at := range endpoint.arrivals()[warm:] {
		got.took = append(got.took, at.Sub(commits[i]))
	}
	return got, endpoint.exactly(o.written)
}

// percentile returns the p-th percentile of at least one.
func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)*p/100]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
