package main

import (
	"context"
	"time"
)

func payloadScenario() scenario {
	return scenario{
		name:  "payload",
		title: "Large payloads",
		figures: []figure{
			{key: "64 KB", title: "64 KB", unit: "events/s", reference: "pipeline", goal: 0.9},
			{key: "1 MB", title: "1 MB", unit: "events/s", reference: "pipeline", goal: 0.9},
		},
		run: func(ctx context.Context, b *bench) (samples, error) {
			s := samples{}
			for _, size := range []struct {
				key           string
				bytes, events int
				queue         string // of the pipeline's workers, so that its memory is bounded
			}{
				{"64 KB", 64 << 10, b.size(200, 20_000, 40_000), "-queue=8"},
				{"1 MB", 1 << 20, b.size(10, 2000, 4000), "-queue=1"},
			} {
				l := load{events: size.events, perTransaction: 1, payload: size.bytes, limit: 5 * time.Minute}
				relay, err := b.drainRelay(ctx, l, "none", concurrency)
				if err != nil {
					return nil, err
				}
				pipeline, err := b.drainPipeline(ctx, l, size.queue)
				if err != nil {
					return nil, err
				}
				s[size.key] = sample{relay.rate, pipeline.rate}
			}
			return s, nil
		},
	}
}
