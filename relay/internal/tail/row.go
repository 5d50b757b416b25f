package tail

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Columns names the outbox table's columns. An empty name means that the table
// has no such column; ID, Type and Payload are required.
type Columns struct {
	ID, Type, Tenant, Key, Payload, Headers, CreatedAt string
}

// Named returns the logical names and the columns that stand for them, in the
// order of the outbox table, without those that are not mapped.
func (c Columns) Named() [][2]string {
	all := [][2]string{
		{"id", c.ID},
		{"type", c.Type},
		{"tenant", c.Tenant},
		{"key", c.Key},
		{"payload", c.Payload},
		{"headers", c.Headers},
		{"created_at", c.CreatedAt},
	}
	named := all[:0]
	for _, pair := range all {
		if pair[1] != "" {
			named = append(named, pair)
		}
	}
	return named
}

// OIDs of the types whose text Postgres has checked already.
const (
	oidJSON  = 114
	oidJSONB = 3802
)

// mapping says at which place of a relation's rows each of our columns stands;
// -1 where the table has none.
type mapping struct {
	id, typ, tenant, key, payload, headers, createdAt int
	checked                                           bool // Postgres guarantees that payload is JSON
}

// mapColumns finds c's columns in rel.
func mapColumns(rel *relation, c Columns) (*mapping, error) {
	var missing []string
	find := func(name string) int {
		if name == "" {
			return -1
		}
		for i, col := range rel.columns {
			if col.name == name {
				return i
			}
		}
		missing = append(missing, name)
		return -1
	}
	m := &mapping{
		id: find(c.ID), typ: find(c.Type), tenant: find(c.Tenant), key: find(c.Key),
		payload: find(c.Payload), headers: find(c.Headers), createdAt: find(c.CreatedAt),
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("table %s.%s has no column %s: mend the table or source.columns", rel.schema, rel.name, strings.Join(missing, ", "))
	}
	t := rel.columns[m.payload].typ
	m.checked = t == oidJSON || t == oidJSONB
	return m, nil
}

// event makes the event of one row. What the row holds never stops the stream:
// a row that cannot be delivered becomes an event that says so.
func (m *mapping) event(row []value) *event.Event {
	at := func(i int) []byte {
		if i < 0 || i >= len(row) {
			return nil
		}
		return row[i].data
	}
	e := &event.Event{ID: event.IDOf(at(m.id))}
	// The message's buffer is used again: one copy for all texts, one for the rest.
	typ, tenant, key := at(m.typ), at(m.tenant), at(m.key)
	var texts strings.Builder
	texts.Grow(len(typ) + len(tenant) + len(key))
	texts.Write(typ)
	texts.Write(tenant)
	texts.Write(key)
	text := texts.String()
	e.Type, text = text[:len(typ)], text[len(typ):]
	e.Tenant, e.Key = text[:len(tenant)], text[len(tenant):]
	payload, headers := at(m.payload), at(m.headers)
	if len(headers) == 0 {
		e.Payload = slices.Clip(bytes.Clone(payload)) // unlike make it clears nothing first: payloads may be large
	} else {
		both := append(append(make([]byte, 0, len(payload)+len(headers)), payload...), headers...)
		e.Payload, e.Headers = both[:len(payload):len(payload)], both[len(payload):]
	}
	if m.createdAt >= 0 {
		e.CreatedAt = parseTime(at(m.createdAt))
	}
	e.Invalid = m.invalid(e, at(m.id))
	return e
}

func (m *mapping) invalid(e *event.Event, id []byte) string {
	switch {
	case len(id) == 0:
		return "the event has no id"
	case e.Type == "":
		return "the event has no type"
	case len(e.Payload) == 0:
		return "the event has no payload"
	case !m.checked && !json.Valid(e.Payload):
		return "the payload is not JSON"
	}
	return ""
}

// timeLayouts are how Postgres writes timestamptz and timestamp with
// DateStyle ISO, which the stream's connection sets.
var timeLayouts = []string{"2006-01-02 15:04:05.999999-07", "2006-01-02 15:04:05.999999-07:00", "2006-01-02 15:04:05.999999", "2006-01-02"}

// parseTime returns the zero time for what it cannot read, such as infinity.
func parseTime(text []byte) time.Time {
	if t, ok := parseUTC(text); ok {
		return t
	}
	s := string(text)
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// parseUTC reads a time as the stream's connection has nearly all of them
// written: 2006-01-02 15:04:05, a fraction of up to six digits, and +00 or no
// zone. It returns false for anything else.
func parseUTC(s []byte) (time.Time, bool) {
	const layout = "0000-00-00 00:00:00"
	if len(s) < len(layout) {
		return time.Time{}, false
	}
	var fields [6]int
	for i, at := 0, 0; i < len(layout); i++ {
		switch digit := s[i] - '0'; {
		case layout[i] != '0' && s[i] == layout[i]:
			at++
		case layout[i] == '0' && digit <= 9:
			fields[at] = 10*fields[at] + int(digit)
		default:
			return time.Time{}, false
		}
	}
	nanos, rest := 0, s[len(layout):]
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
		unit := int(time.Second)
		for len(rest) > 0 && rest[0]-'0' <= 9 && unit > int(time.Microsecond) {
			unit /= 10
			nanos += int(rest[0]-'0') * unit
			rest = rest[1:]
		}
		if unit == int(time.Second) { // a dot and no digit
			return time.Time{}, false
		}
	}
	year, month, day, hour, minute, second := fields[0], time.Month(fields[1]), fields[2], fields[3], fields[4], fields[5]
	t := time.Date(year, month, day, hour, minute, second, nanos, time.UTC)
	zoned := len(rest) == 0 || string(rest) == "+00"
	// What is out of range, such as the 30th of February, became another day.
	return t, zoned && t.Month() == month && t.Day() == day && hour < 24 && minute < 60 && second < 60
}

// messageEvent makes the event of a logical message's JSON content:
// {"id": …, "type": …, "payload": …} and optionally tenant, key, headers and
// created_at. It returns an error for content that is not such an object.
func messageEvent(content []byte) (*event.Event, error) {
	var m struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Tenant    string          `json:"tenant"`
		Key       string          `json:"key"`
		Payload   json.RawMessage `json:"payload"`
		Headers   json.RawMessage `json:"headers"`
		CreatedAt time.Time       `json:"created_at"`
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	if m.ID == "" || m.Type == "" || len(m.Payload) == 0 {
		return nil, fmt.Errorf("decode message: id, type and payload are required")
	}
	e := &event.Event{
		ID: event.IDOf(m.ID), Type: m.Type, Tenant: m.Tenant, Key: m.Key,
		Payload: m.Payload, CreatedAt: m.CreatedAt,
	}
	if len(m.Headers) > 0 && string(m.Headers) != "null" {
		e.Headers = m.Headers
	}
	return e, nil
}
