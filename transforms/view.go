// Package transforms holds what turns an event into what is sent: the template
// language of bodies and headers, and the reading of JSON without decoding it.
//
// # Templates
//
// Templates are Go's text/template. They see a [View], and beside and, or, not,
// eq, ne, lt, le, gt, ge, len, index and slice they have these functions, whose
// last argument is the one that a pipe fills:
//
//	json VALUE            the value as JSON, nothing HTML-escaped; JSON as it is
//	get JSON "a.b.0"      the JSON text at a path of keys and array indexes, the
//	                      last of repeated keys; null when there is none
//	rfc3339 TIME          2026-05-22T09:30:00Z: UTC, whole seconds
//	unix TIME             seconds since 1970
//	ulid UUID             a UUID as a ULID's 26 characters
//	upper TEXT            in upper case
//	lower TEXT            in lower case
//	replace OLD NEW TEXT  with each OLD replaced by NEW
//	default OTHER VALUE   OTHER if the value is empty text or JSON's null or ""
//	base64 TEXT           in standard base64, padded
//	urlquery TEXT         escaped for a URL's query
//	print VALUE...        the values' text
//	printf "FORMAT" …     formatted, without widths, precisions and indexes
//
// Where a function takes TEXT, a JSON string stands for the text that it holds,
// and other JSON for itself. So in a body {{ get .Payload "id" }} yields "clx123"
// with its quotes, as JSON needs it; in a header {{ get .Payload "id" | print }}
// yields it without. Compare JSON in the same way:
// {{ if eq (get .Payload "status" | print) "open" }}.
//
// .Event.Headers.name yields empty text when the event has no such header; so
// does {{ index .Event.Headers "name" }}, for names with other characters.
package transforms

import (
	"net/url"
	"strings"
	"time"
)

// JSON is the text of one JSON value.
type JSON string

// View is what templates see.
type View struct {
	Event    Event
	Payload  JSON
	Delivery Delivery
	Endpoint Endpoint
}

// Event is the event as it was committed.
type Event struct {
	ID             string // UUID
	Type           string
	Object, Action string // of Type, see SplitType
	Tenant         string // empty if it has none
	Key            string // empty if it has none
	CreatedAt      time.Time
	Headers        map[string]string
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID        string    // UUID, the same in every attempt
	CreatedAt time.Time // the event's commit time
}

// Endpoint is where the delivery goes.
type Endpoint struct {
	ID     string // UUID
	Name   string
	URL    string // see EndpointURL
	Tenant string // empty if it takes every tenant's events
}

// EndpointURL returns an endpoint's URL as templates see it: without user and
// password, which are for the receiver alone, while what templates yield is
// stored in the ledger too.
func EndpointURL(u *url.URL) string {
	if u.User == nil {
		return u.String()
	}
	shown := *u
	shown.User = nil
	return shown.String()
}

// SplitType returns what stands before and after the last dot of an event's
// type: "device" and "created" of "device.created". Without a dot the object is
// the whole type and the action is empty.
func SplitType(eventType string) (object, action string) {
	if i := strings.LastIndexByte(eventType, '.'); i >= 0 {
		return eventType[:i], eventType[i+1:]
	}
	return eventType, ""
}
