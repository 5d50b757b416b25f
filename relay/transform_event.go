package relay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Content is what transforms may change of an event.
type Content struct {
	Type    string
	Headers map[string]string // may be nil
	Payload []byte            // JSON text
}

// equal reports whether both are the same, the payloads to the byte.
func (c *Content) equal(other *Content) bool {
	return c.Type == other.Type && maps.Equal(c.Headers, other.Headers) && bytes.Equal(c.Payload, other.Payload)
}

// Event is an event for a Transformer: one of the outbox, which is not to be
// changed, or one made up.
type Event struct {
	ID uuid.UUID // a random one is chosen for uuid.Nil
	Content
	Tenant, Key string    // empty if it has none
	CreatedAt   time.Time // now if zero

	row *event.Event // what was read from the outbox; nil for an event that is made up
}

// ParseEvent reads an event that is written as an object of id, type, tenant,
// key, headers, payload and created_at, of which type and payload are
// required. The payload is taken as it is written. An id that is no UUID stands
// for the one that the relay makes of it.
func ParseEvent(text []byte) (Event, error) {
	var o struct {
		ID        string            `json:"id"`
		Type      string            `json:"type"`
		Tenant    string            `json:"tenant"`
		Key       string            `json:"key"`
		Headers   map[string]string `json:"headers"`
		Payload   json.RawMessage   `json:"payload"`
		CreatedAt time.Time         `json:"created_at"`
	}
	if !json.Valid(text) {
		return Event{}, errors.New("read an event: it is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&o)
	var mistaken *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistaken):
		return Event{}, fmt.Errorf("read an event: %s may not be or hold a %s", cmp.Or(mistaken.Field, "it"), mistaken.Value)
	case err != nil:
		return Event{}, fmt.Errorf("read an event: %w", err)
	}
	if o.Type == "" || o.Payload == nil {
		return Event{}, errors.New("read an event: it has no type or no payload")
	}
	e := Event{Content: Content{Type: o.Type, Headers: o.Headers, Payload: o.Payload}, Tenant: o.Tenant, Key: o.Key, CreatedAt: o.CreatedAt}
	if o.ID != "" {
		e.ID = event.IDOf(o.ID)
	}
	return e, nil
}

// committed returns the event as the stream would bring it.
func (e *Event) committed() (*event.Event, error) {
	if e.row != nil {
		return e.row, nil
	}
	c := &event.Event{ID: e.ID, Type: e.Type, Tenant: e.Tenant, Key: e.Key, Payload: e.Payload, CreatedAt: e.CreatedAt}
	if c.ID == uuid.Nil {
		c.ID = uuid.New()
	}
	if c.CreatedAt.IsZero() {
		c.CreatedAt = time.Now().UTC()
	}
	c.CommittedAt = c.CreatedAt
	switch {
	case e.Type == "":
		return nil, errors.New("the event has no type")
	case !json.Valid(e.Payload):
		return nil, errors.New("the payload is not JSON")
	case len(e.Headers) > 0:
		var err error
		if c.Headers, err = json.Marshal(e.Headers); err != nil {
			return nil, fmt.Errorf("write the event's headers: %w", err)
		}
	}
	return c, nil
}

// eventOf returns an event of the outbox. Headers that are no object of strings
// are not shown: what is wrong with them is what transforming it yields.
func eventOf(row *event.Event) Event {
	return Event{ID: row.ID, Content: *contentOf(row), Tenant: row.Tenant, Key: row.Key, CreatedAt: row.CreatedAt, row: row}
}

// contentOf returns an event's content as it was committed.
func contentOf(e *event.Event) *Content {
	headers, err := e.HeaderMap()
	if err != nil {
		headers = nil
	}
	return &Content{Type: e.Type, Headers: headers, Payload: e.Payload}
}
