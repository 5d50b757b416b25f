package relay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
)

// part is a key of the configuration.
type part struct {
	key string
	of  func(c *config.Config) any // a pointer to its value
}

// What a change of each key takes. The keys that are in none of the lists have
// their effect on those that are: profiles and tenants on endpoints.
var (
	// restartParts are what connections, server, logger and tracer are made of at the
	// process' start.
	restartParts = []part{
		{"database", func(c *config.Config) any { return &c.Database }},
		{"source.table", func(c *config.Config) any { return &c.Source.Table }},
		{"source.columns", func(c *config.Config) any { return &c.Source.Columns }},
		{"source.publication", func(c *config.Config) any { return &c.Source.Publication }},
		{"source.slot", func(c *config.Config) any { return &c.Source.Slot }},
		{"ledger.url", func(c *config.Config) any { return &c.Ledger.URL }},
		{"ledger.encryption_keys", func(c *config.Config) any { return &c.Ledger.EncryptionKeys }},
		{"http", func(c *config.Config) any { return &c.HTTP }},
		{"log", func(c *config.Config) any { return &c.Log }},
		{"traces", func(c *config.Config) any { return &c.Traces }},
	}
	// sessionParts are what a session is made of.
	sessionParts = []part{
		{"source.messages", func(c *config.Config) any { return &c.Source.Messages }},
		{"source.retention", func(c *config.Config) any { return &c.Source.Retention }},
		{"source.buffer", func(c *config.Config) any { return &c.Source.Buffer }},
		{"source.max_hold", func(c *config.Config) any { return &c.Source.MaxHold }},
		{"ledger.retention", func(c *config.Config) any { return &c.Ledger.Retention }},
		{"ledger.bodies", func(c *config.Config) any { return &c.Ledger.Bodies }},
		{"egress", func(c *config.Config) any { return &c.Egress }},
		{"stop_timeout", func(c *config.Config) any { return &c.StopTimeout }},
		{"endpoints", func(c *config.Config) any { return &c.Endpoints }},
		// What endpoints that the API made are made of, too:
		{"profiles", func(c *config.Config) any { return &c.Profiles }},
		{"tenants", func(c *config.Config) any { return &c.Tenants }},
	}
	// chainParts are what chains are made of: they change while events flow.
	chainParts = []part{
		{"events", func(c *config.Config) any { return &c.Events }},
		{"plugins", func(c *config.Config) any { return &c.Plugins }},
		{"transforms", func(c *config.Config) any { return &c.Transforms }},
	}
)

// differing returns the keys of parts that differ between a and b.
func differing(parts []part, a, b *config.Config) []string {
	var keys []string
	for _, p := range parts {
		if !reflect.DeepEqual(p.of(a), p.of(b)) {
			keys = append(keys, p.key)
		}
	}
	return keys
}

// withParts returns cfg with these parts as other has them.
func withParts(parts []part, cfg, other *config.Config) *config.Config {
	mixed := *cfg
	for _, p := range parts {
		reflect.ValueOf(p.of(&mixed)).Elem().Set(reflect.ValueOf(p.of(other)).Elem())
	}
	return &mixed
}

// What becomes of a configuration that is to be changed to, for metrics.
const (
	reloadApplied   = "applied"
	reloadUnchanged = "unchanged"
	reloadRefused   = "refused"
)

// Reload changes the running relay to another valid configuration, soon after
// it returned; the newest counts. Nothing is lost and no request is cut off
// that a graceful stop would not cut off. Plugins, transforms and the events'
// schemas change while events flow; for all else the slot is let go for a
// moment. What cannot be changed keeps its value until a restart, and what
// cannot be used leaves everything as it is: both are logged.
func (r *Relay) Reload(cfg *config.Config) {
	for {
		select {
		case r.reloads <- cfg:
			return
		default:
		}
		select {
		case <-r.reloads: // an older one that was not begun with
		default:
		}
	}
}

// RefuseReload logs that the configuration that should be changed to cannot be
// read, each problem for itself, and counts it.
func (r *Relay) RefuseReload(ctx context.Context, err error) {
	const text = "the new configuration is invalid, the running one stays"
	r.metrics.Reloaded(reloadRefused)
	var invalid *config.Error
	if !errors.As(err, &invalid) {
		r.logger.LogAttrs(ctx, slog.LevelError, text, slog.Any("err", err))
		return
	}
	for _, p := range invalid.Problems {
		r.logger.LogAttrs(ctx, slog.LevelError, text, slog.String("file", p.File), slog.Int("line", p.Line), slog.String("key", p.Key), slog.String("problem", p.Message))
	}
}

// change is a setup to begin a new session with.
type change struct {
	setup  setup
	chains *chains
	keys   []string // that differ
}

// deliverUntilReload delivers until ctx ends or a reload needs a session of
// another setup, which it returns: the session before is over then.
func (r *Relay) deliverUntilReload(ctx context.Context) (*change, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop() // plugins that are being started are not waited for
		ended <- r.deliver(ctx)
	}()
	for {
		select {
		case err := <-ended:
			return nil, err
		case cfg := <-r.reloads:
			next := r.reload(ctx, cfg)
			if next == nil {
				continue
			}
			r.logger.LogAttrs(ctx, slog.LevelInfo, "configuration changes, the session begins anew", slog.Any("changed", next.keys))
			stop()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				r.drop(ctx, next)
				return nil, err
			}
			return next, nil
		}
	}
}

// reload changes to cfg what can be changed while events flow. If that is not
// all, it changes nothing and returns what to begin the next session with.
func (r *Relay) reload(ctx context.Context, cfg *config.Config) *change {
	if keys := differing(restartParts, r.cfg, cfg); len(keys) > 0 {
		r.logger.LogAttrs(ctx, slog.LevelWarn, "takes effect after a restart", slog.Any("changed", keys))
	}
	cfg = withParts(restartParts, cfg, r.cfg)
	now := r.chains.Load()
	next := &change{keys: differing(sessionParts, r.cfg, cfg)}
	var err error
	if next.setup, err = newSetup(cfg, r.version, r.lease.Valid); err != nil {
		r.refuse(ctx, err)
		return nil
	}
	if !maps.Equal(next.setup.caFiles, r.caFiles) && len(next.keys) == 0 {
		next.keys = []string{"tls.ca_file"}
	}
	if next.chains, err = newChains(ctx, cfg, r.logger, now); err != nil {
		next.setup.client.Close()
		if ctx.Err() == nil {
			r.refuse(ctx, err)
		}
		return nil
	}
	begins := len(next.keys) > 0
	next.keys = append(next.keys, differing(chainParts, now.cfg, cfg)...)
	if !maps.Equal(next.chains.schemas, now.schemas) && !slices.Contains(next.keys, "events") {
		next.keys = append(next.keys, "events.schema") // in its file
	}
	if begins {
		return next
	}
	next.setup.client.Close()
	if next.chains.same(now) {
		r.metrics.Reloaded(reloadUnchanged)
		r.logger.LogAttrs(ctx, slog.LevelInfo, "configuration is unchanged")
		return nil
	}
	r.swap(ctx, next)
	return nil
}

// begin puts what the next session is made of in place. None runs.
func (r *Relay) begin(ctx context.Context, next *change) {
	r.client.Close()
	r.setup = next.setup
	r.swap(ctx, next)
	r.awaitRelease(ctx)
}

// swap changes to the chains of next, and ends the plugins that those before
// alone had once the last event went through them.
func (r *Relay) swap(ctx context.Context, next *change) {
	before := r.chains.Swap(next.chains)
	before.Retire()
	before.closeBut(ctx, next.chains)
	r.metrics.Reloaded(reloadApplied)
	r.logger.LogAttrs(ctx, slog.LevelInfo, "configuration reloaded", slog.Any("changed", append([]string{}, next.keys...)), slog.Any("plugins_started", append([]string{}, next.chains.started...)))
}

// drop gives up a change that is not made.
func (r *Relay) drop(ctx context.Context, next *change) {
	next.setup.client.Close()
	next.chains.closeBut(ctx, r.chains.Load())
}

// refuse logs why a valid configuration cannot be changed to.
func (r *Relay) refuse(ctx context.Context, err error) {
	r.metrics.Reloaded(reloadRefused)
	all := []error{err}
	var failed *PluginsError
	if errors.As(err, &failed) {
		all = failed.Unwrap()
	}
	for _, err := range all {
		r.logger.LogAttrs(ctx, slog.LevelError, "the new configuration cannot be used, the running one stays", slog.Any("err", err))
	}
}

// The server lets go of a slot a moment after its connection was closed.
const (
	releaseLook = 20 * time.Millisecond
	releaseWait = 2 * time.Second
)

// awaitRelease returns when the slot that was ours is free, or looks as if
// another relay has it by now.
func (r *Relay) awaitRelease(ctx context.Context) {
	r.role.Store(admin.RoleConnecting)
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	for {
		status, err := r.databases.source.SlotStatus(ctx)
		if err != nil || !status.Active || pause(ctx, releaseLook) != nil {
			return
		}
	}
}
