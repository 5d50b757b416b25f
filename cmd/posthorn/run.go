package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func newRunCommand(g *globals) *cobra.Command {
	var initFirst bool
	var profileFolder string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the relay",
		Long: `Run the relay until SIGINT or SIGTERM, which stop it gracefully within the
configuration's stop_timeout; a second signal ends it at once. While another
relay holds the replication slot it waits to take over.

SIGHUP makes it read its configuration again, as does another content of the
configuration's file, within a few seconds. One that is invalid, or whose
plugins do not start, is logged and changes nothing. What the connections to
Postgres, health and metrics, the log and traces depend on takes effect after a
restart.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return profiled(profileFolder, func() error { return g.run(cmd.Context(), initFirst) })
		},
	}
	cmd.Flags().BoolVar(&initFirst, "init", false, "prepare the database first, as posthorn init does")
	cmd.Flags().StringVar(&profileFolder, "profile", "", "write profiles of CPU and allocations into this folder when the relay ends, for go tool pprof")
	return cmd
}

func (g *globals) run(ctx context.Context, initFirst bool) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	path, err := config.Path(g.ConfigPath)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	file := watchFile(path) // before it is read: what is written meanwhile is another content
	cfg, err := g.loadWithFiles()
	if err != nil {
		return err
	}
	logger := newLogger(g.stderr, cfg.Log, g.getenv("NO_COLOR") != "")
	warn(ctx, logger, cfg)
	limitMemory(ctx, logger)
	r, err := relay.New(cfg, version, logger)
	if err != nil {
		return &exitError{exitConfig, err}
	}
	r.InitFirst = initFirst

	watching, stop := context.WithCancel(ctx)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		file.watch(watching, hangups, ticker.C, func() {
			cfg, err := config.LoadWithFiles(path, g.env)
			if err != nil {
				r.RefuseReload(ctx, err)
				return
			}
			warn(ctx, logger, cfg)
			r.Reload(cfg)
		})
	})
	err = r.Run(ctx)
	stop()
	watch.Wait()
	var failed *relay.PluginsError
	if errors.As(err, &failed) {
		return &exitError{exitConfig, failed}
	}
	return err
}

// warn logs what the configuration holds that is allowed and likely a mistake.
func warn(ctx context.Context, logger *slog.Logger, cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		logger.LogAttrs(ctx, slog.LevelWarn, "configuration warning",
			slog.String("file", w.File), slog.Int("line", w.Line), slog.String("key", w.Key), slog.String("problem", w.Message))
	}
}
