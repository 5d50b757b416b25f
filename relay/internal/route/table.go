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

	// By endpoint.
	tenant   []string
	filters  []*transforms.Filter
	disabled func(endpoint int) bool

	byType map[string][]int
}

// maxTypes bounds how many types are remembered: event types come from outside.
const maxTypes = 1 << 12

// reserved is the group of the relay's own events, which "*" does not match.
const reserved = "posthorn."

func newTable(endpoints []Endpoint, disabled func(endpoint int) bool) *table {
	t := &table{exact: map[string][]int{}, prefix: map[string][]int{}, action: map[string][]int{}, disabled: disabled, byType: map[string][]int{}}
	for i, ep := range endpoints {
		t.tenant = append(t.tenant, ep.Tenant)
		t.filters = append(t.filters, ep.Filter)
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

// matches are the endpoints that want an event.
type matches struct {
	endpoints []int         // their numbers, ascending; to be read only
	errs      map[int]error // of those whose filter could not judge the event
}

// match finds the endpoints that want e.
func (t *table) match(e *event.Event) matches {
	found, ok := t.byType[e.Type]
	if !ok {
		found = t.find(e.Type)
		if len(t.byType) >= maxTypes {
			clear(t.byType)
		}
		t.byType[strings.Clone(e.Type)] = found
	}
	for i, at := range found {
		if t.filters[at] != nil || !t.serves(at, e) {
			return t.sieve(e, found, i)
		}
	}
	return matches{endpoints: found}
}

// serves reports whether endpoint at gets events of e's tenant, and any at all.
func (t *table) serves(at int, e *event.Event) bool {
	return (t.tenant[at] == "" || t.tenant[at] == e.Tenant) && !t.disabled(at)
}

// sieve returns those of found that want e; the first n do.
func (t *table) sieve(e *event.Event, found []int, n int) matches {
	m := matches{endpoints: slices.Clone(found[:n])}
	var subject *transforms.Subject
	for _, at := range found[n:] {
		if !t.serves(at, e) {
			continue
		}
		if filter := t.filters[at]; filter != nil && e.Invalid == "" { // what is invalid fails when it is rendered
			if subject == nil {
				subject = newSubject(e)
			}
			wanted, err := filter.Match(subject)
			if err == nil && !wanted {
				continue
			}
			if err != nil {
				m.fail(at, err)
			}
		}
		m.endpoints = append(m.endpoints, at)
	}
	return m
}

func (m *matches) fail(at int, err error) {
	if m.errs == nil {
		m.errs = make(map[int]error)
	}
	m.errs[at] = err
}

func newSubject(e *event.Event) *transforms.Subject {
	headers, err := e.HeaderMap()
	if err != nil { // the deliveries fail by it when they are rendered
		headers = nil
	}
	object, action := transforms.SplitType(e.Type)
	return transforms.NewSubject(transforms.Event{
		ID: e.ID.String(), Type: e.Type, Object: object, Action: action,
		Tenant: e.Tenant, Key: e.Key, CreatedAt: e.CreatedAt, Headers: headers,
	}, transforms.JSON(e.Payload))
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

// Wants reports whether patterns, as Endpoint has them, match an event type.
func Wants(patterns []string, typ string) bool {
	return len(newTable([]Endpoint{{Patterns: patterns}}, nil).find(typ)) > 0
}
