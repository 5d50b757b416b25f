package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/relay"
)

const replayHelp = `A replay makes deliveries pending again that are final, under the same ids and
with what was kept of their requests, or copies of them under new ids; what is
pending becomes due now. The active relay does it at --rate, in the order of the
commits, and goes on after an interruption where it was. What cannot be made
again, since its payload is gone or its endpoint is paused, disabled or removed,
is skipped.`

func newReplayCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Make many deliveries again: preview, start, list, show and cancel replays",
		Long:  "Make many deliveries again.\n\n" + replayHelp,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("replay needs one of its commands: preview, start, list, show or cancel")
		},
	}
	cmd.AddCommand(newReplayPreviewCommand(g), newReplayStartCommand(g), newReplayListCommand(g), newReplayShowCommand(g), newReplayCancelCommand(g))
	g.serverFlags(cmd)
	return cmd
}

// replayFlags are the flags that say which deliveries are meant.
type replayFlags struct {
	request           relay.ReplayRequest
	states            []string
	event, from, till string
}

func (f *replayFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.states, "state", nil, "in this `state`: pending, delivered, failed or skipped; may be repeated (default: all but pending)")
	flags.StringVar(&f.request.Endpoint, "endpoint", "", "to this endpoint, by `name` or id")
	flags.StringVar(&f.request.Tenant, "tenant", "", "of this `tenant`")
	flags.StringVar(&f.request.Type, "type", "", "of this event `type`")
	flags.StringVar(&f.event, "event", "", "of the event with this `UUID`")
	flags.StringVar(&f.from, "from", "", "of events committed at this `time` or later: 2026-01-02T15:04:05Z, or so long ago: 24h")
	flags.StringVar(&f.till, "until", "", "of events committed before this `time` (default: now)")
}

// replayStates are those that a replay can be about.
var replayStates = []relay.DeliveryState{"pending", "delivered", "failed", "skipped"}

// read returns the request that the flags make, at the time now.
func (f *replayFlags) read(now time.Time) (r relay.ReplayRequest, err error) {
	r = f.request
	for _, s := range f.states {
		if !slices.Contains(replayStates, relay.DeliveryState(s)) {
			return r, usagef("--state is one of %v, not %q", replayStates, s)
		}
		r.States = append(r.States, relay.DeliveryState(s))
	}
	if len(r.States) == 0 {
		r.States = []relay.DeliveryState{"delivered", "failed", "skipped"}
	}
	if f.event != "" {
		if r.Event, err = uuid.Parse(f.event); err != nil {
			return r, usagef("--event is the event's UUID, not %q", f.event)
		}
	}
	if r.From, err = parseMoment("--from", f.from, now); err != nil {
		return r, err
	}
	if r.Until, err = parseMoment("--until", f.till, now); err != nil {
		return r, err
	}
	switch {
	case !r.Until.IsZero() && !r.From.Before(r.Until):
		return r, usagef("--until is after --from")
	case r.Endpoint == "" && r.Tenant == "" && r.Type == "" && f.event == "" && f.from == "":
		return r, usagef("it would be about all that there is: give --endpoint, --tenant, --type, --event or --from")
	}
	return r, nil
}

// parseMoment returns the time that a flag gives, or how long before now; the
// zero time for "".
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("%s is a time such as 2026-01-02T15:04:05Z, or a positive duration such as 24h, not %q", flag, text)
	}
	return at, nil
}

func newReplayPreviewCommand(g *globals) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "preview",
		Short: "Count what a replay would make again, and change nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.read(time.Now())
			if err != nil {
				return err
			}
			return g.withOperator(func(o operator) error {
				p, err := o.PreviewReplay(cmd.Context(), r)
				if err != nil {
					return err
				}
				return g.printPreview(p)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (g *globals) printPreview(p *relay.ReplayPreview) error {
	if g.Output == "json" {
		type endpoint struct {
			Endpoint string `json:"endpoint"`
			Count    int64  `json:"count"`
		}
		out := struct {
			Total     int64      `json:"total"`
			More      bool       `json:"more"`
			Endpoints []endpoint `json:"endpoints"`
		}{p.Total, p.More, []endpoint{}}
		for _, e := range p.Endpoints {
			out.Endpoints = append(out.Endpoints, endpoint(e))
		}
		return g.printJSON(out)
	}
	g.printf("%s\n", deliveriesText(p.Total, p.More))
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	for _, e := range p.Endpoints {
		_, _ = fmt.Fprintf(w, "  %s\t%d\n", shown(e.Endpoint), e.Count)
	}
	return w.Flush()
}

// deliveriesText says how many deliveries there are.
func deliveriesText(n int64, more bool) string {
	switch {
	case more:
		return fmt.Sprintf("more than %d deliveries", n)
	case n == 1:
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

func newReplayStartCommand(g *globals) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Begin to make deliveries again",
		Long:  "Begin to make deliveries again: replay preview with the same flags counts them.\n\n" + replayHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.read(time.Now())
			switch {
			case err != nil:
				return err
			case r.Rate < 1 || r.Rate > 1000:
				return usagef("--rate is 1 to 1000 deliveries a second, not %d", r.Rate)
			}
			return g.aboutReplay(func(o operator) (*relay.Replay, error) { return o.StartReplay(cmd.Context(), r, actor()) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.request.NewIDs, "new-ids", false, "make copies under new ids, for receivers that take the old ones for repeated")
	cmd.Flags().IntVar(&f.request.Rate, "rate", 100, "at most so many deliveries a second")
	return cmd
}

func newReplayListCommand(g *globals) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List replays, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > maxListed {
				return usagef("--limit is 1 to %d, not %d", maxListed, limit)
			}
			return g.withOperator(func(o operator) error {
				list, err := o.NewestReplays(cmd.Context(), limit)
				if err != nil {
					return err
				}
				return g.printReplays(list)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many")
	return cmd
}

func (g *globals) printReplays(list []relay.Replay) error {
	if g.Output == "json" {
		out := []replayJSON{}
		for i := range list {
			out = append(out, replayOf(&list[i]))
		}
		return g.printJSON(out)
	}
	if len(list) == 0 {
		g.printf("no replays\n")
		return nil
	}
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSTATE\tDONE\tSKIPPED\tOF\tSTARTED\tBY\tABOUT\tERROR")
	for i := range list {
		r := &list[i]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, r.Done, r.Skipped, atLeast(r), clock(r.CreatedAt), shown(r.CreatedBy), shown(aboutText(&r.Request)), orDash(shown(r.Error)))
	}
	return w.Flush()
}

func atLeast(r *relay.Replay) string {
	if r.TotalMore {
		return fmt.Sprintf("%d+", r.Total)
	}
	return fmt.Sprint(r.Total)
}

// aboutText says which deliveries a replay is about.
func aboutText(r *relay.ReplayRequest) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	var states []string
	for _, s := range r.States {
		states = append(states, string(s))
	}
	parts = append(parts, strings.Join(states, "/"))
	add("endpoint", r.Endpoint)
	add("tenant", r.Tenant)
	add("type", r.Type)
	if r.Event != uuid.Nil {
		add("event", r.Event.String())
	}
	if !r.From.IsZero() {
		add("from", clock(r.From))
	}
	if !r.Until.IsZero() {
		add("until", clock(r.Until))
	}
	if r.NewIDs {
		parts = append(parts, "under new ids")
	}
	return strings.Join(parts, ", ")
}

func newReplayShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show how far a replay has come",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usagef("%q is no replay's id", args[0])
			}
			return g.aboutReplay(func(o operator) (*relay.Replay, error) { return o.ShowReplay(cmd.Context(), id) })
		},
	}
}

func newReplayCancelCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "End a replay where it is",
		Long:  "End a replay where it is: what it made pending is sent. One that is over stays as it is.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usagef("%q is no replay's id", args[0])
			}
			return g.aboutReplay(func(o operator) (*relay.Replay, error) { return o.EndReplay(cmd.Context(), id, actor()) })
		},
	}
}

// aboutReplay prints the replay that do returns.
func (g *globals) aboutReplay(do func(operator) (*relay.Replay, error)) error {
	return g.withOperator(func(o operator) error {
		r, err := do(o)
		if err != nil {
			return err
		}
		if g.Output == "json" {
			return g.printJSON(replayOf(r))
		}
		g.printf("%s: %s; %d of %s made again, %d skipped\n", r.ID, r.State, r.Done, deliveriesText(r.Total, r.TotalMore), r.Skipped)
		g.printf("about: %s, at most %d a second; started %s by %s\n", shown(aboutText(&r.Request)), r.Request.Rate, clock(r.CreatedAt), shown(r.CreatedBy))
		if r.At != nil {
			g.printf("it has come to what was committed at %s\n", clock(*r.At))
		}
		if r.FinishedAt != nil {
			g.printf("finished %s\n", clock(*r.FinishedAt))
		}
		if r.Error != "" {
			return errors.New(shown(r.Error))
		}
		return nil
	})
}

// replayJSON is a replay as it is printed for scripts, and as the API has it.
type replayJSON struct {
	ID         uuid.UUID           `json:"id"`
	State      relay.ReplayState   `json:"state"`
	Request    relay.ReplayRequest `json:"request"`
	Total      int64               `json:"total"`
	TotalMore  bool                `json:"total_more"`
	Done       int64               `json:"done"`
	Skipped    int64               `json:"skipped"`
	At         *time.Time          `json:"at,omitempty"`
	CreatedAt  time.Time           `json:"created_at"`
	CreatedBy  string              `json:"created_by"`
	FinishedAt *time.Time          `json:"finished_at,omitempty"`
	Error      string              `json:"error,omitempty"`
}

func replayOf(r *relay.Replay) replayJSON {
	return replayJSON{
		ID: r.ID, State: r.State, Request: r.Request, Total: r.Total, TotalMore: r.TotalMore, Done: r.Done, Skipped: r.Skipped, At: r.At,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy, FinishedAt: r.FinishedAt, Error: r.Error,
	}
}

func (r *replayJSON) replay() relay.Replay {
	return relay.Replay{
		ID: r.ID, State: r.State, Request: r.Request, Total: r.Total, TotalMore: r.TotalMore, Done: r.Done, Skipped: r.Skipped, At: r.At,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy, FinishedAt: r.FinishedAt, Error: r.Error,
	}
}
