package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

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

// What tenants' callers are told in the place of what the relay's own people are.
const (
	notSent     = "nothing was sent: no request could be made for the endpoint of such an event"
	notReplayed = "it could not go on: whoever runs the relay is told why"
)

// told returns err as it is for who to know.
func told(who *admin.Caller, err error) error {
	var refused *ledger.RefusedError
	if who.Tenant == "" || !errors.As(err, &refused) || refused.Told == "" {
		return err
	}
	return ledger.Refused("%s", refused.Told)
}

// replayFor returns a replay as it is for who to see.
func replayFor(who *admin.Caller, r *Replay, err error) (*Replay, error) {
	if err == nil && who.Tenant != "" && r.Error != "" {
		r.Error = notReplayed
	}
	return r, told(who, err)
}

// noteWithin bounds how long the audit of what was done may take, whoever waits
// for it still.
const noteWithin = 5 * time.Second

// noteTest writes to the audit that a test was sent, without what was.
func (o *Operator) noteTest(ctx context.Context, who *admin.Caller, e *entry, r *TestResult) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	return o.ledger.Note(ctx, who.Actor(), ledger.Entry{
		Action: "endpoint.test", Subject: e.ID.String(), Tenant: e.Tenant,
		Detail: map[string]any{"name": e.Name, "type": r.Type, "status": r.Status, "ok": r.Err == nil},
	})
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
