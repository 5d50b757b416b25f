package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var measurable = scenario{name: "drain", title: "Drain", figures: []figure{
	{key: "rate", title: "one endpoint", unit: "/s", reference: "pipeline", goal: 1},
	{key: "p50", title: "p50", unit: "ms", reference: "floor", goal: 1.5, lower: true},
	{key: "idle", title: "idle", unit: "MiB", goal: 25, absolute: true, lower: true},
	{key: "free", title: "without a goal", unit: "s"},
	{key: "never", title: "never measured", unit: "s", goal: 1},
}}

// threeRounds has a slow machine in its second round: the ratio of the medians
// would be 1.
func threeRounds() *measured {
	m := &measured{Mode: "normal", Environment: environment{
		Commit: "abc1234", Date: time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC), CPU: "Some | CPU", Cores: 2, Memory: 24 << 30,
		Kernel: "Linux 6.1", Go: "go1.26.8", Postgres: "15.9",
	}}
	for _, round := range []samples{
		{"rate": {20_000, 20_000}, "p50": {1.5, 1}, "idle": {24, 0}, "free": {0.0123, 0}, "extra": {7, 0}},
		{"rate": {9_000, 10_000}, "p50": {1.6, 1}, "idle": {26, 0}, "free": {0.5, 0}},
		{"rate": {30_000, 33_500}, "p50": {1.7, 1}, "idle": {25, 0}, "free": {123, 0}},
	} {
		m.add(measurable, round)
	}
	return m
}

func TestMedianAndRange(t *testing.T) {
	cases := []struct {
		values           []float64
		median, low, top float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{3, 1, 2}, 2, 1, 3},
		{[]float64{4, 1, 3, 2}, 2.5, 1, 4},
	}
	for _, c := range cases {
		want := spread{Median: c.median, Min: c.low, Max: c.top, Rounds: c.values}
		if diff := cmp.Diff(want, spreadOf(c.values)); diff != "" {
			t.Errorf("spreadOf(%v): %s", c.values, diff)
		}
	}
}

func TestRatioIsTheMedianOfTheRoundsOwnRatios(t *testing.T) {
	m := threeRounds()
	ratio := m.Scenarios[0].Figures[0].Ratio
	if ratio.Median != 0.9 || ratio.Min != 30_000.0/33_500 || ratio.Max != 1 {
		t.Errorf("the ratio is %+v, want a median of 0.9", ratio)
	}
}

func TestGoals(t *testing.T) {
	cases := []struct {
		name   string
		figure figure
		sample sample
		met    bool
	}{
		{"higher, reached", figure{goal: 0.9, reference: "alone"}, sample{90, 100}, true},
		{"higher, missed by little", figure{goal: 0.9, reference: "alone"}, sample{89.99, 100}, false},
		{"lower, reached", figure{goal: 1.5, lower: true, reference: "alone"}, sample{150, 100}, true},
		{"lower, missed by little", figure{goal: 1.5, lower: true, reference: "alone"}, sample{150.01, 100}, false},
		{"absolute, higher, reached", figure{goal: 10, absolute: true}, sample{10, 0}, true},
		{"absolute, higher, missed", figure{goal: 10, absolute: true}, sample{9, 0}, false},
		{"absolute, lower, reached", figure{goal: 64, absolute: true, lower: true}, sample{64, 0}, true},
		{"absolute, lower, missed", figure{goal: 64, absolute: true, lower: true}, sample{64.1, 0}, false},
		{"absolute beside a reference", figure{goal: 64, absolute: true, lower: true, reference: "alone"}, sample{65, 100}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.figure.key = "it"
			got := c.figure.resultOf([]samples{{"it": c.sample}})
			if got.Goal == nil || got.Goal.Met != c.met {
				t.Errorf("the goal is %+v, want met %t", got.Goal, c.met)
			}
		})
	}
	for _, f := range []figure{{key: "it", reference: "alone"}, {key: "it", goal: 1}, {key: "it", goal: 1, reference: "alone"}} {
		if got := f.resultOf([]samples{{"it": {value: 5}}}); got.Goal != nil {
			t.Errorf("%+v without anything to compare has the goal %+v", f, got.Goal)
		}
	}
}

func TestNumbers(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "0.00123": 0.001234, "0.123": 0.1234, "1.23": 1.234, "12.3": 12.34, "123": 123.4,
		"1,234": 1234.4, "12,345": 12345, "1,234,567": 1234567, "-1,234": -1234, "-123": -123,
	} {
		if got := number(v); got != want {
			t.Errorf("number(%g) = %s, want %s", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var got strings.Builder
	if err := threeRounds().writeTable(&got); err != nil {
		t.Fatal(err)
	}
	const want = `  figure          measured                  reference                        ratio             goal
Drain
  one endpoint    20,000 (9,000–30,000) /s  pipeline 20,000 (10,000–33,500)  0.90 (0.89–1.00)  ≥ 1       missed
  p50             1.60 (1.50–1.70) ms       floor 1.00 (1.00–1.00)           1.60 (1.50–1.70)  ≤ 1.5     missed
  idle            25.0 (24.0–26.0) MiB                                                         ≤ 25 MiB  met
  without a goal  0.500 (0.0123–123) s
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestRatioIsNotRoundedTowardsItsGoal holds that a table does not say 0.90 of
// what missed 0.9.
func TestRatioIsNotRoundedTowardsItsGoal(t *testing.T) {
	higher, lower := &verdict{Bound: 0.9}, &verdict{Bound: 1.5, Lower: true}
	for _, c := range []struct {
		goal  *verdict
		ratio float64
		want  string
	}{
		{higher, 0.8999, "0.89"}, {higher, 0.9, "0.90"}, {higher, 0.29, "0.29"}, {lower, 1.5001, "1.51"}, {lower, 1.5, "1.50"}, {lower, 1.1, "1.10"}, {nil, 0.996, "1.00"},
	} {
		if got := (&result{Goal: c.goal}).ratioText(c.ratio); got != c.want {
			t.Errorf("ratioText(%g) = %s, want %s", c.ratio, got, c.want)
		}
	}
}

func TestMarkdownReplacesWhatStandsBetweenTheMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegin+"\nold\n"+tableEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := threeRounds()
	for range 2 { // the second time over its own table
		if err := m.writeMarkdown(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = `before
<!-- bench:begin -->

Commit abc1234, 2026-05-22, normal run, 3 rounds: Some | CPU, 2 cores, 24.0 GiB, Linux 6.1, go1.26.8, PostgreSQL 15.9.

| figure | measured | reference | ratio | goal | |
|---|---|---|---|---|---|
| **Drain** | | | | | |
| one endpoint | 20,000 (9,000–30,000) /s | pipeline 20,000 (10,000–33,500) | 0.90 (0.89–1.00) | ≥ 1 | missed |
| p50 | 1.60 (1.50–1.70) ms | floor 1.00 (1.00–1.00) | 1.60 (1.50–1.70) | ≤ 1.5 | missed |
| idle | 25.0 (24.0–26.0) MiB | | | ≤ 25 MiB | met |
| without a goal | 0.500 (0.0123–123) s | | | | |

<!-- bench:end -->
after
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestMarkdownNeedsItsMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other.md")
	if err := os.WriteFile(file, []byte(tableBegin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := threeRounds().writeMarkdown(file); err == nil {
		t.Error("a document without the second marker was written to")
	}
}

func TestJSONHoldsEverySample(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := threeRounds().writeJSON(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got measured
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	o := got.Scenarios[0]
	if len(o.Figures) != 4 || len(o.Other) != 1 {
		t.Fatalf("the file has %d figures and %d other samples", len(o.Figures), len(o.Other))
	}
	if diff := cmp.Diff([]float64{20_000, 10_000, 33_500}, o.Figures[0].Reference.Rounds); diff != "" {
		t.Error(diff)
	}
	if other := o.Other[0]; other.Key != "extra" || other.Value.Median != 7 {
		t.Errorf("the sample without a row is %+v", other)
	}
}
