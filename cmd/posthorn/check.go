package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func newCheckCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration",
		Long: `Validate the configuration and list all that is wrong with it. No database is
asked; the plugins that transforms name are started, and stopped again. What is
allowed and likely a mistake, such as tls.verify: false, is warned about.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.loadWithFiles()
			if err == nil {
				err = checkUse(cmd.Context(), cfg)
			}
			var invalid *config.Error
			if errors.As(err, &invalid) && g.Output == "json" {
				return errors.Join(err, g.printJSON(map[string]any{"ok": false, "problems": invalid.Problems}))
			}
			if err != nil {
				return err
			}
			return g.printChecked(cfg)
		},
	}
}

// checkUse makes of the configuration what a relay does, as far as that takes no
// database: it starts the plugins that transforms name, and stops them again.
func checkUse(ctx context.Context, cfg *config.Config) error {
	operator, err := relay.OpenOperator(cfg) // what it makes of the endpoints is the relay's own check
	if err != nil {
		return &exitError{exitConfig, err}
	}
	operator.Close()
	err = relay.CheckPlugins(ctx, cfg, slog.New(slog.DiscardHandler))
	var failed *relay.PluginsError
	if !errors.As(err, &failed) || ctx.Err() != nil { // interrupted, they failed for that
		return err
	}
	invalid := &config.Error{}
	for _, p := range failed.Plugins {
		why := strings.TrimPrefix(p.Err.Error(), "plugin "+p.Name+": ") // which the key says
		invalid.Problems = append(invalid.Problems, cfg.Problem(why, "plugins", p.Name))
	}
	slices.SortStableFunc(invalid.Problems, func(a, b config.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return unusable(invalid)
}

// printChecked prints what a valid configuration has, and its warnings.
func (g *globals) printChecked(cfg *config.Config) error {
	warnings := append([]config.Problem{}, cfg.Warnings()...) // in JSON [] for none
	enabled := 0
	for _, ep := range cfg.Endpoints {
		if ep.Enabled {
			enabled++
		}
	}
	if g.Output == "json" {
		return g.printJSON(map[string]any{
			"ok": true, "endpoints": len(cfg.Endpoints), "enabled": enabled, "profiles": len(cfg.Profiles),
			"transforms": len(cfg.Transforms), "plugins": len(cfg.Plugins), "warnings": warnings,
		})
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(g.stderr, "posthorn: warning: %s\n", w)
	}
	g.printf("ok: %s (%d enabled), %s", count(len(cfg.Endpoints), "endpoint"), enabled, count(len(cfg.Profiles), "profile"))
	if n := len(cfg.Transforms); n > 0 {
		g.printf(", %s", count(n, "transform"))
	}
	if n := len(cfg.Plugins); n > 0 {
		g.printf(", %s", count(n, "plugin"))
	}
	g.printf("\n")
	return nil
}
