package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func memoryScenario() scenario {
	return scenario{
		name:  "memory",
		title: "Resident memory with the default buffer of 16 MiB",
		figures: []figure{
			{key: "idle", title: "idle", unit: "MiB", goal: 25, absolute: true, lower: true},
			{key: "draining", title: "most while draining a backlog", unit: "MiB", goal: 64, absolute: true, lower: true},
			{key: "endpoints", title: "1,000 endpoints, after an event to each", unit: "MiB", goal: 128, absolute: true, lower: true},
			{key: "endpoints peak", title: "1,000 endpoints, most since the start", unit: "MiB"},
		},
		run: runMemory,
	}
}

func runMemory(ctx context.Context, b *bench) (samples, error) {
	idle, _, err := b.memoryAtRest(ctx, endpointsConfig(1, concurrency, everything), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("idle: %w", err)
	}
	b.progress("idle: %s MiB", number(mebibytes(idle)))
	n := b.size(2000, 200_000, 500_000)
	draining, err := b.drainBacklog(ctx, endpointsConfig(1, concurrency, everything), backlog{events: n, deliveries: n, payload: defaultPayload})
	if err != nil {
		return nil, fmt.Errorf("draining: %w", err)
	}
	b.progress("draining: at most %s MiB", number(mebibytes(draining.peak)))
	endpoints := b.size(100, 1000, 1000)
	many, peak, err := b.memoryAtRest(ctx, endpointsConfig(endpoints, perEndpoint, everything), 1, endpoints)
	if err != nil {
		return nil, fmt.Errorf("%d endpoints: %w", endpoints, err)
	}
	b.progress("%d endpoints: %s MiB, at most %s", endpoints, number(mebibytes(many)), number(mebibytes(peak)))
	return samples{
		"idle":           {value: mebibytes(idle)},
		"draining":       {value: mebibytes(draining.peak)},
		"endpoints":      {value: mebibytes(many)},
		"endpoints peak": {value: mebibytes(peak)},
	}, nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// memoryAtRest returns what a relay has resident, in bytes, a while after it
// worked off a backlog of events, each to all of the endpoints.
func (b *bench) memoryAtRest(ctx context.Context, config string, events, endpoints int) (now, peak int64, err error) {
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	if events > 0 {
		if err := o.fill(ctx, events, 1, defaultPayload, 0); err != nil {
			return 0, 0, err
		}
	}
	p, err := b.startRelay(ctx, o, config)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if events > 0 {
		if _, err := b.drained(ctx, p, events*endpoints, limitOf(events*endpoints)); err != nil {
			return 0, 0, err
		}
	}
	rest := time.Duration(b.size(1, 10, 10)) * time.Second
	if err := wait(ctx, rest); err != nil {
		return 0, 0, err
	}
	return p.rss(), p.peak(), nil
}

// wait returns after d, or with an error once ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
