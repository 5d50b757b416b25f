package relay

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/transforms"
)

// chains is what the transforms of a configuration came to, with the plugins
// that run for them.
type chains struct {
	*transforms.Chains
	cfg     *config.Config
	schemas map[string]string  // by event type, as they were read
	plugins map[string]*plugin // by name: those that transforms name
	started []string           // which of them were not running before
}

// newChains starts the plugins that the configuration's transforms name and
// returns the chains. Plugins of keep, which may be nil, whose options and file
// are the same go on running in both. When a plugin cannot start, the error is
// a *PluginsError and what was started is closed again.
func newChains(ctx context.Context, cfg *config.Config, logger *slog.Logger, keep *chains) (*chains, error) {
	return newChainsOf(ctx, cfg, logger, keep, func(*config.Transform) bool { return true })
}

// newChainsOf is newChains for those of the transforms that wanted reports.
func newChainsOf(ctx context.Context, cfg *config.Config, logger *slog.Logger, keep *chains, wanted func(*config.Transform) bool) (*chains, error) {
	c := &chains{cfg: cfg, schemas: map[string]string{}, plugins: map[string]*plugin{}}
	for i := range cfg.Events {
		text, err := cfg.Events[i].SchemaText()
		if err != nil {
			return nil, fmt.Errorf("event type %s: %w", cfg.Events[i].Type, err)
		}
		if text != "" {
			c.schemas[cfg.Events[i].Type] = text
		}
	}
	var names []string
	for i := range cfg.Transforms {
		if t := &cfg.Transforms[i]; t.Plugin != "" && wanted(t) {
			names = append(names, t.Plugin)
		}
	}
	if err := c.startPlugins(ctx, names, logger, keep); err != nil {
		return nil, err
	}
	var rules []transforms.Rule
	for i := range cfg.Transforms {
		t := &cfg.Transforms[i]
		if !wanted(t) {
			continue
		}
		rule, err := c.rule(fmt.Sprintf("transforms[%d]", i), t, logger)
		if err != nil {
			c.closeBut(ctx, keep)
			return nil, err
		}
		rules = append(rules, rule)
	}
	c.Chains = transforms.NewChains(rules)
	return c, nil
}

// rule returns the rule of one transform. key is where it stands in the
// configuration.
func (c *chains) rule(key string, t *config.Transform, logger *slog.Logger) (transforms.Rule, error) {
	kind := t.Kind()
	if kind == "plugin" {
		p := c.plugins[t.Plugin]
		return transforms.Rule{
			Name: fmt.Sprintf("%s (plugin %s)", key, t.Plugin), Match: t.Match, Transform: &pluginTransform{name: t.Plugin, plugin: p},
			Parallel: max(2, 2*p.options.Instances), // the next batch is packed while one is worked on
		}, nil
	}
	rule := transforms.Rule{Name: fmt.Sprintf("%s (%s)", key, kind), Match: t.Match}
	var err error
	if rule.Transform, err = t.Builtin(c.cfg, warnOfMisfits(rule.Name, logger)); err != nil {
		return rule, fmt.Errorf("%s: %w", rule.Name, err)
	}
	return rule, nil
}

// warnOfMisfits returns what logs payloads that do not fit their schema: the
// first ten, then one a second.
func warnOfMisfits(rule string, logger *slog.Logger) func(context.Context, *transforms.Message, error) {
	sometimes := &rate.Sometimes{First: 10, Interval: time.Second}
	return func(ctx context.Context, m *transforms.Message, err error) {
		sometimes.Do(func() {
			logger.LogAttrs(ctx, slog.LevelWarn, "payload does not fit its schema", slog.String("event", m.Event.ID), slog.String("type", m.Committed),
				slog.String("rule", rule), slog.Any("err", err))
		})
	}
}

// same reports whether c does what other does, by the very same plugins.
func (c *chains) same(other *chains) bool {
	return len(c.started) == 0 && maps.Equal(c.plugins, other.plugins) && maps.Equal(c.schemas, other.schemas) &&
		len(differing(chainParts, c.cfg, other.cfg)) == 0
}

// close ends the plugins: by asking until ctx ends, for stop_timeout at most,
// then by force. Nothing may use the chains any more.
func (c *chains) close(ctx context.Context) { c.closeBut(ctx, nil) }

// closeBut closes the plugins that keep, which may be nil, does not have.
func (c *chains) closeBut(ctx context.Context, keep *chains) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StopTimeout)
	defer cancel()
	var ended sync.WaitGroup
	for name, p := range c.plugins {
		if keep == nil || keep.plugins[name] != p {
			ended.Go(func() { p.Close(ctx) })
		}
	}
	ended.Wait()
}
