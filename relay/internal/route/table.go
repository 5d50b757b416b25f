package route

import (
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

// table finds the endpoints of an event. Matching by type is done once for
// each type that was seen lately.
type table struct {
	exact  map[string][]int // type → endpoints
	prefix map[string][]int // "group." → endpoints
	action map[string][]int // what follows the type's last dot → endpoints
	all    []int
	tenant []string // by endpoint

	byType map[string][]int
}

// maxTypes bounds how many types are remembered: event types come from outside.
const maxTypes = 1 << 12

// reserved is the group of the relay's own events, which "*" does not match.
const reserved = "posthorn."

func newTable(endpoints []Endpoint) *table {
	t := &table{exact: map[string][]int{}, prefix: map[string][]int{}, action: map[string][]int{}, byType: map[string][]int{}}
	for i, ep := range endpoints {
		t.tenant = append(t.tenant, ep.Tenant)
		for _, p := range ep.Patterns {
			group, isGroup := strings.CutSuffix(p, "*")
			switch {
			case p == "*":
				t.all = append(t.all, i)
			case strings.HasPrefix(p, "*."):
				t.action[p[2:]] = append(t.action[p[2:]], i)
			case isGroup:
				t.prefix[group] = append(t.prefix[group], i)
			default:
				t.exact[p] = append(t.exact[p], i)
			}
		}
	}
	return t
}

// match returns the numbers of the endpoints that want e, ascending. The
// result is the caller's to read only.
func (t *table) match(e *event.Event) []int {
	found, ok := t.byType[e.Type]
	if !ok {
		found = t.find(e.Type)
		if len(t.byType) >= maxTypes {
			clear(t.byType)
		}
		t.byType[strings.Clone(e.Type)] = found
	}
	for i, at := range found {
		if t.foreign(at, e) {
			return t.own(e, found, i)
		}
	}
	return found
}

// foreign reports whether endpoint at belongs to another tenant than e.
func (t *table) foreign(at int, e *event.Event) bool {
	return t.tenant[at] != "" && t.tenant[at] != e.Tenant
}

// own returns those of found that may have e; the first n may.
func (t *table) own(e *event.Event, found []int, n int) []int {
	own := slices.Clone(found[:n])
	for _, at := range found[n:] {
		if !t.foreign(at, e) {
			own = append(own, at)
		}
	}
	return own
}

func (t *table) find(typ string) []int {
	found := slices.Clone(t.exact[typ])
	for i := range len(typ) {
		if typ[i] == '.' && i+1 < len(typ) {
			found = append(found, t.prefix[typ[:i+1]]...)
		}
	}
	if !strings.HasPrefix(typ, reserved) {
		_, action := transforms.SplitType(typ)
		found = append(found, t.action[action]...)
		found = append(found, t.all...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
