package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

const endpointsHelp = `An endpoint is enabled; or paused, by an operator or by its pause rules: the
events that it wants are parked in the ledger; or disabled, by the configuration
or because it answered 410 Gone: it matches no events. What was parked is sent
in order once the endpoint is resumed, under its own concurrency and rate limit.`

func newEndpointsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoints",
		Short: "List, pause and resume endpoints",
		Long:  "List the endpoints with their health, pause and resume them.\n\n" + endpointsHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("endpoints has no command %s: list, pause or resume", args[0])
			}
			return nil
		},
	}
	g.listEndpoints(cmd)
	cmd.AddCommand(newEndpointsListCommand(g), newEndpointsPauseCommand(g), newEndpointsResumeCommand(g))
	g.serverFlags(cmd)
	return cmd
}

func newEndpointsListCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List endpoints with their health and what waits for them",
		Long:  "List the endpoints with their health and what waits for them.\n\n" + endpointsHelp,
		Args:  cobra.NoArgs,
	}
	g.listEndpoints(cmd)
	return cmd
}

// listEndpoints makes cmd list endpoints.
func (g *globals) listEndpoints(cmd *cobra.Command) {
	all := cmd.Flags().Bool("all", false, "those that were removed from the configuration too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.withOperator(func(o operator) error {
			list, err := o.Endpoints(cmd.Context(), *all)
			if err != nil {
				return err
			}
			return g.printEndpoints(list)
		})
	}
}

func (g *globals) printEndpoints(list []relay.EndpointStatus) error {
	if g.Output == "json" {
		if list == nil {
			list = []relay.EndpointStatus{} // an array, not null
		}
		return g.printJSON(list)
	}
	if len(list) == 0 {
		g.printf("no endpoints\n")
		return nil
	}
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tSTATE\tHEALTH\tPENDING\tOLDEST\tURL\tSINCE AND WHY")
	now := time.Now()
	for i := range list {
		e := &list[i]
		oldest := "-"
		if e.OldestPending != nil {
			oldest = short(max(0, now.Sub(*e.OldestPending)))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shown(e.Name), e.State, healthOf(e), e.Waiting(), oldest, shown(e.URL), stateOf(e))
	}
	return w.Flush()
}

// healthOf says in a word or two how an endpoint does.
func healthOf(e *relay.EndpointStatus) string {
	switch {
	case e.Failures == 0:
		return "ok"
	case e.Failing:
		return "failing, " + count(e.Failures, "failure")
	default:
		return count(e.Failures, "failure")
	}
}

// stateOf says since when an endpoint is in its state, by whom, and why.
func stateOf(e *relay.EndpointStatus) string {
	if e.Since == nil {
		return "no relay ran with it yet"
	}
	return since(*e.Since, e.By, e.Reason)
}

// since says when a state was set, by whom, and why.
func since(at time.Time, by, reason string) string {
	text := clock(at) + " by " + by
	if reason != "" {
		text += ": " + shown(reason)
	}
	return text
}

// endpointArg refuses all but one argument.
func endpointArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s needs an endpoint's name", strings.TrimPrefix(cmd.CommandPath(), "posthorn "))
	}
	return cobra.ExactArgs(1)(cmd, args)
}

// maxReason bounds the reason of a pause or its end, in bytes.
const maxReason = 500

func checkReason(reason string) error {
	if len(reason) > maxReason || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return usagef("--reason is one line of at most %d bytes", maxReason)
	}
	return nil
}

func newEndpointsPauseCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Park an endpoint's events until it is resumed",
		Long: `Pause an endpoint, given by name or id: nothing more is sent to it, and the
events that it wants are parked in the ledger until it is resumed. Requests in
flight are finished. A running relay notices within a second or two; without one
the endpoint is paused when the next one starts. Pausing one that was disabled
by 410 Gone parks its events from now on. The reason, the time and who paused it
stand in the ledger and its audit. Disabling or removing the endpoint in the
configuration forgets the pause.`,
		Args: endpointArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			return g.turnEndpoint(func(o operator) (*relay.TurnedEndpoint, error) {
				return o.Pause(cmd.Context(), args[0], reason, actor())
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks: one `line`")
	return cmd
}

func newEndpointsResumeCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Send to an endpoint again, what was parked first",
		Long: `Resume an endpoint, given by name or id, that is paused or was disabled because
it answered 410 Gone. What was parked is sent in order, under the endpoint's own
concurrency and rate limit, and its count of failures starts again from zero. A
running relay notices within a second or two. Events that were committed while
it was disabled were not matched and are not sent. One that the configuration
disables has to be enabled there. The reason, the time and who resumed it stand
in the ledger and its audit.`,
		Args: endpointArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			return g.turnEndpoint(func(o operator) (*relay.TurnedEndpoint, error) {
				return o.Resume(cmd.Context(), args[0], reason, actor())
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks: one `line`")
	return cmd
}

// turnEndpoint prints what became of the endpoint that do paused or resumed.
func (g *globals) turnEndpoint(do func(operator) (*relay.TurnedEndpoint, error)) error {
	return g.withOperator(func(o operator) error {
		e, err := do(o)
		if err != nil {
			return err
		}
		if g.Output == "json" {
			return g.printJSON(e)
		}
		g.printf("%s: %s\n", shown(e.Name), turnedText(e))
		return nil
	})
}

func turnedText(e *relay.TurnedEndpoint) string {
	paused := e.State == relay.EndpointPaused
	switch {
	case paused && !e.Changed:
		return "is paused already, since " + since(e.Since, e.By, e.Reason)
	case paused && e.Was == relay.EndpointPaused:
		return "was paused already; the reason is now: " + shown(e.Reason)
	case paused:
		return "paused; its events are parked until " + relay.ResumeCommand(e.Name)
	case !e.Changed:
		return "is enabled, there is nothing to resume"
	default:
		return "resumed; what was parked is sent in order"
	}
}
