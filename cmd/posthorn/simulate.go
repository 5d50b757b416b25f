package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

func newSimulateCommand(g *globals) *cobra.Command {
	var profile, start string
	cmd := &cobra.Command{
		Use:   "simulate [ENDPOINT]",
		Short: "Print when a failing delivery would be tried again",
		Long: `Print when a delivery that goes on failing would be tried: for an endpoint, for a
profile, or for the default schedule when neither is named. The times leave out
how long the tries themselves take.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			at := time.Now()
			if start != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, start); err != nil {
					return usagef("--start is a time such as 2026-12-01T08:00:00Z, not %q", start)
				}
			}
			if len(args) == 1 && profile != "" {
				return usagef("name an endpoint or a --profile, not both")
			}
			usual := config.DefaultProfile()
			f := failing{"the default schedule", usual.Retry, usual.Pause}
			if len(args) == 1 || profile != "" {
				cfg, err := g.load()
				if err != nil {
					return err
				}
				if f, err = findFailing(cfg, args, profile); err != nil {
					return err
				}
			}
			return g.printTries(f, at)
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "", "simulate the profile of this `name`")
	cmd.Flags().StringVar(&start, "start", "", "the event's commit `time` (default: now)")
	return cmd
}

// failing is what happens to deliveries that go on failing.
type failing struct {
	who   string // whose deliveries
	retry config.Retry
	pause config.Pause
}

// findFailing returns what the endpoint in args does, or the profile.
func findFailing(cfg *config.Config, args []string, profile string) (failing, error) {
	if profile != "" {
		p, ok := cfg.Profiles[profile]
		if !ok {
			return failing{}, fmt.Errorf("the configuration has no profile %q", profile)
		}
		return failing{"profile " + profile, p.Retry, p.Pause}, nil
	}
	for _, ep := range cfg.Endpoints {
		if ep.Name == args[0] {
			return failing{"endpoint " + ep.Name, ep.Retry, ep.Pause}, nil
		}
	}
	return failing{}, fmt.Errorf("the configuration has no endpoint %q", args[0])
}

func (g *globals) printTries(f failing, at time.Time) error {
	tries := relay.Simulate(f.retry)
	if g.Output == "json" {
		type row struct {
			Try      int       `json:"try"`
			Wait     float64   `json:"wait_seconds"`
			Earliest time.Time `json:"earliest"`
			Latest   time.Time `json:"latest"`
			Doubtful bool      `json:"doubtful,omitempty"`
		}
		rows := make([]row, len(tries))
		for i, t := range tries {
			rows[i] = row{t.Number, t.Wait.Seconds(), at.Add(t.Earliest).UTC(), at.Add(t.Latest).UTC(), t.Doubtful}
		}
		return g.printJSON(map[string]any{"of": f.who, "tries": rows, "ends": ends(tries, f.retry), "pauses": pauses(f.pause)})
	}
	g.printf("Tries of a delivery that goes on failing, by %s, jitter ±%.0f %%:\n\n", f.who, f.retry.Jitter*100)
	w := tabwriter.NewWriter(g.stdout, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "TRY\tWAIT\tEARLIEST\tLATEST\tSINCE THE EVENT")
	for _, t := range tries {
		wait, note := "-", ""
		if t.Number > 1 {
			wait = short(t.Wait)
		}
		if t.Doubtful {
			note = "  (if jitter leaves it within max_age)"
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s to %s%s\n", t.Number, wait, clock(at.Add(t.Earliest)), clock(at.Add(t.Latest)), short(t.Earliest), short(t.Latest), note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	g.printf("\n%s\n", ends(tries, f.retry))
	for _, text := range pauses(f.pause) {
		g.printf("%s\n", text)
	}
	return nil
}

// ends says what ends the tries.
func ends(tries []relay.Try, retry config.Retry) string {
	switch {
	case len(tries) <= len(retry.Schedule):
		return fmt.Sprintf("max_age (%s) ends it: the delivery is failed, and can be retried by hand.", short(retry.MaxAge))
	case len(retry.Schedule) == 0:
		return "There is no retry: the delivery is failed, and can be retried by hand."
	}
	return "The schedule ends here: the delivery is failed, and can be retried by hand. A Retry-After header can make a wait longer, up to the schedule's longest."
}

// pauses says what of this pauses the endpoint. Never nil.
func pauses(p config.Pause) []string {
	texts := []string{}
	if p.OnExhausted {
		texts = append(texts, "The endpoint is then paused (pause.on_exhausted): its events are parked until posthorn endpoints resume.")
	}
	if n := p.ConsecutiveFailures; n > 0 {
		texts = append(texts, fmt.Sprintf("The endpoint is paused after %s in a row, of whichever deliveries (pause.consecutive_failures).", count(n, "failed attempt")))
	}
	return texts
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
