package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/posthorn/posthorn/relay"
)

const (
	// demoStep is how long people who work with the dashboard think.
	demoStep = 4 * time.Second
	// demoKnock is how often the API is asked until it answers.
	demoKnock = 100 * time.Millisecond
	// demoPortal is how long a customer may use the portal.
	demoPortal = 15 * time.Minute
)

// demoLife is what people do by the relay's API while the demo runs: customers
// have endpoints, and operators look after them. It touches none of the
// endpoints that the tracker knows.
type demoLife struct {
	receiver string // the URL of the customers'
	step     time.Duration
	logger   *slog.Logger

	platform, support *client // the host application's people
	portal            *client // somebody of a tenant; nil before enter
}

func newDemoLife(base *url.URL, tokens *demoTokens, receiver string, step time.Duration, logger *slog.Logger) *demoLife {
	return &demoLife{
		receiver: receiver, step: step, logger: logger,
		platform: newClient(base, tokens.platform), support: newClient(base, tokens.support),
	}
}

// run goes on until ctx ends. What the relay refuses it logs: the demo judges
// deliveries.
func (l *demoLife) run(ctx context.Context) {
	defer l.close()
	if !l.begin(ctx) {
		return
	}
	acts := l.acts()
	ticker := time.NewTicker(l.step)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.do(ctx, acts[i%len(acts)])
	}
}

func (l *demoLife) close() {
	for _, c := range []*client{l.platform, l.support, l.portal} {
		if c != nil {
			c.close()
		}
	}
}

// begin makes the customers' endpoints as soon as the relay answers. It returns
// false when ctx ends before.
func (l *demoLife) begin(ctx context.Context) bool {
	ticker := time.NewTicker(demoKnock)
	defer ticker.Stop()
	for {
		if _, err := l.platform.Endpoints(ctx, false); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	for i := range demoCustomers {
		c := &demoCustomers[i]
		l.do(ctx, act{"create " + c.name, func(ctx context.Context) error { return l.create(ctx, l.platform, c.name, c.document) }})
	}
	return ctx.Err() == nil
}

// act is something that somebody does.
type act struct {
	name string
	do   func(ctx context.Context) error
}

func (l *demoLife) do(ctx context.Context, a act) {
	if err := a.do(ctx); err != nil && ctx.Err() == nil {
		l.logger.LogAttrs(ctx, slog.LevelWarn, "the demo's people could not do something", slog.String("what", a.name), slog.Any("err", err))
	}
}

// acts returns what is done over and over, in this order.
func (l *demoLife) acts() []act {
	return []act{
		{"test a healthy endpoint", func(ctx context.Context) error { return l.test(ctx, l.support, "acme-payroll") }},
		{"retry one delivery", func(ctx context.Context) error { return l.retryNewest(ctx, "acme-payroll") }},
		{"let a customer in", func(ctx context.Context) error { return l.enter(ctx, "acme", "jo@acme.example") }},
		l.inPortal("create in the portal", func(ctx context.Context, c *client) error {
			return l.create(ctx, c, demoSandbox, map[string]any{"events": []string{"pr.submitted", "pr.approved"}})
		}),
		l.inPortal("test in the portal", func(ctx context.Context, c *client) error { return l.test(ctx, c, demoSandbox) }),
		{"pause", func(ctx context.Context) error {
			return l.turn(ctx, "pause", "acme-warehouse", "stocktaking, ticket 4711")
		}},
		l.inPortal("edit in the portal", func(ctx context.Context, c *client) error {
			return c.ask(ctx, http.MethodPatch, "/endpoints/"+demoSandbox, nil, map[string]any{"events": []string{"pr.*", "po.issued"}}, &ignored{})
		}),
		{"retry what failed", func(ctx context.Context) error {
			return l.again(ctx, l.support, "/deliveries/retry", "northwind-calendar", 2*time.Minute)
		}},
		{"rotate a secret", func(ctx context.Context) error {
			return l.platform.ask(ctx, http.MethodPost, "/endpoints/acme-payroll/secret", nil, map[string]any{"grace": "5m"}, &ignored{})
		}},
		{"resume", func(ctx context.Context) error { return l.turn(ctx, "resume", "acme-warehouse", "stocktaking is over") }},
		{"replay", func(ctx context.Context) error {
			return l.again(ctx, l.platform, "/replays", "hris-sync", 30*time.Second)
		}},
		l.inPortal("delete in the portal", func(ctx context.Context, c *client) error {
			return c.ask(ctx, http.MethodDelete, "/endpoints/"+demoSandbox, nil, nil, &ignored{})
		}),
		{"resume what the relay paused", l.resumePaused},
		{"test an endpoint that fails", func(ctx context.Context) error { return l.test(ctx, l.support, "northwind-calendar") }},
	}
}

// inPortal returns what the customer does that was let in.
func (l *demoLife) inPortal(name string, do func(context.Context, *client) error) act {
	return act{name, func(ctx context.Context) error {
		if l.portal == nil {
			return errors.New("nobody was let into the portal")
		}
		return do(ctx, l.portal)
	}}
}

// ignored is an answer that nobody reads.
type ignored struct{}

// create makes an endpoint as somebody.
func (l *demoLife) create(ctx context.Context, c *client, name string, document map[string]any) error {
	whole := map[string]any{"name": name, "url": l.receiver + customerPath(name)}
	for key, value := range document {
		whole[key] = value
	}
	return c.ask(ctx, http.MethodPost, "/endpoints", nil, whole, &ignored{})
}

// test sends a test, whose outcome is the endpoint's business.
func (l *demoLife) test(ctx context.Context, c *client, name string) error {
	_, err := c.SendTest(ctx, relay.Sample{Endpoint: name})
	return err
}

func (l *demoLife) turn(ctx context.Context, verb, name, reason string) error {
	_, err := l.support.turn(ctx, name, verb, reason)
	return err
}

// retryNewest retries what failed last at an endpoint.
func (l *demoLife) retryNewest(ctx context.Context, name string) error {
	failed, err := l.support.List(ctx, relay.DeliveryFilter{Endpoint: name, States: []relay.DeliveryState{"failed"}, Limit: 1})
	if err != nil || len(failed) == 0 {
		return err
	}
	_, err = l.support.Retry(ctx, failed[0].ID, relay.Actor{})
	return err
}

// again makes deliveries of the last so long again, by an operation for many.
func (l *demoLife) again(ctx context.Context, c *client, path, endpoint string, since time.Duration) error {
	body := map[string]any{"endpoint": endpoint, "from": time.Now().Add(-since).Format(time.RFC3339), "rate": 10}
	return c.ask(ctx, http.MethodPost, path, nil, body, &ignored{})
}

// enter lets somebody of a tenant in, as a host application does.
func (l *demoLife) enter(ctx context.Context, tenant, subject string) error {
	var answer struct{ Token string }
	body := map[string]any{"tenant": tenant, "subject": subject, "profile": "byro", "expires_in": demoPortal.String()}
	if err := l.platform.ask(ctx, http.MethodPost, "/portal-tokens", nil, body, &answer); err != nil {
		return err
	}
	if l.portal != nil {
		l.portal.close()
	}
	l.portal = newClient(l.platform.base, answer.Token)
	return nil
}

// resumePaused resumes the customers' endpoints that a rule has paused.
func (l *demoLife) resumePaused(ctx context.Context) error {
	all, err := l.support.Endpoints(ctx, false)
	if err != nil {
		return err
	}
	for i := range all {
		isCustomer := slices.ContainsFunc(demoCustomers, func(c customer) bool { return c.name == all[i].Name })
		if !isCustomer || all[i].State != relay.EndpointPaused {
			continue
		}
		if err := l.turn(ctx, "resume", all[i].Name, "they have restarted their server"); err != nil {
			return fmt.Errorf("endpoint %s: %w", all[i].Name, err)
		}
	}
	return nil
}
