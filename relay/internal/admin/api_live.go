package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Bounds of live listening.
const (
	liveEvery     = time.Second
	liveFor       = 10 * time.Minute // then a listener has to ask, and show who it is, again
	maxListeners  = 64
	maxOfOne      = 16 // listeners of one caller or tenant
	retryListener = 2 * time.Second
)

type liveInput struct {
	State    []string `query:"state,explode" enum:"pending,sending,delivered,failed,skipped" doc:"Only in this state."`
	Endpoint string   `query:"endpoint" maxLength:"256" doc:"Only to this endpoint, by name or id."`
	Tenant   string   `query:"tenant" maxLength:"256" doc:"Only of this tenant."`
	Type     string   `query:"type" maxLength:"256" doc:"Only of this event type."`
	Event    string   `query:"event" format:"uuid" doc:"Only of this event."`
	Limit    int      `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Watch so many deliveries, those of the newest events."`
	For      string   `query:"for" maxLength:"40" default:"10m" doc:"How long to go on, at most 10m; 0s for one look."`
}

// liveDeliveries are those that are new or changed.
type liveDeliveries struct {
	Deliveries []Delivery `json:"deliveries" nullable:"false"`
}

// listeners bounds who listens.
type listeners struct {
	mu  sync.Mutex
	all int
	by  map[string]int
}

// enter returns what ends a caller's listening, or false when there are enough.
func (l *listeners) enter(who *Caller) (leave func(), ok bool) {
	name := "name " + who.Name
	if who.Tenant != "" { // whose names are not ours
		name = "tenant " + who.Tenant
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxListeners || l.by[name] >= maxOfOne {
		return nil, false
	}
	if l.by == nil {
		l.by = map[string]int{}
	}
	l.all++
	l.by[name]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.by[name]--; l.by[name] == 0 {
			delete(l.by, name)
		}
	}, true
}

func (a *API) liveOperations() {
	register(a, operation{
		id: "watch-deliveries", method: http.MethodGet, path: "/live", role: Viewer, portal: true,
		summary: "Watch deliveries as they happen",
		doc: "Server-sent events: of the newest deliveries first all, then those that are new or changed, and how the stream stands, each second. " +
			"It ends after ten minutes at the latest; an EventSource asks again by itself.",
		answer: a.liveAnswer(),
	}, a.watch)
}

// liveAnswer describes the events for the OpenAPI document, as a list of them.
func (a *API) liveAnswer() *huma.Response {
	schemas := a.huma.OpenAPI().Components.Schemas
	var kinds []*huma.Schema
	for _, kind := range []struct {
		event, doc string
		data       any
	}{
		{"stream", "How the stream stands, each second; not for a tenant.", streamStatus{}},
		{"deliveries", "The deliveries that are new or changed; first all.", liveDeliveries{}},
		{"problem", "Why deliveries cannot be read at present. It goes on.", huma.ErrorModel{}},
	} {
		kinds = append(kinds, &huma.Schema{Type: "object", Description: kind.doc, Required: []string{"event", "data"}, Properties: map[string]*huma.Schema{
			"event": {Type: "string", Enum: []any{kind.event}},
			"data":  schemas.Schema(reflect.TypeOf(kind.data), true, ""),
		}})
	}
	return &huma.Response{Description: "Server-sent events.", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: "array", Description: "The events, one after the other.", Items: &huma.Schema{OneOf: kinds}}},
	}}
}

// watch answers with a stream of events once the first look succeeded.
func (a *API) watch(ctx context.Context, who *Caller, in *liveInput) (*huma.StreamResponse, error) {
	goOn, err := time.ParseDuration(in.For)
	if err != nil || goOn < 0 || goOn > liveFor {
		return nil, invalid("query.for", "is a duration of at most 10m, such as 30s")
	}
	query := deliveriesInput{PageInput: PageInput{Limit: in.Limit}, State: in.State, Endpoint: in.Endpoint, Tenant: in.Tenant, Type: in.Type, Event: in.Event}
	f, err := query.filter()
	if err != nil {
		return nil, err
	}
	f.Limit = in.Limit
	leave, ok := a.listeners.enter(who)
	if !ok {
		return nil, huma.ErrorWithHeaders(huma.Error429TooManyRequests("too many listen already"), http.Header{"Retry-After": {"10"}})
	}
	list, err := a.Control.List(ctx, who, f)
	if err != nil {
		leave()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer leave()
		h.SetHeader("Content-Type", "text/event-stream")
		h.SetHeader("X-Accel-Buffering", "no") // nginx would keep the events back
		l := &listening{api: a, who: who, to: h, filter: f, seen: map[uuid.UUID]string{}}
		l.run(h.Context(), list, goOn)
	}}, nil
}

// listening is one listener's stream.
type listening struct {
	api    *API
	who    *Caller
	to     huma.Context
	filter ledger.Filter
	seen   map[uuid.UUID]string // the deliveries of the look before, as they were sent
	ill    bool                 // they could not be read the last time
}

// run sends what each look shows, list being that of the first, for so long or
// until ctx ends or the listener is gone.
func (l *listening) run(ctx context.Context, list []ledger.Delivery, goOn time.Duration) {
	if l.write(fmt.Sprintf("retry: %d\n\n", retryListener.Milliseconds())) != nil {
		return
	}
	end := time.Now().Add(goOn)
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		if l.pulse() != nil || l.show(list, first) != nil || !time.Now().Before(end) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !l.who.Stays(ctx) {
			return
		}
		var err error
		if list, err = l.look(ctx); err != nil {
			return
		}
	}
}

// pulse sends how the stream stands: to a tenant, whose business that is not,
// a comment, by which it sees that the connection is alive.
func (l *listening) pulse() error {
	if l.who.Tenant != "" {
		return l.write(":\n\n")
	}
	return l.send("stream", streamOf(l.api.Snapshot()))
}

// look reads the deliveries: none, once it told the listener, where that fails.
func (l *listening) look(ctx context.Context) ([]ledger.Delivery, error) {
	looking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	list, err := l.api.Control.List(looking, l.who, l.filter)
	switch {
	case err == nil:
		l.ill = false
		return list, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case l.ill: // it was said
		return nil, nil
	}
	l.ill = true
	return nil, l.send("problem", l.api.problem(ctx, "watch-deliveries", err))
}

// show sends those of list that are new or changed, or all.
func (l *listening) show(list []ledger.Delivery, all bool) error {
	news, seen := liveDeliveries{Deliveries: []Delivery{}}, make(map[uuid.UUID]string, len(list))
	for i := range list {
		d := deliveryOf(&list[i])
		text, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if seen[d.ID] = string(text); l.seen[d.ID] != seen[d.ID] {
			news.Deliveries = append(news.Deliveries, d)
		}
	}
	if !l.ill {
		l.seen = seen
	}
	if len(news.Deliveries) == 0 && !all {
		return nil
	}
	return l.send("deliveries", news)
}

// send sends one event. JSON has no line breaks, which would end its data.
func (l *listening) send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return l.write(fmt.Sprintf("event: %s\ndata: %s\n\n", event, text))
}

func (l *listening) write(text string) error {
	_ = l.who.conn.SetWriteDeadline(time.Now().Add(writeWithin)) // every connection can, but for those of tests
	if _, err := io.WriteString(l.to.BodyWriter(), text); err != nil {
		return err
	}
	return l.who.conn.Flush()
}
