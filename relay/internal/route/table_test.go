package route

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

func noneDisabled(int) bool { return false }

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
	}, noneDisabled)
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
			if diff := cmp.Diff(tt.want, got.endpoints); diff != "" {
				t.Errorf("%s of tenant %q (-want +got):\n%s", tt.typ, tt.tenant, diff)
			}
		}
	}
}

func TestEndpointGetsNothingThatCommittedBeforeIt(t *testing.T) {
	tab := newTable([]Endpoint{{Patterns: []string{"*"}}, {Patterns: []string{"*"}, From: 50}, {Patterns: []string{"*"}, From: 80}}, noneDisabled)
	for lsn, want := range map[event.LSN][]int{1: {0}, 49: {0}, 50: {0, 1}, 79: {0, 1}, 80: {0, 1, 2}} {
		got := tab.match(&event.Event{Type: "a", Position: event.Position{LSN: lsn}})
		if diff := cmp.Diff(want, got.endpoints); diff != "" {
			t.Errorf("at %s (-want +got):\n%s", lsn, diff)
		}
	}
}

func TestTypesAndTenantsFromOutsideDoNotFillMemory(t *testing.T) {
	for _, endpoints := range []int{1, maxPlaces / maxKinds * 4} {
		tab := newTable(slices.Repeat([]Endpoint{{Patterns: []string{"*"}}}, endpoints), noneDisabled)
		for i := range 3 * maxKinds {
			typ, tenant := string(rune('a'+i%26)), string(rune(i))
			if i%2 == 0 {
				typ, tenant = tenant, typ
			}
			if got := tab.match(&event.Event{Type: typ, Tenant: tenant}); len(got.endpoints) != endpoints {
				t.Fatalf("%d endpoints, want %d", len(got.endpoints), endpoints)
			}
		}
		places := 0
		for _, found := range tab.seen {
			places += 1 + len(found)
		}
		if n := len(tab.seen); n > maxKinds || places > maxPlaces || places != tab.places {
			t.Errorf("%d kinds with %d places remembered, want at most %d and %d; counted %d", n, places, maxKinds, maxPlaces, tab.places)
		}
	}
}

func TestFilterAndDisabling(t *testing.T) {
	large, err := transforms.ParseFilter("payload.amount > 1000")
	if err != nil {
		t.Fatal(err)
	}
	disabled := map[int]bool{2: true}
	tab := newTable([]Endpoint{
		0: {Patterns: []string{"*"}},
		1: {Patterns: []string{"pr.*"}, Filter: large},
		2: {Patterns: []string{"*"}},
		3: {Patterns: []string{"*"}, Filter: large, Tenant: "acme"},
	}, func(at int) bool { return disabled[at] })
	tests := []struct {
		name, typ, tenant, payload string
		want, failed               []int
	}{
		{"wanted", "pr.submitted", "acme", `{"amount": 4500}`, []int{0, 1, 3}, nil},
		{"too small", "pr.submitted", "acme", `{"amount": 10}`, []int{0}, nil},
		{"missing", "pr.submitted", "acme", `{}`, []int{0}, nil},
		{"another tenant's", "pr.submitted", "other", `{"amount": 4500}`, []int{0, 1}, nil},
		{"cannot be judged", "pr.submitted", "acme", `{"amount": "many"}`, []int{0, 1, 3}, []int{1, 3}},
		{"another type", "po.issued", "", `{"amount": "many"}`, []int{0}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tab.match(&event.Event{Type: tt.typ, Tenant: tt.tenant, Payload: []byte(tt.payload)})
			failed := slices.Sorted(maps.Keys(got.errs))
			if !slices.Equal(got.endpoints, tt.want) || !slices.Equal(failed, tt.failed) {
				t.Errorf("got %v, failed %v; want %v, failed %v", got.endpoints, failed, tt.want, tt.failed)
			}
		})
	}
	disabled[2] = false
	if got := tab.match(&event.Event{Type: "po.issued", Payload: []byte(`{}`)}); !slices.Equal(got.endpoints, []int{0, 2}) {
		t.Errorf("after it was enabled: got %v", got.endpoints)
	}
}

func TestMatchIsWhatTheRouterWouldDo(t *testing.T) {
	ep := Endpoint{Tenant: "a", Patterns: []string{"order.*"}}
	for want, e := range map[bool]*event.Event{true: {Type: "order.placed", Tenant: "a"}, false: {Type: "order.placed", Tenant: "b"}} {
		if got, err := Match(ep, e); err != nil || got != want {
			t.Errorf("%+v: %t, %v", e, got, err)
		}
	}
}
