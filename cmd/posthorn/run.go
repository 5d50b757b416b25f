package main

import (
	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

func newRunCommand(g *globals) *cobra.Command {
	var initFirst bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the relay",
		Long: `Run the relay until SIGINT or SIGTERM, which stop it gracefully within the
configuration's stop_timeout; a second signal ends it at once. While another
relay holds the replication slot it waits to take over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			logger := newLogger(g.stderr, cfg.Log, g.getenv("NO_COLOR") != "")
			r, err := relay.New(cfg, version, logger)
			if err != nil {
				return &exitError{exitConfig, err}
			}
			r.InitFirst = initFirst
			return r.Run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&initFirst, "init", false, "prepare the database first, as posthorn init does")
	return cmd
}
