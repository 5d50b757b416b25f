package relay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/host"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/transforms"
)

// PluginsError lists the plugins of the configuration that cannot be used.
type PluginsError struct {
	Plugins []PluginError // by name
}

// PluginError says why one plugin cannot be used, and what to do.
type PluginError struct {
	Name string
	Err  error // begins with "plugin NAME: "
}

// Error returns the errors, one a line.
func (e *PluginsError) Error() string {
	lines := make([]string, len(e.Plugins))
	for i, p := range e.Plugins {
		lines[i] = p.Err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each plugin's error.
func (e *PluginsError) Unwrap() []error {
	all := make([]error, len(e.Plugins))
	for i, p := range e.Plugins {
		all[i] = p.Err
	}
	return all
}

// CheckPlugins starts the plugins that the configuration's transforms name, as
// Run does, and stops them again. Those that cannot start are a *PluginsError.
func CheckPlugins(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	c, err := newChains(ctx, cfg, logger, nil)
	if err != nil {
		return err
	}
	c.close(ctx)
	return nil
}

// plugin is one that runs, and how it was started.
type plugin struct {
	*host.Plugin
	options host.Options
}

func translatePlugin(name string, c *config.Plugin, logger *slog.Logger) host.Options {
	o := host.Options{
		Name: name, Path: c.Path, Args: c.Args, SHA256: c.SHA256, Dir: c.Dir, SocketDir: c.SocketDir,
		Timeout: c.Timeout, StartTimeout: c.StartTimeout, Instances: c.Instances, Batch: c.Batch, MaxMessage: int(c.MaxMessage), Logger: logger,
	}
	for _, key := range slices.Sorted(maps.Keys(c.Env)) {
		o.Env = append(o.Env, key+"="+c.Env[key].Reveal())
	}
	return o
}

// runs reports whether p is what o would start: the same program in the same way.
func (p *plugin) runs(o host.Options) bool {
	was := p.options
	was.Logger, o.Logger = nil, nil
	if !reflect.DeepEqual(was, o) {
		return false
	}
	sum, err := host.Sum(o.Path)
	return err == nil && sum == p.Sum()
}

// startPlugins sees to it that the plugins of these names run, all at once: the
// slowest says how long it takes. Either all do or none is left that keep does
// not have.
func (c *chains) startPlugins(ctx context.Context, names []string, logger *slog.Logger, keep *chains) error {
	var (
		mu     sync.Mutex
		failed []PluginError
		ended  sync.WaitGroup
	)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		settings := c.cfg.Plugins[name]
		o := translatePlugin(name, &settings, logger)
		ended.Go(func() {
			var p *plugin
			if keep != nil {
				p = keep.plugins[name]
			}
			started := p == nil || !p.runs(o)
			if started {
				h, err := host.Start(ctx, o)
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, PluginError{Name: name, Err: err})
					return
				}
				p = &plugin{Plugin: h, options: o}
			}
			mu.Lock()
			defer mu.Unlock()
			c.plugins[name] = p
			if started {
				c.started = append(c.started, name)
			}
		})
	}
	ended.Wait()
	slices.Sort(c.started)
	if len(failed) == 0 {
		return nil
	}
	c.closeBut(ctx, keep)
	slices.SortFunc(failed, func(a, b PluginError) int { return cmp.Compare(a.Name, b.Name) })
	return &PluginsError{Plugins: failed}
}

// statuses returns how the plugins do, by name.
func (c *chains) statuses() []admin.Plugin {
	all := make([]admin.Plugin, 0, len(c.plugins))
	for _, name := range slices.Sorted(maps.Keys(c.plugins)) {
		s := c.plugins[name].Status()
		all = append(all, admin.Plugin{Name: name, Running: s.Running, Restarts: s.Restarts, Calls: s.Calls, Failures: s.Failures})
	}
	return all
}

// pluginTransform is a plugin as a step of a chain.
type pluginTransform struct {
	name   string
	plugin interface {
		Transform(ctx context.Context, events []*plugins.Event) []error
	}
}

// Transform implements transforms.Transform.
func (t *pluginTransform) Transform(ctx context.Context, batch []*transforms.Message) {
	all := make([]plugins.Event, len(batch))
	events := make([]*plugins.Event, len(batch))
	for i, m := range batch {
		all[i] = plugins.Event{
			ID: m.Event.ID, Type: m.Event.Type, Tenant: m.Event.Tenant, Key: m.Event.Key, CreatedAt: m.Event.CreatedAt,
			Headers: maps.Clone(m.Event.Headers), Payload: m.Payload,
		}
		events[i] = &all[i]
	}
	errs := t.plugin.Transform(ctx, events)
	for i, m := range batch {
		t.take(m, events[i], errs[i])
	}
}

// take makes of a message what the plugin made of its event. What it says does
// not name the plugin: the rule's name, which comes in front of it, does.
func (t *pluginTransform) take(m *transforms.Message, e *plugins.Event, err error) {
	if cause := errors.Unwrap(err); cause != nil && err.Error() == "plugin "+t.name+": "+cause.Error() {
		err = cause
	}
	var skipped *plugins.SkipError
	switch {
	case errors.As(err, &skipped):
		m.Skipped = cmp.Or(skipped.Reason, "skipped without a reason")
	case plugins.IsRejected(err):
		m.Err = err
	case err != nil:
		m.Err = transforms.Retryable(err)
	default:
		if e.Type != m.Event.Type {
			m.SetType(e.Type)
		}
		m.Event.Headers = e.Headers
		if !bytes.Equal(m.Payload, e.Payload) { // else one copy is enough
			m.Payload = e.Payload
		}
	}
}
