package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/admin/dashboard"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// A caller with a tenant sees and changes what is that tenant's, and no other's:
// to it there is nothing else, so errors say "no such", not "forbidden". Every
// method of control does one of these with its caller:
//   - lists what is of who.Tenant, or by the Scope of a filter;
//   - reaches a delivery by reach before anything else;
//   - hands who.Actor() on, whose Tenant bounds what the ledger finds for it.

// reach returns ErrUnknownDelivery for a delivery that is not for who to see.
func (o *Operator) reach(ctx context.Context, who *admin.Caller, delivery uuid.UUID) error {
	if who.Tenant == "" {
		return nil
	}
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return hinted(err)
	}
	return o.ledger.Owned(ctx, delivery, who.Tenant)
}

// Audit implements admin.Control.
func (c *control) Audit(ctx context.Context, who *admin.Caller, f ledger.AuditFilter) ([]ledger.AuditEntry, error) {
	o, _, err := c.operator()
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckVersion(ctx, o.databases.ledger); err != nil {
		return nil, hinted(err)
	}
	if who.Tenant == "" {
		return o.ledger.Audit(ctx, f)
	}
	if f.Tenant != "" && f.Tenant != who.Tenant || f.Actor != "" && !shownToTenants(f.Actor) {
		return nil, nil
	}
	f.Tenant = who.Tenant
	list, err := o.ledger.Audit(ctx, f)
	for i := range list {
		if !shownToTenants(list[i].Actor) {
			list[i].Actor, list[i].From = someOperator, ""
		}
		if slices.Contains(definingActions, list[i].Action) {
			list[i].Before, list[i].After = forTenant(list[i].Before), forTenant(list[i].After)
		}
	}
	return list, err
}

// someOperator is who tenants see in the place of one of the host's people.
const someOperator = "operator"

// shownToTenants reports whether an actor of the audit is none of the host's
// people, who are no business of its customers.
func shownToTenants(actor string) bool {
	return actor == "relay" || actor == "configuration" || strings.HasPrefix(actor, "portal:")
}

// newAPI makes what operators and tenants ask by HTTP, of the configuration that
// the relay begins with. Where nobody may do anything it refuses everything,
// and there is no control.
func (r *Relay) newAPI(first *config.Config) error {
	access, err := accessOf(first, r.logger)
	if err != nil {
		return err
	}
	running := func() (*config.Config, map[string]string) {
		if c := r.chains.Load(); c != nil {
			return c.cfg, c.schemas
		}
		return first, nil
	}
	access.HasProfile = func(name string) bool {
		cfg, _ := running()
		_, ok := cfg.Profiles[name]
		return ok
	}
	if len(first.HTTP.Tokens) > 0 || first.HTTP.ProxyAuth.UserHeader != "" {
		r.control, err = newControl(first, r.version, r.snapshot, running)
		if err != nil {
			return err
		}
		access.Sessions = ledger.New(r.control.databases.ledger, first.Source.Slot, ledger.Bodies(first.Ledger.Bodies), slog.New(slog.DiscardHandler))
	}
	access.Styles = dashboard.Styles()
	r.access = admin.NewAccess(access)
	if r.dashboard, err = r.newDashboard(running); err != nil {
		return err
	}
	r.api, err = admin.NewAPI(admin.APIOptions{Control: r.control, Snapshot: r.snapshot, Access: r.access, Version: r.version, Logger: r.logger})
	return err
}

// operators serves what operators and tenants ask.
func (r *Relay) operators() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", r.api)
	r.access.Mount(mux)
	mux.Handle(dashboard.Base, r.dashboard)
	mux.Handle(dashboard.Base+"/", r.dashboard)
	return mux
}

// accessOf returns who may do what by the configuration.
func accessOf(cfg *config.Config, logger *slog.Logger) (admin.AccessOptions, error) {
	o := admin.AccessOptions{Listen: cfg.HTTP.Listen, Hosts: cfg.HTTP.Hosts, FrameAncestors: cfg.HTTP.FrameAncestors, Logger: logger}
	for _, t := range cfg.HTTP.Tokens {
		role, err := admin.ParseRole(t.Role)
		if err != nil {
			return o, fmt.Errorf("http.tokens: %w", err)
		}
		hash, err := t.Hash()
		if err != nil {
			return o, fmt.Errorf("http.tokens: %w", err)
		}
		o.Tokens = append(o.Tokens, admin.Token{Name: t.Name, Role: role, Hash: hash})
	}
	for _, key := range cfg.EncryptionKeys() {
		o.PortalKeys = append(o.PortalKeys, key[:])
	}
	p := cfg.HTTP.ProxyAuth
	if len(p.From) == 0 {
		return o, nil
	}
	o.Proxy = &admin.Proxy{From: p.From, UserHeader: p.UserHeader, RoleHeader: p.RoleHeader}
	if p.Role != "" {
		role, err := admin.ParseRole(p.Role)
		if err != nil {
			return o, fmt.Errorf("http.proxy_auth: %w", err)
		}
		o.Proxy.Role = role
	}
	return o, nil
}
