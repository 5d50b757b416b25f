package dashboard

import (
	"net/url"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// eventsBody is what the catalogue shows.
type eventsBody struct {
	Groups []catalogueGroup
	Search string
	All    int
}

type catalogueGroup struct {
	Name  string
	Types []admin.EventType
}

func (d *Dashboard) listEvents(q *request) (*answer, error) {
	catalogue := d.Control.Catalogue()
	b := &eventsBody{All: len(catalogue), Search: cut(maxFilter, strings.TrimSpace(q.URL.Query().Get("search")))}
	search := strings.ToLower(b.Search)
	for _, t := range catalogue {
		if !strings.Contains(strings.ToLower(t.Type+" "+t.Title+" "+t.Group), search) {
			continue
		}
		name := t.Group
		if name == "" {
			name, _, _ = strings.Cut(t.Type, ".")
		}
		i := slices.IndexFunc(b.Groups, func(g catalogueGroup) bool { return g.Name == name })
		if i < 0 {
			i, b.Groups = len(b.Groups), append(b.Groups, catalogueGroup{Name: name})
		}
		b.Groups[i].Types = append(b.Groups[i].Types, t)
	}
	a := &answer{page: "events", title: "Events", section: "events", body: b}
	if q.partial() {
		a.part = "list"
	}
	return a, nil
}

// eventBody is what the page of an event type shows.
type eventBody struct {
	admin.EventType
	Sample    string
	SchemaOf  string
	Path      string // of the page
	Endpoints []ledger.Endpoint
	Chosen    string // the endpoint that the form has
	Test      *testBody
}

// maxChoices bounds the endpoints that the form of a test offers.
const maxChoices = 500

// eventOf returns the catalogue's type that the address names.
func (d *Dashboard) eventOf(q *request) (*eventBody, error) {
	catalogue := d.Control.Catalogue()
	i := slices.IndexFunc(catalogue, func(t admin.EventType) bool { return t.Type == q.PathValue("type") })
	if i < 0 {
		return nil, errUnknown
	}
	t := catalogue[i]
	b := &eventBody{EventType: t, Sample: pretty(t.Example), SchemaOf: pretty(t.Schema), Path: "/events/" + url.PathEscape(t.Type)}
	all, err := d.Control.EndpointNames(q.Context(), q.who)
	if err != nil {
		return nil, err
	}
	b.Endpoints = all[:min(len(all), maxChoices)]
	return b, nil
}

func (d *Dashboard) showEvent(q *request) (*answer, error) {
	b, err := d.eventOf(q)
	if err != nil {
		return nil, err
	}
	return &answer{page: "event", title: b.Type, section: "events", body: b}, nil
}

// sendEvent sends a test of the type to an endpoint.
func (d *Dashboard) sendEvent(q *request) (*answer, error) {
	b, err := d.eventOf(q)
	if err != nil {
		return nil, err
	}
	b.Chosen, b.Sample = q.PostForm.Get("endpoint"), q.PostForm.Get("payload")
	if b.Test, err = d.test(q, b.Chosen, b.Type, b.Sample); err != nil {
		return nil, err
	}
	if q.partial() {
		return &answer{page: "event", part: "test", body: b.Test}, nil
	}
	return &answer{page: "event", title: b.Type, section: "events", body: b}, nil
}
