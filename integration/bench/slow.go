package main

import (
	"context"
	"time"
)

// slowAnswer is how long the endpoint of the scenario slow takes.
const slowAnswer = 20 * time.Millisecond

// manyInFlight hides the endpoint's slowness: the machine is the limit again.
const manyInFlight = 1024

func slowScenario() scenario {
	return scenario{
		name:  "slow",
		title: "Endpoint that takes 20 ms",
		figures: []figure{
			{key: "64", title: "64 in flight", unit: "events/s", reference: "64 ÷ 20 ms", goal: 0.97},
			{key: "1024", title: "1,024 in flight", unit: "events/s", reference: "pipeline, endpoint at once", goal: 0.8},
		},
		run: func(ctx context.Context, b *bench) (samples, error) {
			l := load{events: b.size(500, 32_000, 64_000), perTransaction: 1, delay: slowAnswer, limit: 5 * time.Minute}
			few, err := b.drainRelay(ctx, l, "none", concurrency)
			if err != nil {
				return nil, err
			}
			l.events = b.size(2500, 100_000, 200_000)
			many, err := b.drainRelay(ctx, l, "none", manyInFlight)
			if err != nil {
				return nil, err
			}
			l.delay = 0
			pipeline, err := b.drainPipeline(ctx, l)
			if err != nil {
				return nil, err
			}
			return samples{
				"64":   {few.rate, concurrency / slowAnswer.Seconds()},
				"1024": {many.rate, pipeline.rate},
			}, nil
		},
	}
}
