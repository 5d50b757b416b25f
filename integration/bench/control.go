package main

import (
	"context"
	"crypto/md5" //nolint:gosec // the ids of what fillLedger wrote
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

func controlScenario() scenario {
	goal := func(key, title string) figure {
		return figure{key: key, title: title, unit: "ms", goal: 300, absolute: true, lower: true}
	}
	return scenario{
		name:  "control",
		title: "API and dashboard with 200,000 deliveries in the ledger, or 10,000,000 with BENCH=full, p95",
		figures: []figure{
			goal("list", "list of deliveries, a page anywhere"),
			goal("common", "list by an endpoint, a tenant or a type"),
			goal("rare", "list by what few deliveries or none have"),
			goal("failed", "list of what failed, or is pending"),
			goal("show", "one delivery"),
			goal("endpoints", "list of 200 endpoints"),
			goal("preview", "preview of a replay"),
			goal("stats", "figures and chart of an hour, a day or a month"),
			goal(pageFigure, "pages of the dashboard"),
			goal("worst", "the slowest operation or page of all"),
		},
		run: runControl,
	}
}

// asked is what the relay is asked for, again and again with other parameters.
type asked struct {
	figure, name string
	path         func(r *rand.Rand, rows int) string // below /api/v1, or of pageFigure below /admin/webhooks
	body         string                              // of a POST; "" for a GET
	status       int                                 // that it answers; 0 for 200
}

// filterOf returns a list with a filter: %d is one of so many.
func filterOf(figure, name, filter string, of int) asked {
	return asked{figure: figure, name: name, path: func(r *rand.Rand, _ int) string {
		if of > 0 {
			return "/deliveries?" + fmt.Sprintf(filter, r.IntN(of))
		}
		return "/deliveries?" + filter
	}}
}

func fixed(figure, name, path string) asked {
	return asked{figure: figure, name: name, path: func(*rand.Rand, int) string { return path }}
}

// anywhere returns a time of the month that is filled.
func anywhere(r *rand.Rand) time.Time {
	return time.Now().Add(-time.Duration(r.Int64N(int64(controlDays * 24 * time.Hour)))).UTC()
}

// filled returns the id that fillLedger gave a row.
func filled(kind string, n int) uuid.UUID {
	return md5.Sum(fmt.Appendf(nil, "%s%d", kind, n))
}

// pageFigure is the figure of the dashboard's pages.
const pageFigure = "page"

// operations returns the API's that read the ledger.
func operations() []asked {
	at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339)) }
	preview := func(name, path, body string) asked {
		a := fixed("preview", name, path)
		a.body = body
		return a
	}
	return []asked{
		fixed("list", "newest", "/deliveries"),
		{figure: "list", name: "far back", path: func(r *rand.Rand, _ int) string { return "/deliveries?limit=100&until=" + at(anywhere(r)) }},
		{figure: "list", name: "an hour", path: func(r *rand.Rand, _ int) string {
			t := anywhere(r)
			return "/deliveries?limit=500&from=" + at(t) + "&until=" + at(t.Add(time.Hour))
		}},
		filterOf("common", "endpoint", "endpoint=e%d", 150),
		filterOf("common", "tenant", "tenant=t%d", controlTenants),
		filterOf("common", "type", "type=group.type-%d", controlTypes),
		{figure: "common", name: "endpoint and type, far back", path: func(r *rand.Rand, _ int) string {
			e := r.IntN(100)
			return fmt.Sprintf("/deliveries?endpoint=e%d&type=group.type-%d&until=%s", e, (e*7+r.IntN(8))%controlTypes, at(anywhere(r)))
		}},
		{figure: "common", name: "delivered, by tenant and type", path: func(r *rand.Rand, _ int) string {
			return fmt.Sprintf("/deliveries?state=delivered&tenant=t%d&type=group.type-%d", r.IntN(controlTenants), r.IntN(controlTypes))
		}},
		filterOf("rare", "rare endpoint", "endpoint=e199", 0),
		filterOf("rare", "rare type", "type=rare.type", 0),
		filterOf("rare", "unknown type", "type=none", 0),
		filterOf("rare", "unknown tenant", "tenant=none", 0),
		filterOf("rare", "rare type at an endpoint", "type=rare.type&endpoint=e%d", 20),
		{figure: "rare", name: "type that the endpoint gets none of", path: func(r *rand.Rand, _ int) string {
			e := r.IntN(controlEndpoints)
			return fmt.Sprintf("/deliveries?endpoint=e%d&type=group.type-%d", e, (e*7+8+r.IntN(12))%controlTypes)
		}},
		{figure: "rare", name: "event", path: func(r *rand.Rand, rows int) string {
			return "/deliveries?event=" + filled("v", r.IntN(rows/2)).String()
		}},
		{figure: "rare", name: "unknown event", path: func(*rand.Rand, int) string { return "/deliveries?event=" + uuid.NewString() }},
		filterOf("failed", "failed", "state=failed", 0),
		filterOf("failed", "failed at an endpoint", "state=failed&endpoint=e%d", controlEndpoints),
		filterOf("failed", "failed, by type", "state=failed&type=group.type-%d", controlTypes),
		filterOf("failed", "failed, of a type that none has", "state=failed&type=none", 0),
		filterOf("failed", "failed and skipped of a tenant", "state=failed&state=skipped&tenant=t%d", controlTenants),
		filterOf("failed", "skipped", "state=skipped", 0),
		filterOf("failed", "pending", "state=pending", 0),
		filterOf("failed", "pending at an endpoint", "state=pending&endpoint=e%d", controlEndpoints),
		filterOf("failed", "pending, of a type that none has", "state=pending&type=none", 0),
		{figure: "show", name: "any", path: func(r *rand.Rand, rows int) string { return "/deliveries/" + filled("d", 1+r.IntN(rows)).String() }},
		{figure: "show", name: "pending one", path: func(r *rand.Rand, _ int) string { return "/deliveries/" + filled("p", 1+r.IntN(100)).String() }},
		{figure: "show", name: "unknown", path: func(*rand.Rand, int) string { return "/deliveries/" + uuid.NewString() }, status: http.StatusNotFound},
		fixed("endpoints", "all", "/endpoints?limit=500"),
		preview("failed", "/deliveries/retry", `{"type": "group.type-3", "preview": true}`),
		preview("failed at an endpoint", "/deliveries/retry", `{"endpoint": "e7", "preview": true}`),
		preview("all of an endpoint", "/replays/preview", `{"endpoint": "e7"}`),
		preview("all of a tenant and a type", "/replays/preview", `{"tenant": "t7", "type": "group.type-9"}`),
		preview("rare type", "/replays/preview", `{"type": "rare.type"}`),
		{figure: "preview", name: "an hour", path: func(*rand.Rand, int) string { return "/replays/preview" },
			body: `{"from": "` + time.Now().Add(-50*time.Hour).UTC().Format(time.RFC3339) + `", "until": "` + time.Now().Add(-49*time.Hour).UTC().Format(time.RFC3339) + `"}`},
		fixed("stats", "hour", "/stats"),
		fixed("stats", "day", "/stats?step=15m&from="+at(time.Now().UTC().Add(-24*time.Hour))),
		fixed("stats", "month", "/stats?step=1h&from="+at(time.Now().UTC().Add(-controlDays*24*time.Hour))),
		fixed("stats", "an endpoint's day", "/stats?endpoint=e7&step=15m&from="+at(time.Now().UTC().Add(-24*time.Hour))),
		fixed("stats", "an endpoint's month", "/stats?endpoint=e7&step=6h&from="+at(time.Now().UTC().Add(-controlDays*24*time.Hour))),
	}
}

// pages returns the dashboard's that read the ledger.
func pages() []asked {
	page := func(path string) asked { return fixed(pageFigure, path, path) }
	return []asked{
		page("/overview"), page("/stats?span=24h"), page("/stats?span=7d"), page("/endpoints"), page("/endpoints/e7"), page("/endpoints/e199"), page("/endpoints/e7/bars"),
		page("/deliveries"), page("/deliveries?state=failed"), page("/deliveries?endpoint=e7&type=group.type-1"), page("/deliveries?type=none"),
		page("/failed"), page("/failed?endpoint=e7"), page("/replays"), page("/replays/new"), page("/audit"), page("/settings"),
		{figure: pageFigure, name: "/deliveries/{id}", path: func(r *rand.Rand, rows int) string { return "/deliveries/" + filled("d", 1+r.IntN(rows)).String() }},
	}
}

// runControl asks a relay that runs, one request after the other.
func runControl(ctx context.Context, b *bench) (s samples, err error) {
	rows, pending, times := b.size(2000, 200_000, 10_000_000), b.size(200, 20_000, 20_000), b.size(2, 40, 40)
	config := controlConfig()
	o, err := b.newOutbox(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.drop(ctx)) }()
	p, err := b.startRelay(ctx, o, config) // it makes the endpoints known to the ledger
	if err == nil {
		err = p.stop()
	}
	if err != nil {
		return nil, err
	}
	if err := o.fillLedger(ctx, rows, pending, b.size(1, controlDays, controlDays)); err != nil {
		return nil, err
	}
	p, address, err := b.startControl(ctx, o, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := o.confirmed(ctx, p, 15*time.Minute); err != nil { // it has read past what was filled
		return nil, err
	}
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	random := rand.New(rand.NewPCG(1, 2))
	s = samples{}
	all := make(map[string][]time.Duration)
	for _, a := range slices.Concat(operations(), pages()) {
		var took []time.Duration
		for range times {
			d, err := a.ask(ctx, client, address, random, rows)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
			took = append(took, d)
		}
		p95 := milliseconds(percentile(took, 95))
		b.progress("%s, %s: p50 %.1f ms, p95 %.1f ms, at most %.1f ms", a.figure, a.name, milliseconds(percentile(took, 50)), p95, milliseconds(slices.Max(took)))
		s[a.figure+": "+a.name] = sample{value: p95}
		s["worst"] = sample{value: max(s["worst"].value, p95)}
		all[a.figure] = append(all[a.figure], took...)
	}
	for figure, took := range all {
		s[figure] = sample{value: milliseconds(percentile(took, 95))}
	}
	return s, nil
}

// startControl runs a relay with an address that is known.
func (b *bench) startControl(ctx context.Context, o *outbox, config string) (*process, string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("find a port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, "", err
	}
	cmd, err := b.relayCommand(o, config, "run")
	if err != nil {
		return nil, "", err
	}
	cmd.Env = append(cmd.Env, "POSTHORN_HTTP__LISTEN="+address)
	p, err := startProcess(ctx, "relay", cmd, relayReady)
	return p, address, err
}

// ask makes the request once and returns how long it took with its answer.
func (a *asked) ask(ctx context.Context, client *http.Client, address string, random *rand.Rand, rows int) (time.Duration, error) {
	method := http.MethodGet
	if a.body != "" {
		method = http.MethodPost
	}
	base := "/api/v1"
	if a.figure == pageFigure {
		base = "/admin/webhooks"
	}
	to := "http://" + address + base + a.path(random, rows)
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(a.body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+controlToken)
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	took := time.Since(began)
	want := http.StatusOK
	if a.status != 0 {
		want = a.status
	}
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("%s answers %s: %s", to, res.Status, answer)
	}
	return took, err
}
