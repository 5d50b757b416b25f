package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay"
)

// compareTransforms reports what the configuration makes of the recent events.
func (g *globals) compareTransforms(ctx context.Context, cfg *config.Config, f *transformFlags) error {
	o := relay.CompareOptions{Since: f.since, Limit: f.limit, Show: f.show}
	if f.against != "" {
		other := *g
		other.ConfigPath = f.against
		today, err := other.loadWithFiles()
		if err != nil {
			return err
		}
		t, closeIt, err := g.openTransformer(ctx, today)
		if err != nil {
			return err
		}
		defer closeIt()
		o.Against = t
	}
	t, closeIt, err := g.openTransformer(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeIt()
	bar := newProgressBar(g.stderr)
	o.Progress = bar.show
	c, err := t.Compare(ctx, o)
	bar.clear()
	if err != nil && c.Events == 0 {
		return err
	}
	if printErr := g.printComparison(c, f); printErr != nil {
		return printErr
	}
	if err == nil && c.NewlyFailed() > 0 {
		err = fmt.Errorf("%s did not fail before", count(c.NewlyFailed(), "failed event"))
	}
	return err
}

// printComparison prints what was found, all of it or until it was ended.
func (g *globals) printComparison(c *relay.Comparison, f *transformFlags) error {
	if g.Output == "json" {
		return g.printJSON(comparisonJSON(c))
	}
	if c.Complete {
		g.printf("%s of the last %s", count(c.Events, "event"), short(f.since))
	} else {
		g.printf("ended early: %d of %s of the last %s", c.Events, count(c.Found, "event"), short(f.since))
	}
	if c.More {
		g.printf(", the newest: --limit %d leaves older ones out", f.limit)
	}
	g.printf("\n")
	if len(c.Types) == 0 {
		return nil
	}
	g.printf("\n")
	w := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TYPE\tEVENTS\tSAME\tDIFFER\tSKIPPED\tFAILED")
	for i := range c.Types {
		t := &c.Types[i]
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\n", typeName(t), t.Events, t.Same, t.Differ, partly(t.Skipped, t.NewlySkipped), partly(t.Failed, t.NewlyFailed))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	color := g.colored()
	for i := range c.Types {
		for _, d := range c.Types[i].Examples {
			g.printf("\n%s\n%s", heading(fmt.Sprintf("%s, event %s", typeName(&c.Types[i]), d.Event), color), difference(d.Before, d.After, color))
		}
	}
	return nil
}

// typeName returns a type for people.
func typeName(t *relay.TypeComparison) string {
	if t.Type == "" {
		return "(all others)"
	}
	return shown(t.Type)
}

// partly returns n, and how many of them are new if not all are.
func partly(n, newly int) string {
	if n == newly {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d (%d new)", n, newly)
}

// comparisonJSON returns what is printed for scripts.
func comparisonJSON(c *relay.Comparison) any {
	type outcome struct {
		*contentJSON
		Skipped string `json:"skipped,omitempty"`
		Error   string `json:"error,omitempty"`
		Retry   bool   `json:"retry,omitempty"`
	}
	type example struct {
		Event  string  `json:"event_id"`
		Before outcome `json:"before"`
		After  outcome `json:"after"`
	}
	type row struct {
		Type         string    `json:"type"` // empty for all beyond the first 1000
		Events       int       `json:"events"`
		Same         int       `json:"same"`
		Differ       int       `json:"differ"`
		Skipped      int       `json:"skipped"`
		Failed       int       `json:"failed"`
		NewlySkipped int       `json:"newly_skipped"`
		NewlyFailed  int       `json:"newly_failed"`
		Examples     []example `json:"examples"`
	}
	newOutcome := func(o relay.Outcome) outcome {
		out := outcome{contentJSON: newContentJSON(o.Content), Skipped: o.Skipped, Retry: o.Retry}
		if o.Err != nil {
			out.Error = o.Err.Error()
		}
		return out
	}
	out := struct {
		OK     bool  `json:"ok"` // all were looked at, and none failed that did not fail before
		Events int   `json:"events"`
		Found  int   `json:"found"`
		More   bool  `json:"more"` // older ones are left out by --limit
		Types  []row `json:"types"`
	}{c.Complete && c.NewlyFailed() == 0, c.Events, c.Found, c.More, []row{}}
	for i := range c.Types {
		t := &c.Types[i]
		r := row{t.Type, t.Events, t.Same, t.Differ, t.Skipped, t.Failed, t.NewlySkipped, t.NewlyFailed, []example{}}
		for _, d := range t.Examples {
			r.Examples = append(r.Examples, example{d.Event.String(), newOutcome(d.Before), newOutcome(d.After)})
		}
		out.Types = append(out.Types, r)
	}
	return out
}
