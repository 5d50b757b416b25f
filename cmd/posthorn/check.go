package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func newCheckCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration",
		Long:  "Validate the configuration and list all that is wrong with it. No database is asked.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := g.load()
			var invalid *config.Error
			if errors.As(err, &invalid) && g.Output == "json" {
				return errors.Join(err, g.printJSON(map[string]any{"ok": false, "problems": invalid.Problems}))
			}
			if err != nil {
				return err
			}
			operator, err := relay.OpenOperator(cfg) // what it makes of the endpoints is the relay's own check
			if err != nil {
				return &exitError{exitConfig, err}
			}
			operator.Close()
			enabled := 0
			for _, ep := range cfg.Endpoints {
				if ep.Enabled {
					enabled++
				}
			}
			if g.Output == "json" {
				return g.printJSON(map[string]any{"ok": true, "endpoints": len(cfg.Endpoints), "enabled": enabled, "profiles": len(cfg.Profiles)})
			}
			g.printf("ok: %s (%d enabled), %s\n", count(len(cfg.Endpoints), "endpoint"), enabled, count(len(cfg.Profiles), "profile"))
			return nil
		},
	}
}
