package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func commitScenario() scenario {
	return scenario{
		name:  "commit",
		title: "The host's insert and commit, 500 a second",
		figures: []figure{
			{key: "p50", title: "p50 with the relay running", unit: "ms", reference: "without", goal: 1.1, lower: true},
			{key: "p99", title: "p99 with the relay running", unit: "ms", reference: "without", goal: 1.5, lower: true},
		},
		run: runCommit,
	}
}

const commitsPerSecond = 500

// runCommit measures windows without and with a running relay in turns, five
// of each. The figures are the medians of the windows' own.
func runCommit(ctx context.Context, b *bench) (_ samples, err error) {
	config := endpointsConfig(1, concurrency, everything)
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	windows := b.size(1, 5, 5)
	length := time.Duration(b.size(1, 6, 20)) * time.Second
	var p50, p99 [2][]float64 // without, with
	for range windows {
		for i, window := range []func() ([]time.Duration, error){
			func() ([]time.Duration, error) { return o.commits(ctx, length) },
			func() ([]time.Duration, error) { return b.commitsBesideRelay(ctx, o, config, length) },
		} {
			took, err := window()
			if err != nil {
				return nil, err
			}
			p50[i] = append(p50[i], milliseconds(percentile(took, 50)))
			p99[i] = append(p99[i], milliseconds(percentile(took, 99)))
		}
		last := len(p50[0]) - 1
		b.progress("without / with the relay: p50 %s / %s ms, p99 %s / %s ms",
			number(p50[0][last]), number(p50[1][last]), number(p99[0][last]), number(p99[1][last]))
	}
	if err := b.receiver.endpoint("/e/1").exactly(o.written); err != nil {
		return nil, err
	}
	return samples{
		"p50": {spreadOf(p50[1]).Median, spreadOf(p50[0]).Median},
		"p99": {spreadOf(p99[1]).Median, spreadOf(p99[0]).Median},
	}, nil
}

// commitsBesideRelay is commits while a relay runs, which has delivered what
// was written before.
func (b *bench) commitsBesideRelay(ctx context.Context, o *outbox, config string, length time.Duration) (took []time.Duration, err error) {
	p, err := b.startRelay(ctx, o, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err := b.drained(ctx, p, o.written, limitOf(o.written)); err != nil {
		return nil, err
	}
	if took, err = o.commits(ctx, length); err != nil {
		return nil, err
	}
	_, err = b.drained(ctx, p, o.written, limitOf(o.written))
	return took, err
}

// commits writes events at a steady rate, each in a transaction of its own,
// and returns how long each took from its insert to the end of its commit.
func (o *outbox) commits(ctx context.Context, length time.Duration) ([]time.Duration, error) {
	conn, err := o.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("write events: %w", err)
	}
	defer conn.Release()
	insert := fmt.Sprintf(sqlInsert, "$1", "$2", "$3", "$4")
	took := make([]time.Duration, int(length.Seconds()*commitsPerSecond))
	began := time.Now()
	for i := range took {
		if err := wait(ctx, time.Until(began.Add(time.Duration(i)*time.Second/commitsPerSecond))); err != nil {
			return nil, err
		}
		n := o.written + 1
		start := time.Now()
		if _, err := conn.Exec(ctx, insert, defaultPayload, defaultKeys, n, n); err != nil {
			return nil, fmt.Errorf("write event %d: %w", n, err)
		}
		took[i] = time.Since(start)
		o.written = n
	}
	return took, nil
}
