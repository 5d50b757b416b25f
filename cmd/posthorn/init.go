package main

import (
	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

func newInitCommand(g *globals) *cobra.Command {
	var (
		printSQL, backfill bool
		role               string
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare the database: schema, tables, publication, slot",
		Long: `Create the schema posthorn with outbox and ledger, the publication, and the
replication slot, and wait for transactions that are open meanwhile. What exists
already stays as it is, so it can be run again safely.

Rows that the outbox held before the slot was created are not sent unless
--backfill asks for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case printSQL && backfill:
				return usagef("--sql prints statements and cannot backfill: choose one of both")
			case !printSQL && cmd.Flags().Changed("role"):
				return usagef("--role goes with --sql: without it, init grants nothing")
			}
			cfg, err := g.load()
			if err != nil {
				return err
			}
			if printSQL {
				g.printf("%s", relay.InitSQL(cfg, role))
				return nil
			}
			return g.printSteps(func(progress func(string)) error {
				return relay.Init(cmd.Context(), cfg, relay.InitOptions{Backfill: backfill, Progress: progress})
			})
		},
	}
	cmd.Flags().BoolVar(&printSQL, "sql", false, "print the statements for a DBA instead of running them")
	cmd.Flags().BoolVar(&backfill, "backfill", false, "also send the rows that the outbox holds already; only when the slot is created")
	cmd.Flags().StringVar(&role, "role", "posthorn_relay", "with --sql: the `name` of the role that the relay will use")
	return cmd
}
