package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected chart in testdata")

// elements returns how often each element occurs in a document, which must be
// well-formed, and the text of all of them.
func elements(t *testing.T, document string) (names map[string]int, texts string) {
	t.Helper()
	names = map[string]int{}
	decoder := xml.NewDecoder(strings.NewReader(document))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, document)
		}
		switch token := token.(type) {
		case xml.StartElement:
			names[token.Name.Local]++
		case xml.CharData:
			texts += string(token)
		}
	}
}

// grown is a run of growth with two rounds of two sizes.
func grown() *measured {
	m := &measured{Mode: "normal", Environment: environment{Commit: "<abc>"}}
	for _, factor := range []float64{1, 2} {
		m.add(scenario{name: growthName}, samples{
			growthKey("payload", 4096, growthRate): {value: 8_000 * factor}, growthKey("payload", 4096, growthCPU): {value: 60},
			growthKey("payload", 512, growthRate): {value: 20_000 * factor}, growthKey("payload", 512, growthCPU): {value: 40},
		})
	}
	return m
}

func TestLineChart(t *testing.T) {
	c := dimensions[0].chart(grown().Scenarios[0].Other)
	got := c.svg()
	const golden = "testdata/chart.svg"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-update writes it anew: %s", diff)
	}
	names, texts := elements(t, got)
	if names["circle"] != 4 || names["polyline"] != 2 {
		t.Errorf("the chart has %d points and %d lines, want 4 and 2", names["circle"], names["polyline"])
	}
	for _, text := range []string{"512 B", "4 KB", "30,000", "12,000", "40.0", "60.0", c.title, c.x, "events a second"} {
		if !strings.Contains(texts, text) {
			t.Errorf("the chart does not say %q", text)
		}
	}
}

func TestLineChartOfOneSize(t *testing.T) {
	m := &measured{}
	m.add(scenario{name: growthName}, samples{growthKey("backlog", 100, growthRate): {value: 5}, growthKey("backlog", 100, growthCPU): {}})
	names, _ := elements(t, dimensions[3].chart(m.Scenarios[0].Other).svg())
	if names["circle"] != 2 {
		t.Errorf("the chart has %d points, want 2", names["circle"])
	}
}

func TestNoChartOfWhatWasNotMeasured(t *testing.T) {
	if c := dimensions[1].chart(grown().Scenarios[0].Other); c != nil {
		t.Errorf("a chart of nothing has the title %s", c.title)
	}
}

func TestBarsSayWhatMissedItsGoal(t *testing.T) {
	bars := threeRounds().bars()
	want := []bar{
		{title: "drain: one endpoint", text: "0.90, goal ≥ 1: missed", reached: 0.9},
		{title: "drain: p50", text: "1.60, goal ≤ 1.5: missed", reached: 1.5 / 1.6},
		{title: "drain: idle", text: "25.0 MiB, goal ≤ 25 MiB: met", reached: 1, met: true},
	}
	if diff := cmp.Diff(want, bars, cmp.AllowUnexported(bar{})); diff != "" {
		t.Error(diff)
	}
	bars[0].reached = 100 // drawn to the edge
	names, texts := elements(t, barsSVG("Goals & <more>", "reached", bars))
	if names["rect"] != 4 || !strings.Contains(texts, "Goals & <more>") || !strings.Contains(texts, bars[2].text) {
		t.Errorf("the chart has %d rectangles and says %s", names["rect"], texts)
	}
}

func TestAxisHasRoomAndFewTicks(t *testing.T) {
	for _, highest := range []float64{0, 0.003, 0.9, 1, 7, 10, 99, 100, 12_345, 250_000} {
		step, limit := axis(highest)
		if limit <= highest || limit/step > 6.001 || step <= 0 {
			t.Errorf("axis(%g) = %g, %g", highest, step, limit)
		}
	}
}

func TestChartsAreWrittenAsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	m := grown()
	m.add(measurable, samples{"idle": {value: 20}})
	if err := m.writeCharts(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"goals.svg", "growth-payload.svg"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		elements(t, string(text))
	}
	if _, err := os.Stat(filepath.Join(dir, "growth-backlog.svg")); err == nil {
		t.Error("there is a chart of what was not measured")
	}
}
