package main

import (
	"bufio"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func newUninstallCommand(g *globals) *cobra.Command {
	var schema, yes bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove slot and publication, and the schema if told",
		Long: `Remove the replication slot, the publication and what the ledger knows of the
slot. With --schema the schema posthorn goes, too, with outbox, ledger and all
else in it. Tables in other schemas stay. Stop the relay first.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			if !yes {
				if err := g.confirmUninstall(cfg, schema); err != nil {
					return err
				}
			}
			return g.printSteps(func(progress func(string)) error {
				return relay.Uninstall(cmd.Context(), cfg, relay.UninstallOptions{Schema: schema, Progress: progress})
			})
		},
	}
	cmd.Flags().BoolVar(&schema, "schema", false, "also drop the schema posthorn with all that is in it")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmUninstall says what would be removed and returns nil when somebody at
// the terminal agrees.
func (g *globals) confirmUninstall(cfg *config.Config, schema bool) error {
	g.printf("This removes from %s:\n", cfg.Database.URL)
	g.printf("  replication slot %s: events that were not delivered yet are lost to the relay\n", cfg.Source.Slot)
	g.printf("  publication %s\n", cfg.Source.Publication)
	g.printf("  the ledger's entry of the slot\n")
	if schema {
		g.printf("  schema posthorn with all that is in it: outbox, deliveries, pending retries\n")
	}
	if !isTerminal(g.stdin) {
		return errors.New("nothing was removed: give --yes to agree without being asked")
	}
	g.printf("Type yes to go on: ")
	answer, _ := bufio.NewReader(g.stdin).ReadString('\n') // no answer is no consent
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was removed")
	}
	return nil
}
