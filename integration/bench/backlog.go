package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// backlog is what a relay finds when it starts.
type backlog struct {
	events     int
	deliveries int           // that come of them
	payload    int           // bytes of an event's
	delay      time.Duration // until the first endpoint's answer
	inFlight   int           // deliveries that come together at first, and do not count for the rate
	prepare    string        // SQL to run before the events are written; "" for none
}

// drain is how a relay worked a backlog off.
type drain struct {
	rate float64       // deliveries a second, from the first request to the last event
	cpu  time.Duration // of the relay, for one delivery
	peak int64         // bytes resident at most, from the relay's start on
}

const (
	slowest  = 1000        // deliveries a second: what is slower is given up
	patience = time.Minute // before that
)

// limitOf bounds the time that n deliveries may take.
func limitOf(n int) time.Duration { return patience + time.Duration(n)*time.Second/slowest }

// drainBacklog lets a relay, whose configuration is of endpointsConfig, work
// off a backlog that is written before it starts. It is an error when an event
// arrives twice.
func (b *bench) drainBacklog(ctx context.Context, config string, l backlog) (d drain, err error) {
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	b.receiver.endpoint("/e/1").set(l.delay, false)
	if l.prepare != "" {
		if _, err := o.pool.Exec(ctx, l.prepare); err != nil {
			return d, fmt.Errorf("prepare the outbox: %w", err)
		}
	}
	if err := o.fill(ctx, l.events, 1, l.payload, defaultKeys); err != nil {
		return d, err
	}
	if d, err = b.drainFilled(ctx, o, config, l); err != nil {
		return d, err
	}
	if got := b.receiver.requests(); got != l.deliveries {
		return d, fmt.Errorf("%d deliveries came in %d requests", l.deliveries, got)
	}
	return d, nil
}

// drainFilled runs a relay on an outbox, which holds the backlog, until all of
// it arrived.
func (b *bench) drainFilled(ctx context.Context, o *outbox, config string, l backlog) (d drain, err error) {
	n := l.deliveries
	p, err := b.startRelay(ctx, o, config)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	cpu, before := p.cpu(), b.receiver.distinct()
	took, err := b.drained(ctx, p, n, limitOf(n))
	if err != nil {
		return d, err
	}
	return drain{
		rate: float64(max(1, n-l.inFlight)) / took.Seconds(),
		cpu:  (p.cpu() - cpu) / time.Duration(max(1, n-before)),
		peak: p.peak(),
	}, nil
}
