package route

import (
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/transforms"
)

// table finds the endpoints of an event. Matching by type and tenant is done
// once for each pair that was seen lately.
type table struct {
	tenants map[string]*patterns // "" for the endpoints that take every tenant's

	// By endpoint.
	filters  []*transforms.Filter
	filtered bool // there is one
	from     []event.LSN
	disabled func(endpoint int) bool

	seen   map[kind][]int
	places int // of the endpoints in seen, and one for each of its entries
}

// patterns finds endpoints by an event's type.
type patterns struct {
	exact  map[string][]int // type → endpoints
	prefix map[string][]int // "group." → endpoints
	action map[string][]int // what follows the type's last dot → endpoints
	all    []int
}

// kind is what endpoints are matched by, but for their filters.
type kind struct{ typ, tenant string }

// The bounds on what is remembered: types and tenants come from outside.
const (
	maxKinds  = 1 << 12
	maxPlaces = 1 << 20 // 8 MiB
)

// reserved is the group of the relay's own events, which "*" does not match.
const reserved = "posthorn."

func newTable(endpoints []Endpoint, disabled func(endpoint int) bool) *table {
	t := &table{tenants: map[string]*patterns{}, disabled: disabled, seen: map[kind][]int{}}
	for i, ep := range endpoints {
		t.filters = append(t.filters, ep.Filter)
		t.filtered = t.filtered || ep.Filter != nil
		t.from = append(t.from, ep.From)
		p := t.tenants[ep.Tenant]
		if p == nil {
			p = &patterns{exact: map[string][]int{}, prefix: map[string][]int{}, action: map[string][]int{}}
			t.tenants[ep.Tenant] = p
		}
		for _, pattern := range ep.Patterns {
			p.add(pattern, i)
		}
	}
	return t
}

func (p *patterns) add(pattern string, endpoint int) {
	group, isGroup := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == "*":
		p.all = append(p.all, endpoint)
	case strings.HasPrefix(pattern, "*."):
		p.action[pattern[2:]] = append(p.action[pattern[2:]], endpoint)
	case isGroup:
		p.prefix[group] = append(p.prefix[group], endpoint)
	default:
		p.exact[pattern] = append(p.exact[pattern], endpoint)
	}
}

// matches are the endpoints that want an event.
type matches struct {
	endpoints []int         // their numbers, ascending; to be read only
	errs      map[int]error // of those whose filter could not judge the event
}

// match finds the endpoints that want e.
func (t *table) match(e *event.Event) matches {
	found := t.candidates(e)
	for i, at := range found {
		if t.filters[at] != nil || t.from[at] > e.Position.LSN || t.disabled(at) {
			return t.sieve(e, found, i)
		}
	}
	return matches{endpoints: found}
}

// candidates returns the endpoints that want e unless their filters refuse it,
// they are disabled, or they are newer than it.
func (t *table) candidates(e *event.Event) []int {
	found, ok := t.seen[kind{e.Type, e.Tenant}]
	if ok {
		return found
	}
	found = t.find(e.Type, e.Tenant)
	if t.places += 1 + len(found); len(t.seen) >= maxKinds || t.places > maxPlaces {
		clear(t.seen)
		t.places = 1 + len(found)
	}
	t.seen[kind{strings.Clone(e.Type), strings.Clone(e.Tenant)}] = found
	return found
}

// sieve returns those of found that want e; the first n do.
func (t *table) sieve(e *event.Event, found []int, n int) matches {
	m := matches{endpoints: slices.Clone(found[:n])}
	var subject *transforms.Subject
	for _, at := range found[n:] {
		if t.from[at] > e.Position.LSN || t.disabled(at) {
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

// find returns the endpoints that take a tenant's events of a type, ascending.
func (t *table) find(typ, tenant string) []int {
	found := t.tenants[""].find(nil, typ)
	if tenant != "" {
		found = t.tenants[tenant].find(found, typ)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// find appends the endpoints of a type, some perhaps more than once. A nil p
// has none.
func (p *patterns) find(found []int, typ string) []int {
	if p == nil {
		return found
	}
	found = append(found, p.exact[typ]...)
	for i := range len(typ) {
		if typ[i] == '.' && i+1 < len(typ) {
			found = append(found, p.prefix[typ[:i+1]]...)
		}
	}
	if !strings.HasPrefix(typ, reserved) {
		_, action := transforms.SplitType(typ)
		found = append(found, p.action[action]...)
		found = append(found, p.all...)
	}
	return found
}

// Match reports whether an endpoint wants an event, disabled or not. An error
// says why its filter cannot judge it.
func Match(ep Endpoint, e *event.Event) (bool, error) {
	m := newTable([]Endpoint{ep}, func(int) bool { return false }).match(e)
	return len(m.endpoints) > 0, m.errs[0]
}

// Wants reports whether patterns, as Endpoint has them, match an event type.
func Wants(patterns []string, typ string) bool {
	return len(newTable([]Endpoint{{Patterns: patterns}}, nil).find(typ, "")) > 0
}
