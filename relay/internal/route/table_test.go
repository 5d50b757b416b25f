package route

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/relay/internal/event"
)

func TestMatch(t *testing.T) {
	tab := newTable([]Endpoint{
		0: {Patterns: []string{"*"}},
		1: {Patterns: []string{"pr.*"}},
		2: {Patterns: []string{"pr.submitted", "pr.*", "*"}},
		3: {Patterns: []string{"pr.line.*"}},
		4: {Patterns: []string{"*"}, Tenant: "acme"},
		5: {Patterns: []string{"posthorn.*"}},
		6: {Patterns: []string{"*.create", "device.delete"}},
		7: {Patterns: []string{"pr"}},
	})
	tests := []struct {
		typ, tenant string
		want        []int
	}{
		{"pr.submitted", "", []int{0, 1, 2}},
		{"pr.submitted", "acme", []int{0, 1, 2, 4}},
		{"pr.submitted", "other", []int{0, 1, 2}},
		{"pr.line.added", "", []int{0, 1, 2, 3}},
		{"pr", "", []int{0, 2, 7}},
		{"pr.", "", []int{0, 2}},
		{"prx.submitted", "", []int{0, 2}},
		{"posthorn.endpoint_paused", "", []int{5}},
		{"device.create", "", []int{0, 2, 6}},
		{"rack.device.create", "", []int{0, 2, 6}},
		{"device.delete", "", []int{0, 2, 6}},
		{"create", "", []int{0, 2}},
		{"posthorn.create", "acme", []int{5}},
	}
	for range 2 { // the second time from memory
		for _, tt := range tests {
			got := tab.match(&event.Event{Type: tt.typ, Tenant: tt.tenant})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s of tenant %q (-want +got):\n%s", tt.typ, tt.tenant, diff)
			}
		}
	}
}

func TestTypesFromOutsideDoNotFillMemory(t *testing.T) {
	tab := newTable([]Endpoint{{Patterns: []string{"*"}}})
	for i := range 3 * maxTypes {
		tab.match(&event.Event{Type: string(rune('a'+i%26)) + string(rune(i))})
	}
	if n := len(tab.byType); n > maxTypes {
		t.Errorf("%d types remembered, want at most %d", n, maxTypes)
	}
}
