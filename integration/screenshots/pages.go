package main

import (
	"context"
	"strings"
)

const dashboard = "/admin/webhooks"

// shot is a page that is taken.
type shot struct {
	name string
	path string // below the dashboard's
	act  string // JavaScript: what is done there; "" for nothing
	then string // JavaScript: what is true once that is there
}

// entrance is what there is before a login.
var entrance = []shot{{name: "login", path: "/login"}}

const (
	sendTest = `document.querySelector("form[action$='/test'] button[type=submit]").click()`
	tested   = `document.querySelector("#test-result .result") !== null`
	rotate   = `document.querySelector("form[action$='/secret']").submit()`
	rotated  = `document.querySelector(".secret.card") !== null`
	preview  = `(document.querySelector("button[hx-target='#preview']") ?? document.querySelector("form[hx-target='#preview'] button[type=submit]")).click()`
	seen     = `document.querySelector("#preview .preview") !== null`
	filled   = `document.querySelector("#name").value = "acme-billing"; document.querySelector("#url").value = "https://billing.acme.example/hooks";`
)

// pages returns what an operator has.
func (d *demo) pages(ctx context.Context) ([]shot, error) {
	named, err := d.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	delivery, err := d.delivery(ctx, "acme-erp")
	if err != nil {
		return nil, err
	}
	replay, err := d.replay(ctx)
	if err != nil {
		return nil, err
	}
	at := func(name string) string { return "/endpoints/" + named[name].ID }
	return []shot{ // first those of what does not last
		{name: "overview", path: "/overview?span=15m"},
		{name: "endpoint-paused", path: at("hris-sync") + "?span=15m"},
		{name: "endpoints", path: "/endpoints"},
		{name: "endpoint", path: at("northwind-calendar") + "?span=15m"},
		{name: "endpoint-test", path: at("acme-warehouse") + "?span=15m", act: sendTest, then: tested},
		{name: "endpoint-secret", path: at("acme-payroll") + "?span=15m", act: rotate, then: rotated},
		{name: "endpoint-new", path: "/endpoints/new", act: filled, then: "true"},
		{name: "endpoint-edit", path: at("acme-payroll") + "/edit"},
		{name: "endpoint-delete", path: at("northwind-legacy-crm") + "/delete"},
		{name: "deliveries", path: "/deliveries"},
		{name: "delivery", path: "/deliveries/" + delivery},
		{name: "failed", path: "/failed", act: preview, then: seen},
		{name: "parked", path: "/failed?state=pending"},
		{name: "replays", path: "/replays"},
		{name: "replay", path: "/replays/" + replay},
		{name: "replay-new", path: "/replays/new?endpoint=acme-payroll", act: preview, then: seen},
		{name: "events", path: "/events"},
		{name: "event", path: "/events/pr.submitted"},
		{name: "audit", path: "/audit"},
		{name: "settings", path: "/settings"},
	}, nil
}

// portalPages are those of pages that a tenant has, too, by names of their own.
func portalPages(pages []shot) (list []shot) {
	for _, s := range pages {
		switch s.name {
		case "endpoints", "endpoint-new", "endpoint-test":
			s.name = "portal-" + strings.TrimPrefix(s.name, "portal-")
			list = append(list, s)
		}
	}
	return list
}
