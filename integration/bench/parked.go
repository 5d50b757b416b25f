package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func parkedScenario() scenario {
	return scenario{
		name:  "parked",
		title: "Parked deliveries in the ledger: 500,000, or 5,000,000 with BENCH=full",
		figures: []figure{
			{key: "parking", title: "parking them, for a paused endpoint", unit: "/s"},
			{key: "fresh", title: "drain to another endpoint", unit: "/s", reference: "without", goal: 0.9},
			{key: "drain", title: "drain of the parked ones", unit: "/s", reference: "pipeline", goal: 0.5},
		},
		run: runParked,
	}
}

// While the backlog for the endpoint that is held is written it is the only
// one. Afterwards no event matches it, so that it has what is parked alone.
var (
	onlyHeld = signedProfile(concurrency) + `
  - {name: held, url: "${RECEIVER}/held", events: ["*"], profile: bench}
`
	heldAndFresh = signedProfile(concurrency) + `
  - {name: held, url: "${RECEIVER}/held", events: ["nothing.*"], profile: bench}
  - {name: e1, url: "${RECEIVER}/e/1", events: ["*"], profile: bench}
`
)

func runParked(ctx context.Context, b *bench) (s samples, err error) {
	parked, fresh := b.size(2000, 500_000, 5_000_000), b.size(2000, 200_000, 200_000)
	pipeline, err := b.drainPipeline(ctx, load{events: fresh, perTransaction: 1, payload: defaultPayload, limit: limitOf(fresh)})
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	without, err := b.drainBacklog(ctx, heldAndFresh, backlog{events: fresh, deliveries: fresh, payload: defaultPayload})
	if err != nil {
		return nil, fmt.Errorf("without parked deliveries: %w", err)
	}
	b.progress("without parked deliveries: %s/s", number(without.rate))

	o, err := b.newOutbox(ctx, onlyHeld)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	parking, err := b.park(ctx, o, parked)
	if err != nil {
		return nil, fmt.Errorf("park: %w", err)
	}
	b.progress("parked %s deliveries, %s/s", number(float64(parked)), number(parking))
	if err := o.fill(ctx, fresh, 1, defaultPayload, defaultKeys); err != nil {
		return nil, err
	}
	p, err := b.startRelay(ctx, o, heldAndFresh)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	others := b.receiver.endpoint("/e/1")
	if err := b.reached(ctx, p, others, fresh); err != nil {
		return nil, err
	}
	b.progress("beside them: %s/s", number(others.rate()))
	held := b.receiver.endpoint("/held")
	if got := held.requests(); got > 0 {
		return nil, fmt.Errorf("the paused endpoint got %d requests", got)
	}
	if err := o.confirmed(ctx, p, limitOf(fresh)); err != nil {
		return nil, err
	}
	if err := b.command(o, heldAndFresh, "endpoints", "resume", "held"); err != nil {
		return nil, err
	}
	if err := b.reached(ctx, p, held, parked); err != nil {
		return nil, err
	}
	b.progress("the parked ones: %s/s", number(held.rate()))
	if got := others.requests(); got != fresh {
		return nil, fmt.Errorf("%d events came in %d requests", fresh, got)
	}
	return samples{
		"parking": {value: parking},
		"fresh":   {others.rate(), without.rate},
		"drain":   {held.rate(), pipeline.rate},
	}, held.exactly(parked)
}

// park pauses the endpoint that is held, writes n events, lets a relay park
// their deliveries, and returns at which rate it did, from its start on.
func (b *bench) park(ctx context.Context, o *outbox, n int) (rate float64, err error) {
	p, err := b.startRelay(ctx, o, onlyHeld) // it makes the endpoint known to the ledger
	if err != nil {
		return 0, err
	}
	err = b.command(o, onlyHeld, "endpoints", "pause", "held")
	if err := errors.Join(err, p.stop()); err != nil {
		return 0, err
	}
	if err := o.fill(ctx, n, 100, defaultPayload, defaultKeys); err != nil {
		return 0, err
	}
	if rate, err = b.parkFilled(ctx, o, n); err != nil {
		return 0, err
	}
	pending, err := o.count(ctx, `SELECT count(*) FROM posthorn.pending WHERE state = 'pending'`)
	if err != nil {
		return 0, err
	}
	if pending != n {
		return 0, fmt.Errorf("%d of %d deliveries are parked", pending, n)
	}
	// As fill leaves the outbox: no vacuum is due while others are measured.
	_, err = o.pool.Exec(ctx, `VACUUM (ANALYZE) posthorn.pending, posthorn.payloads`)
	return rate, err
}

// parkFilled runs a relay until it has parked everything.
func (b *bench) parkFilled(ctx context.Context, o *outbox, n int) (rate float64, err error) {
	began := time.Now()
	p, err := b.startRelay(ctx, o, onlyHeld)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := o.confirmed(ctx, p, limitOf(n)); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// command runs a command of the relay's that ends by itself.
func (b *bench) command(o *outbox, config string, args ...string) error {
	cmd, err := b.relayCommand(o, config, args...)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = sysProcAttr()
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run posthorn %s: %w\n%s", args[0], err, output)
	}
	return nil
}
