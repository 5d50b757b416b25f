package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func startScenario() scenario {
	return scenario{
		name:  "start",
		title: "Process start to first delivery with 10,000 endpoints",
		figures: []figure{
			{key: "first", title: "first start: the ledger does not know them", unit: "s", goal: 1, absolute: true, lower: true},
			{key: "again", title: "next start", unit: "s", goal: 1, absolute: true, lower: true},
		},
		run: runStart,
	}
}

func runStart(ctx context.Context, b *bench) (_ samples, err error) {
	config := endpointsConfig(b.size(200, 10_000, 10_000), perEndpoint, onlyFirst)
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	s := samples{}
	for _, key := range []string{"first", "again"} {
		took, err := b.startToDelivery(ctx, o, config)
		if err != nil {
			return nil, fmt.Errorf("%s start: %w", key, err)
		}
		b.progress("%s start: %s to the first delivery", key, took.Round(time.Millisecond))
		s[key] = sample{value: took.Seconds()}
	}
	return s, nil
}

// startToDelivery returns the time from the start of a relay's process to the
// request of an event that waits for it.
func (b *bench) startToDelivery(ctx context.Context, o *outbox, config string) (took time.Duration, err error) {
	if err := o.fill(ctx, 1, 1, defaultPayload, 0); err != nil {
		return 0, err
	}
	if err := o.released(ctx); err != nil {
		return 0, err
	}
	b.receiver.reset()
	began := time.Now()
	p, err := b.startRelay(ctx, o, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err := b.drained(ctx, p, 1, limitOf(1)); err != nil {
		return 0, err
	}
	return b.receiver.endpoint("/e/1").first().Sub(began), nil
}

const sqlHeld = `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND active`

// released returns once nobody holds the relay's slot: the server notices a
// moment later that a relay ended, and the next one would wait for it.
func (o *outbox) released(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		held, err := o.count(ctx, sqlHeld, o.slotName(relaySlot))
		if err != nil || held == 0 {
			return err
		}
		if err := wait(ctx, pollEvery); err != nil {
			return err
		}
	}
}
