package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

func newDoctorCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the databases and name what is wrong",
		Long: `Check the databases, the slot and the ledger, and name what is wrong and the
statement that mends it. Nothing is changed. The exit code is 4 when something
must be mended; warnings do not count.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			findings := relay.Doctor(cmd.Context(), cfg)
			failed := 0
			for _, f := range findings {
				if f.State == relay.FindingFail {
					failed++
				}
			}
			if g.Output == "json" {
				err = g.printJSON(map[string]any{"ok": failed == 0, "findings": findings, "alerts": relay.Alerts})
			} else {
				g.printFindings(findings)
			}
			if err == nil && failed > 0 {
				err = &exitError{exitFinding, errors.New(count(failed, "finding") + " must be mended")}
			}
			return err
		},
	}
}

func (g *globals) printFindings(findings []relay.Finding) {
	marks := map[relay.FindingState]string{relay.FindingOK: "ok  ", relay.FindingWarn: "warn", relay.FindingFail: "FAIL", relay.FindingSkipped: "-   "}
	if isTerminal(g.stdout) {
		marks = map[relay.FindingState]string{relay.FindingOK: "✓", relay.FindingWarn: "!", relay.FindingFail: "✗", relay.FindingSkipped: "-"}
	}
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	for _, f := range findings {
		mark := marks[f.State]
		g.printf("%s %-*s  %s\n", mark, width, f.Name, oneLine(f.Detail))
		if f.Mend != "" {
			g.printf("%*s mend: %s\n", len([]rune(mark))+width+2, "", f.Mend)
		}
	}
	g.printf("\nAlerts worth having, over the metrics of http.listen:\n")
	for _, a := range relay.Alerts {
		g.printf("  %s\n      %s\n", a.When, a.Why)
	}
}
