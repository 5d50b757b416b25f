package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

func newEventsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [TYPE]",
		Short: "List the catalogue's event types, or show one",
		Long: `List the event types of the catalogue (events in the configuration) and those of
the relay's own events, posthorn.*, by type; or show one with its example and
schema. No database is needed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := g.catalogue(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return g.printEvents(list)
			}
			i := slices.IndexFunc(list, func(e relay.EventType) bool { return e.Type == args[0] })
			if i < 0 {
				return fmt.Errorf("the catalogue has no event type %s", args[0])
			}
			return g.printEvent(&list[i])
		},
	}
	g.serverFlags(cmd)
	return cmd
}

// catalogue returns the event types by type.
func (g *globals) catalogue(ctx context.Context) ([]relay.EventType, error) {
	if g.remote() {
		c, err := g.client()
		if err != nil {
			return nil, err
		}
		defer c.close()
		return c.Catalogue(ctx)
	}
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	list, err := relay.Catalogue(cfg)
	slices.SortFunc(list, func(a, b relay.EventType) int { return strings.Compare(a.Type, b.Type) })
	return list, err
}

func (g *globals) printEvents(list []relay.EventType) error {
	if g.Output == "json" {
		return g.printJSON(append([]relay.EventType{}, list...)) // an array, not null
	}
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TYPE\tGROUP\tTITLE\tEXAMPLE\tSCHEMA")
	for i := range list {
		e := &list[i]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(e.Type), orDash(shown(e.Group)), orDash(shown(e.Title)), yesOrDash(e.Example), yesOrDash(e.Schema))
	}
	return w.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func yesOrDash(text json.RawMessage) string {
	if len(text) == 0 {
		return "-"
	}
	return "yes"
}

func (g *globals) printEvent(e *relay.EventType) error {
	if g.Output == "json" {
		return g.printJSON(e)
	}
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{{"type", e.Type}, {"group", e.Group}, {"title", e.Title}} {
		if row[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], shown(row[1]))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"example", e.Example}, {"schema", e.Schema}} {
		if len(part.text) == 0 {
			continue
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, part.text, "", "  "); err != nil {
			return fmt.Errorf("print the %s: %w", part.name, err)
		}
		g.printf("\n%s:\n%s\n", part.name, printable(indented.String()))
	}
	return nil
}
