package main

import (
	"strings"
	"testing"
)

func TestEverySizeOfADimensionIsDrawn(t *testing.T) {
	for _, mode := range []mode{brief, normal, full} {
		b := &bench{mode: mode}
		for _, d := range dimensions {
			s := samples{}
			for _, size := range d.sizes(b) {
				config, l := d.load(b, size)
				if l.events < 1 || l.deliveries < 1 || l.payload < 1 || !strings.Contains(config, "/e/1") {
					t.Errorf("%s run, %s %d: the backlog is %+v", mode, d.name, size, l)
				}
				s[growthKey(d.name, size, growthRate)], s[growthKey(d.name, size, growthCPU)] = sample{value: 1}, sample{value: 1}
			}
			m := &measured{}
			m.add(growthScenario(), s)
			c := d.chart(m.Scenarios[0].Other)
			if c == nil {
				t.Fatalf("%s run: there is no chart of %s", mode, d.name)
			}
			for _, p := range c.panels {
				if len(p.points) != len(s)/2 {
					t.Errorf("%s run, %s: %d sizes have %d points", mode, d.name, len(s)/2, len(p.points))
				}
			}
		}
	}
}

func TestSizesAreWrittenShort(t *testing.T) {
	for want, got := range map[string]string{
		"512 B": bytesText(512), "64 KB": bytesText(64 << 10),
		"1": countText(1), "1024": countText(1024), "50k": countText(50_000), "1M": countText(1_000_000),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestConfigurationOfManyEndpointsFits holds that the relay would read the
// largest configuration there is: files may have 1 MiB.
func TestConfigurationOfManyEndpointsFits(t *testing.T) {
	config := endpointsConfig(10_000, perEndpoint, onlyFirst)
	if len(config) > 1<<20 || !strings.Contains(config, "/e/10000") {
		t.Errorf("the configuration of 10,000 endpoints has %d bytes", len(config))
	}
}
