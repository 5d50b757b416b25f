package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
)

// receivedRequest is what is printed of a request, and how --output json
// prints it.
type receivedRequest struct {
	Time     time.Time `json:"time"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Event    string    `json:"event,omitempty"`    // the type, if it can be told
	Delivery string    `json:"delivery,omitempty"` // the delivery's id, if a header has it
	Verified *bool     `json:"verified"`           // null when signatures are not looked at
	Error    string    `json:"error,omitempty"`    // why it is not verified
	Size     int       `json:"size"`               // bytes of the body
	Status   int       `json:"status"`             // of the answer
	Body     string    `json:"body,omitempty"`     // with --body
}

// maxShown bounds each text of a request that is printed, in characters.
const maxShown = 200

// describeRequest returns what a request says about itself.
func describeRequest(r *http.Request, body []byte, now time.Time) receivedRequest {
	event := bodyEvent(body)
	if event == "" {
		event = headerEnding(r.Header, "-Event")
	}
	delivery := r.Header.Get("Webhook-Id")
	if delivery == "" {
		delivery = headerEnding(r.Header, "-Delivery")
	}
	return receivedRequest{
		Time: now, Method: shown(r.Method), Path: shown(r.URL.Path), Event: shown(event), Delivery: shown(delivery), Size: len(body),
	}
}

// bodyEvent returns the event's type where products put it in a body: under
// event, type or webhook.event.
func bodyEvent(body []byte) string {
	var b struct {
		Event   json.RawMessage `json:"event"`
		Type    json.RawMessage `json:"type"`
		Webhook json.RawMessage `json:"webhook"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	var webhook struct {
		Event json.RawMessage `json:"event"`
	}
	_ = json.Unmarshal(b.Webhook, &webhook) // absent or of another shape: no event there
	for _, raw := range []json.RawMessage{b.Event, b.Type, webhook.Event} {
		var text string
		if json.Unmarshal(raw, &text) == nil && text != "" {
			return text
		}
	}
	return ""
}

// headerEnding returns the value of the first header, by name, whose name has
// this ending.
func headerEnding(h http.Header, ending string) string {
	var names []string
	for name := range h {
		if strings.HasSuffix(name, ending) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return h.Get(slices.Min(names))
}

// shown is text from outside, fit for a terminal: short and printable.
func shown(text string) string {
	n := 0
	for i := range text {
		if n++; n > maxShown {
			text = text[:i] + "…"
			break
		}
	}
	return printable(strings.ReplaceAll(text, "\n", "; "))
}

// printable replaces what could control a terminal, but for line breaks.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// requestPrinter prints requests; it is not safe for concurrent use.
type requestPrinter struct {
	g    *globals
	body bool
}

func (p *requestPrinter) request(r receivedRequest, body []byte) {
	if p.g.Output == "json" {
		if p.body {
			r.Body = string(body)
		}
		e := json.NewEncoder(p.g.stdout)
		e.SetEscapeHTML(false)
		_ = e.Encode(r) // as with printf, nobody could be told
		return
	}
	line := strings.TrimSuffix(fmt.Sprintf("%s %s %s %s", r.Time.Format(time.TimeOnly), r.Method, r.Path, r.Event), " ")
	if r.Delivery != "" {
		line += ", delivery " + r.Delivery
	}
	switch {
	case r.Verified == nil:
	case *r.Verified:
		line += ", signature ✓"
	default:
		line += ", signature ✗ (" + shown(r.Error) + ")"
	}
	p.g.printf("%s, %d bytes, answered %d\n", line, r.Size, r.Status)
	if p.body && len(body) > 0 {
		p.g.printf("%s\n", printable(indented(body)))
	}
}

// indented returns JSON on several lines, and anything else as it is.
func indented(body []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, body, "  ", "  "); err != nil {
		return "  " + strings.TrimRight(string(body), "\n")
	}
	return "  " + b.String()
}
