package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func hangScenario() scenario {
	return scenario{
		name:  "hang",
		title: "One of two endpoints hangs until its timeout of 5 s",
		figures: []figure{
			{key: "rate", title: "the other's drain", unit: "/s", reference: "alone", goal: 0.9},
			{key: "p50", title: "the other's p50 at 200/s", unit: "ms", reference: "alone"},
			{key: "p99", title: "the other's p99 at 200/s", unit: "ms", reference: "alone", goal: 1.5, lower: true},
		},
		run: runHang,
	}
}

var (
	wellAlone = signedProfile(concurrency) + `
  - {name: well, url: "${RECEIVER}/well", events: ["*"], profile: bench}
`
	wellBesideHung = wellAlone + `
  - {name: hung, url: "${RECEIVER}/hung", events: ["*"], profile: bench, timeout: 5s}
`
)

func runHang(ctx context.Context, b *bench) (samples, error) {
	var rate, p50, p99 [2]float64 // alone, beside
	for i, config := range []string{wellAlone, wellBesideHung} {
		beside := []string{"alone", "beside one that hangs"}[i]
		var err error
		if rate[i], err = b.rateOfWell(ctx, config, b.size(2000, 200_000, 500_000)); err != nil {
			return nil, fmt.Errorf("drain %s: %w", beside, err)
		}
		took, err := b.latenciesOfWell(ctx, config, time.Duration(b.size(1, 15, 60))*time.Second)
		if err != nil {
			return nil, fmt.Errorf("latency %s: %w", beside, err)
		}
		p50[i], p99[i] = milliseconds(percentile(took, 50)), milliseconds(percentile(took, 99))
		b.progress("%s: %s/s, p50 %s ms, p99 %s ms", beside, number(rate[i]), number(p50[i]), number(p99[i]))
	}
	return samples{"rate": {rate[1], rate[0]}, "p50": {p50[1], p50[0]}, "p99": {p99[1], p99[0]}}, nil
}

// rateOfWell returns the rate at which the endpoint that is well gets a
// backlog of n events.
func (b *bench) rateOfWell(ctx context.Context, config string, n int) (rate float64, err error) {
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	if err := o.fill(ctx, n, 1, defaultPayload, defaultKeys); err != nil {
		return 0, err
	}
	p, err := b.startBesideHung(ctx, o, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	well := b.receiver.endpoint("/well")
	if err := b.reached(ctx, p, well, n); err != nil {
		return 0, err
	}
	return well.rate(), well.exactly(n)
}

// latenciesOfWell returns how long after its commit each event reached the
// endpoint that is well.
func (b *bench) latenciesOfWell(ctx context.Context, config string, length time.Duration) (took []time.Duration, err error) {
	const perSecond = 200
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	well := b.receiver.endpoint("/well")
	well.keepArrivals(int(length.Seconds() * perSecond))
	p, err := b.startBesideHung(ctx, o, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var commits []time.Time
	if err := o.write(ctx, perSecond, length, func(_ int, at time.Time) { commits = append(commits, at) }); err != nil {
		return nil, err
	}
	if err := b.reached(ctx, p, well, len(commits)); err != nil {
		return nil, err
	}
	for i, at := range well.arrivals() {
		took = append(took, at.Sub(commits[i]))
	}
	return took, well.exactly(len(commits))
}

// startBesideHung starts a relay while the endpoint that hangs does so.
func (b *bench) startBesideHung(ctx context.Context, o *outbox, config string) (*process, error) {
	b.receiver.endpoint("/hung").set(0, true)
	return b.startRelay(ctx, o, config)
}

// reached returns once an endpoint has n distinct events.
func (b *bench) reached(ctx context.Context, p *process, e *endpointStats, n int) error {
	return b.await(ctx, p, limitOf(n), func() error {
		if got := e.distinct(); got < n {
			return fmt.Errorf("%d of %d events came to %s", got, n, e.path)
		}
		return nil
	})
}

// rate returns the distinct events a second from the first request to the last
// of them.
func (e *endpointStats) rate() float64 {
	return float64(e.distinct()) / e.last().Sub(e.first()).Seconds()
}
