package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// measured is all that a run measured.
type measured struct {
	Mode        string      `json:"mode"` // brief, normal or full
	Environment environment `json:"environment"`
	Scenarios   []*outcome  `json:"scenarios"`
}

// outcome is what the rounds of one scenario came to.
type outcome struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Figures []result `json:"figures"`

	// Other are the samples that stand in no row of the table: the charts' points.
	Other []result `json:"other,omitempty"`

	scenario scenario
	rounds   []samples
}

// result is what the rounds of one figure came to.
type result struct {
	Key   string   `json:"key"`
	Title string   `json:"title,omitempty"`
	Unit  string   `json:"unit,omitempty"`
	Value spread   `json:"value"`
	Goal  *verdict `json:"goal,omitempty"`

	// Against is what the value is compared with; Ratio is over the rounds' own
	// ratios, since machines drift from one round to the next.
	Against   string  `json:"against,omitempty"`
	Reference *spread `json:"reference,omitempty"`
	Ratio     *spread `json:"ratio,omitempty"`
}

// verdict is a goal and whether it was reached.
type verdict struct {
	Bound    float64 `json:"bound"`
	Absolute bool    `json:"absolute"` // of the value, else of the ratio
	Lower    bool    `json:"lower"`    // an upper bound, else a lower one
	Met      bool    `json:"met"`
}

// spread is a median with the range of its rounds, in their order.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

// spreadOf returns the spread of at least one value. The median of an even
// number is the mean of the two in the middle.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1], Rounds: values}
}

// add takes a round of a scenario. Rounds of several scenarios may come in turns.
func (m *measured) add(s scenario, round samples) {
	i := slices.IndexFunc(m.Scenarios, func(o *outcome) bool { return o.Name == s.name })
	if i < 0 {
		i = len(m.Scenarios)
		m.Scenarios = append(m.Scenarios, &outcome{Name: s.name, Title: s.title, scenario: s})
	}
	o := m.Scenarios[i]
	o.rounds = append(o.rounds, round)
	o.sumUp()
}

// sumUp computes the outcome's results from its rounds. A figure that no round
// has a sample of is left out.
func (o *outcome) sumUp() {
	o.Figures, o.Other = nil, nil
	others := map[string]bool{}
	for _, round := range o.rounds {
		for key := range round {
			others[key] = true
		}
	}
	for _, f := range o.scenario.figures {
		if others[f.key] {
			o.Figures = append(o.Figures, f.resultOf(o.rounds))
			delete(others, f.key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(others)) {
		o.Other = append(o.Other, figure{key: key}.resultOf(o.rounds))
	}
}

// resultOf returns the figure's result over the rounds that have a sample of
// it, at least one.
func (f figure) resultOf(rounds []samples) result {
	var values, references, ratios []float64
	for _, round := range rounds {
		s, ok := round[f.key]
		if !ok {
			continue
		}
		values = append(values, s.value)
		if f.reference != "" && s.reference > 0 {
			references = append(references, s.reference)
			ratios = append(ratios, s.value/s.reference)
		}
	}
	r := result{Key: f.key, Title: f.title, Unit: f.unit, Value: spreadOf(values)}
	if len(ratios) > 0 {
		reference, ratio := spreadOf(references), spreadOf(ratios)
		r.Against, r.Reference, r.Ratio = f.reference, &reference, &ratio
	}
	switch {
	case f.goal == 0:
	case f.absolute:
		r.Goal = f.judge(r.Value.Median)
	case r.Ratio != nil:
		r.Goal = f.judge(r.Ratio.Median)
	}
	return r
}

// judge compares a median with the figure's goal.
func (f figure) judge(median float64) *verdict {
	met := median >= f.goal
	if f.lower {
		met = median <= f.goal
	}
	return &verdict{Bound: f.goal, Absolute: f.absolute, Lower: f.lower, Met: met}
}

// row is a line of the table: a scenario's title, or a figure.
type row struct {
	title string // of a scenario; then there are no cells
	cells []string
}

var heads = []string{"figure", "measured", "reference", "ratio", "goal", ""}

// rows returns the table, without the scenarios that have no figure.
func (m *measured) rows() []row {
	var all []row
	for _, o := range m.Scenarios {
		if len(o.Figures) == 0 {
			continue
		}
		all = append(all, row{title: o.Title})
		for i := range o.Figures {
			all = append(all, row{cells: o.Figures[i].cells()})
		}
	}
	return all
}

// cells returns what stands under heads.
func (r *result) cells() []string {
	cells := []string{r.Title, r.Value.text(number) + " " + r.Unit, "", "", "", ""}
	if r.Ratio != nil {
		cells[2] = r.Against + " " + r.Reference.text(number)
		cells[3] = r.Ratio.text(r.ratioText)
	}
	if r.Goal != nil {
		cells[4], cells[5] = r.Goal.text(r.Unit), "missed"
		if r.Goal.Met {
			cells[5] = "met"
		}
	}
	return cells
}

// ratioText prints a ratio with two decimals, rounded away from its goal, so
// that what missed it never looks as if it had not.
func (r *result) ratioText(ratio float64) string {
	switch {
	case r.Goal == nil || r.Goal.Absolute:
		ratio = math.Round(ratio*100) / 100
	case r.Goal.Lower:
		ratio = math.Ceil(ratio*100-1e-9) / 100
	default:
		ratio = math.Floor(ratio*100+1e-9) / 100
	}
	return strconv.FormatFloat(ratio, 'f', 2, 64)
}

// text is "≥ 0.9", or "≤ 64 MiB" where the goal is of the value.
func (v *verdict) text(unit string) string {
	text := "≥ "
	if v.Lower {
		text = "≤ "
	}
	text += strconv.FormatFloat(v.Bound, 'f', -1, 64)
	if v.Absolute {
		return text + " " + unit
	}
	return text
}

// text is "9,812 (9,400–10,020)", or the median alone where there was one round.
func (s *spread) text(format func(float64) string) string {
	if len(s.Rounds) == 1 {
		return format(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", format(s.Median), format(s.Min), format(s.Max))
}

// number prints v with three significant digits, or all of those before the
// point, in groups of three.
func number(v float64) string {
	decimals := 0
	if size := math.Abs(v); size > 0 && size < 100 {
		decimals = min(2-int(math.Floor(math.Log10(size))), 6)
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		return text
	}
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// writeTable prints the table for a terminal.
func (m *measured) writeTable(w io.Writer) error {
	rows := m.rows()
	widths := make([]int, len(heads))
	for _, cells := range append([]row{{cells: heads}}, rows...) {
		for i, cell := range cells.cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	line := func(cells []string) {
		var padded strings.Builder
		for i, cell := range cells {
			padded.WriteString("  " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		text.WriteString(strings.TrimRight(padded.String(), " ") + "\n")
	}
	line(heads)
	for _, r := range rows {
		if r.cells == nil {
			text.WriteString(r.title + "\n")
			continue
		}
		line(r.cells)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// writeJSON writes all samples with what they came to.
func (m *measured) writeJSON(file string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// What stands between these two lines of a document is the table.
const tableBegin, tableEnd = "<!-- bench:begin -->", "<!-- bench:end -->"

var errNoMarkers = errors.New("has no lines " + tableBegin + " and " + tableEnd)

// writeMarkdown puts the table, and what it was measured on, between the two
// markers of a document.
func (m *measured) writeMarkdown(file string) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	before, rest, begins := strings.Cut(string(document), tableBegin+"\n")
	_, after, ends := strings.Cut(rest, tableEnd+"\n")
	if !begins || !ends {
		return fmt.Errorf("write the table: %s %w", file, errNoMarkers)
	}
	return os.WriteFile(file, []byte(before+tableBegin+"\n\n"+m.markdown()+"\n"+tableEnd+"\n"+after), 0o644)
}

func (m *measured) markdown() string {
	var text strings.Builder
	rounds := 0
	for _, o := range m.Scenarios {
		rounds = max(rounds, len(o.rounds))
	}
	fmt.Fprintf(&text, "%s\n\n", m.Environment.sentence(fmt.Sprintf("%s run, %d rounds", m.Mode, rounds)))
	line := func(cells []string) {
		for _, cell := range cells {
			text.WriteString(strings.TrimRight("| "+strings.ReplaceAll(cell, "|", `\|`), " ") + " ")
		}
		text.WriteString("|\n")
	}
	line(heads)
	text.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	for _, r := range m.rows() {
		if r.cells == nil {
			line([]string{"**" + r.title + "**", "", "", "", "", ""})
			continue
		}
		line(r.cells)
	}
	return text.String()
}
