package main

import (
	"context"
	"fmt"
	"strings"
)

func fanoutScenario() scenario {
	return scenario{
		name:  "fanout",
		title: "Fan-out",
		figures: []figure{
			{key: "many", title: "each event to 100 endpoints", unit: "deliveries/s", reference: "one endpoint", goal: 0.9},
			{key: "sieve", title: "10,000 endpoints, one of which matches", unit: "deliveries/s", reference: "one endpoint", goal: 0.9},
		},
		run: runFanout,
	}
}

// signedProfile begins a configuration: its profile bench signs as the
// references do and has at most so many requests in flight.
func signedProfile(inFlight int) string {
	return fmt.Sprintf(`
profiles:
  bench:
    signatures: [{scheme: hmac, header: X-Signature, content: "{body}", value: "sha256={signature}", secret: "${SECRET}"}]
    concurrency: %d
endpoints:
`, inFlight)
}

// endpointsConfig has n endpoints at /e/1 to /e/n, of which each wants the
// events of one pattern, at most so many in flight.
func endpointsConfig(n, inFlight int, pattern func(i int) string) string {
	var text strings.Builder
	text.WriteString(signedProfile(inFlight))
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&text, "  - {name: e%d, url: \"${RECEIVER}/e/%d\", events: [%q], profile: bench}\n", i, i, pattern(i))
	}
	return text.String()
}

// perEndpoint is how many requests are in flight to each of many endpoints.
const perEndpoint = 16

func everything(int) string { return "*" }

// onlyFirst gives the events to the first endpoint.
func onlyFirst(i int) string {
	if i == 1 {
		return "*"
	}
	return fmt.Sprintf("other%d.*", i)
}

func runFanout(ctx context.Context, b *bench) (samples, error) {
	const endpoints = 100
	events := b.size(20, 2000, 2000)
	deliveries := events * endpoints
	one, err := b.deliveryRate(ctx, endpointsConfig(1, concurrency, everything), deliveries, 1)
	if err != nil {
		return nil, fmt.Errorf("one endpoint: %w", err)
	}
	b.progress("one endpoint: %s deliveries/s", number(one))
	many, err := b.deliveryRate(ctx, endpointsConfig(endpoints, perEndpoint, everything), events, endpoints)
	if err != nil {
		return nil, fmt.Errorf("%d endpoints: %w", endpoints, err)
	}
	b.progress("each event to %d endpoints: %s deliveries/s", endpoints, number(many))
	configured := b.size(200, 10_000, 10_000)
	sieve, err := b.deliveryRate(ctx, endpointsConfig(configured, concurrency, onlyFirst), deliveries, 1)
	if err != nil {
		return nil, fmt.Errorf("one of %d endpoints: %w", configured, err)
	}
	b.progress("one of %d endpoints: %s deliveries/s", configured, number(sieve))
	return samples{"many": {many, one}, "sieve": {sieve, one}}, nil
}

// deliveryRate returns the deliveries a second at which a relay drains a
// backlog of events that reach the first endpoints of a configuration made by
// endpointsConfig.
func (b *bench) deliveryRate(ctx context.Context, config string, events, endpoints int) (float64, error) {
	d, err := b.drainBacklog(ctx, config, backlog{events: events, deliveries: events * endpoints, payload: defaultPayload})
	if err != nil {
		return 0, err
	}
	for i := 1; i <= endpoints; i++ {
		if err := b.receiver.endpoint(fmt.Sprintf("/e/%d", i)).exactly(events); err != nil {
			return 0, err
		}
	}
	return d.rate, nil
}
