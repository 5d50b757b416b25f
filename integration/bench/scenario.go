package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/integration/postgres"
)

// bench is one run.
type bench struct {
	server   *postgres.Server // one for the whole run; fsync is on, but in brief mode
	receiver *receiver
	binary   string // the relay's
	dir      string // for files of the run
	progress func(format string, args ...any)
	mode     mode
	profiles string // folder for the relays' profiles; "" for none
	started  int    // relays so far
}

// mode is how large the scenarios are.
type mode int

const (
	normal mode = iota
	brief       // so that the scenarios cannot rot; says nothing of speed
	full
)

func (m mode) String() string { return [...]string{"normal", "brief", "full"}[m] }

// size returns the size of the mode.
func (b *bench) size(inBrief, inNormal, inFull int) int {
	return [...]int{normal: inNormal, brief: inBrief, full: inFull}[b.mode]
}

// scenario is what -run selects.
type scenario struct {
	name    string
	title   string
	figures []figure // rows of the table, in order

	// run measures one round. It leaves no process, slot or database behind.
	run func(ctx context.Context, b *bench) (samples, error)
}

// figure is a row of the table.
type figure struct {
	key, title, unit string
	reference        string  // what it is compared with; "" for nothing
	goal             float64 // of the ratio, or of the figure when absolute; 0 for none
	absolute         bool
	lower            bool // lower is better: the goal is an upper bound
}

// samples are one round's values by figure key.
type samples map[string]sample

type sample struct{ value, reference float64 }

// scenarios returns all, in the order of the table.
func scenarios() []scenario {
	return []scenario{
		drainScenario(),
		transactionsScenario(),
		slowScenario(),
		latencyScenario(),
		fanoutScenario(),
		hangScenario(),
		parkedScenario(),
		payloadScenario(),
		memoryScenario(),
		startScenario(),
		commitScenario(),
		controlScenario(),
		growthScenario(),
	}
}

// choose returns the scenarios that names, separated by commas, select, and
// whether they run at their full sizes, which the name full asks for. Where it
// is the only one, or there is none, all run.
func choose(names string) (chosen []scenario, atFullSize bool, err error) {
	all := scenarios()
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "":
		case name == "full":
			atFullSize = true
		case slices.ContainsFunc(all, func(s scenario) bool { return s.name == name }):
			wanted[name] = true
		default:
			return nil, false, fmt.Errorf("choose the scenario %q: must be full or of %s", name, strings.Join(namesOf(all), ", "))
		}
	}
	for _, s := range all {
		if len(wanted) == 0 || wanted[s.name] {
			chosen = append(chosen, s)
		}
	}
	return chosen, atFullSize, nil
}

func namesOf(all []scenario) []string {
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	return names
}
