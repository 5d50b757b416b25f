package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const growthName = "growth"

func growthScenario() scenario {
	return scenario{name: growthName, title: "How cost grows", run: runGrowth}
}

// dimension is what grows while everything else stays.
type dimension struct {
	name, title, axis string
	tick              func(float64) string
	sizes             func(b *bench) []int
	load              func(b *bench, size int) (config string, l backlog)
}

var dimensions = []dimension{
	{
		name: "payload", title: "How cost grows with the payload", axis: "payload of an event", tick: bytesText,
		sizes: func(b *bench) []int {
			return []int{512, 4 << 10, 16 << 10, 64 << 10, 256 << 10}[:b.size(1, 5, 5)]
		},
		load: func(b *bench, size int) (string, backlog) {
			n := min(b.growthEvents(), b.size(1, 256, 256)<<20/size)
			return endpointsConfig(1, concurrency, everything), backlog{events: n, deliveries: n, payload: size}
		},
	},
	{
		name: "endpoints", title: "How cost grows with the endpoints", axis: "endpoints; each event goes to one of them", tick: countText,
		sizes: func(b *bench) []int { return []int{1, 10, 100, 1000}[:b.size(2, 4, 4)] },
		load: func(b *bench, size int) (string, backlog) {
			n := b.growthEvents()
			return endpointsConfig(size, perEndpoint, typeOf), backlog{events: n, deliveries: n, payload: defaultPayload, prepare: fmt.Sprintf(sqlTypes, size)}
		},
	},
	{
		name: "inflight", title: "How cost grows with the requests in flight", axis: "requests in flight, to an endpoint that takes 20 ms", tick: countText,
		sizes: func(b *bench) []int { return []int{1, 4, 16, 64, 256, 1024}[:b.size(1, 6, 6)] },
		load: func(b *bench, size int) (string, backlog) {
			const delay = 20 * time.Millisecond
			n := min(b.growthEvents(), size*b.size(20, 200, 200)) // at most 4 s
			return endpointsConfig(1, size, everything), backlog{events: n, deliveries: n, payload: defaultPayload, delay: delay, inFlight: size}
		},
	},
	{
		name: "backlog", title: "How cost grows with the backlog", axis: "events in the backlog", tick: countText,
		sizes: func(b *bench) []int {
			if b.mode == brief {
				return []int{500}
			}
			return []int{10_000, 50_000, 200_000, 1_000_000}[:b.size(0, 3, 4)]
		},
		load: func(_ *bench, size int) (string, backlog) {
			return endpointsConfig(1, concurrency, everything), backlog{events: size, deliveries: size, payload: defaultPayload}
		},
	},
}

// growthEvents is how many events a size is measured with, where the dimension
// does not ask for fewer.
func (b *bench) growthEvents() int { return b.size(500, 50_000, 100_000) }

// typeOf is the type of the events that sqlTypes gives to an endpoint.
func typeOf(i int) string { return fmt.Sprintf("e%d.placed", i) }

// sqlTypes spreads the events over so many types.
const sqlTypes = `
CREATE FUNCTION public.spread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.type := 'e' || (NEW.payload->>'n')::int %% %d + 1 || '.placed';
	RETURN NEW;
END $$;
CREATE TRIGGER spread BEFORE INSERT ON posthorn.outbox FOR EACH ROW EXECUTE FUNCTION public.spread()`

func runGrowth(ctx context.Context, b *bench) (samples, error) {
	s := samples{}
	for _, d := range dimensions {
		for _, size := range d.sizes(b) {
			config, l := d.load(b, size)
			got, err := b.drainBacklog(ctx, config, l)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", d.name, d.tick(float64(size)), err)
			}
			micros := float64(got.cpu.Nanoseconds()) / 1000
			b.progress("%s %s: %s/s, %s µs of CPU an event", d.name, d.tick(float64(size)), number(got.rate), number(micros))
			s[growthKey(d.name, size, growthRate)] = sample{value: got.rate}
			s[growthKey(d.name, size, growthCPU)] = sample{value: micros}
		}
	}
	return s, nil
}

// What is measured at each size of a dimension.
const growthRate, growthCPU = "rate", "cpu"

// growthKey is the key of a sample: "payload 512 rate".
func growthKey(dimension string, size int, what string) string {
	return dimension + " " + strconv.Itoa(size) + " " + what
}

// chart draws what was measured in a dimension; nil if nothing was.
func (d *dimension) chart(all []result) *chart {
	points := map[string][]dot{}
	for _, r := range all {
		parts := strings.Split(r.Key, " ")
		if len(parts) != 3 || parts[0] != d.name {
			continue
		}
		size, err := strconv.Atoi(parts[1])
		if err != nil {
			continue
		}
		points[parts[2]] = append(points[parts[2]], dot{x: float64(size), y: r.Value})
	}
	if len(points) == 0 {
		return nil
	}
	for _, line := range points {
		slices.SortFunc(line, func(a, b dot) int { return int(a.x - b.x) })
	}
	return &chart{title: d.title, x: d.axis, tick: d.tick, panels: []panel{
		{y: "events a second", points: points[growthRate]},
		{y: "relay's CPU per event, µs", points: points[growthCPU]},
	}}
}

// bytesText prints a power of two: "512 B", "64 KB".
func bytesText(v float64) string {
	if v < 1<<10 {
		return fmt.Sprintf("%g B", v)
	}
	return fmt.Sprintf("%g KB", v/(1<<10))
}

// countText prints "1", "1024", "50k", "1M".
func countText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
