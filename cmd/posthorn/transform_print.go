package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/posthorn/posthorn/relay"
)

// printTransformation prints what came of one event, and with q its request. It
// returns an error for an event that failed.
func (g *globals) printTransformation(r *relay.Transformation, q *relay.PreparedRequest) error {
	var failed error
	if r.Err != nil {
		failed = errors.New("the event fails: " + printable(oneLine(r.Err.Error())))
	}
	if q != nil {
		for _, note := range q.Notes {
			_, _ = fmt.Fprintf(g.stderr, "posthorn: %s\n", shown(note))
		}
	}
	if g.Output == "json" {
		if err := g.printJSON(transformationJSON(r, q)); err != nil {
			return err
		}
		return failed
	}
	color := g.colored()
	g.printf("event %s, type %s", r.Event.ID, shown(r.Event.Type))
	if r.Event.Tenant != "" {
		g.printf(", tenant %s", shown(r.Event.Tenant))
	}
	if r.Event.Key != "" {
		g.printf(", key %s", shown(r.Event.Key))
	}
	g.printf("\n")
	for _, rule := range r.Rules {
		g.printf("  %s: %s\n", shown(rule.Name), rule.State)
	}
	if len(r.Rules) == 0 && r.Err == nil {
		g.printf("no transform applies to type %s\n", shown(r.Event.Type))
	}
	before := relay.Outcome{Content: &r.Event.Content}
	g.printf("\n%s\n%s", heading("before", color), document(before))
	g.printf("\n%s\n%s", heading("after", color), document(r.Outcome))
	if r.Content != nil {
		g.printf("\n%s\n%s", heading("difference", color), difference(before, r.Outcome, color))
	}
	if q != nil {
		g.printf("\n%s\n%s %s\n", heading("request, signed at "+clock(q.SignedAt), color), q.Method, printable(q.URL))
		for _, h := range q.Header {
			g.printf("%s: %s\n", printable(h[0]), printable(h[1]))
		}
		g.printf("\n%s\n", excerpt(q.Body))
	}
	return failed
}

// document returns what came of an event as text for people: type, headers and
// the payload, indented.
func document(o relay.Outcome) string {
	switch {
	case o.Err != nil && o.Retry:
		return "failed (tried again): " + printable(oneLine(o.Err.Error())) + "\n"
	case o.Err != nil:
		return "failed (for good): " + printable(oneLine(o.Err.Error())) + "\n"
	case o.Skipped != "":
		return "skipped: " + printable(oneLine(o.Skipped)) + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "type: %s\n", printable(oneLine(o.Content.Type)))
	for _, name := range slices.Sorted(maps.Keys(o.Content.Headers)) {
		fmt.Fprintf(&b, "header %s: %s\n", printable(oneLine(name)), printable(oneLine(o.Content.Headers[name])))
	}
	var payload bytes.Buffer
	if json.Indent(&payload, bytes.TrimSpace(o.Content.Payload), "", "  ") != nil {
		payload.Reset()
		payload.Write(o.Content.Payload)
	}
	fmt.Fprintf(&b, "\n%s\n", printable(payload.String()))
	return b.String()
}

// difference returns a unified diff of the documents of two outcomes, or says
// in what else they differ.
func difference(before, after relay.Outcome, color bool) string {
	text := diff.Diff("before", []byte(document(before)), "after", []byte(document(after)))
	if text != nil {
		_, unified, _ := bytes.Cut(text, []byte("\n")) // without the command line
		return painted(string(unified), color)
	}
	if parts := changes(before.Content, after.Content); len(parts) > 0 {
		return fmt.Sprintf("only in white space, or in what cannot be printed: %s\n", strings.Join(parts, ", "))
	}
	return "none\n"
}

// The colours of a terminal.
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	plain = "\x1b[0m"
)

// painted returns a unified diff with the colours that people know of others.
func painted(unified string, color bool) string {
	if !color {
		return unified
	}
	var b strings.Builder
	head := 2 // the two lines that name the sides
	for line := range strings.Lines(unified) {
		paint := ""
		switch {
		case head > 0:
			paint = bold
		case strings.HasPrefix(line, "@@"):
			paint = cyan
		case strings.HasPrefix(line, "-"):
			paint = red
		case strings.HasPrefix(line, "+"):
			paint = green
		}
		head--
		if paint == "" {
			b.WriteString(line)
			continue
		}
		b.WriteString(paint + strings.TrimSuffix(line, "\n") + plain + "\n")
	}
	return b.String()
}

func heading(text string, color bool) string {
	if color {
		return bold + text + plain
	}
	return text
}

// colored reports whether standard output takes colours.
func (g *globals) colored() bool { return isTerminal(g.stdout) && g.getenv("NO_COLOR") == "" }

// contentJSON is how scripts get an event's content. The payload is a JSON
// value: its numbers and the order of its keys are kept, its white space is not.
type contentJSON struct {
	Type    string            `json:"type"`
	Headers map[string]string `json:"headers"`
	Payload json.RawMessage   `json:"payload"`
}

func newContentJSON(c *relay.Content) *contentJSON {
	if c == nil {
		return nil
	}
	out := &contentJSON{Type: c.Type, Headers: c.Headers, Payload: c.Payload}
	if out.Headers == nil {
		out.Headers = map[string]string{} // an object, not null
	}
	if !json.Valid(out.Payload) { // of a row that is no event; as text, so that it is printed at all
		out.Payload, _ = json.Marshal(string(c.Payload)) // a text always marshals
	}
	return out
}

// changes names the parts of an event that differ, the payload by its bytes:
// none if one of both is nil. The result never is.
func changes(before, after *relay.Content) []string {
	parts := []string{}
	if before == nil || after == nil {
		return parts
	}
	if before.Type != after.Type {
		parts = append(parts, "type")
	}
	if !maps.Equal(before.Headers, after.Headers) {
		parts = append(parts, "headers")
	}
	if !bytes.Equal(before.Payload, after.Payload) {
		parts = append(parts, "payload")
	}
	return parts
}

// transformationJSON returns what is printed for scripts.
func transformationJSON(r *relay.Transformation, q *relay.PreparedRequest) any {
	type event struct {
		ID        string    `json:"id"`
		Type      string    `json:"type"`
		Tenant    string    `json:"tenant,omitempty"`
		Key       string    `json:"key,omitempty"`
		CreatedAt time.Time `json:"created_at"`
	}
	type rule struct {
		Name  string          `json:"name"`
		State relay.RuleState `json:"state"`
	}
	type request struct {
		Delivery string      `json:"delivery_id"`
		Method   string      `json:"method"`
		URL      string      `json:"url"`
		Headers  [][2]string `json:"headers"`
		Body     string      `json:"body"` // as it would be sent
		SignedAt time.Time   `json:"signed_at"`
		Notes    []string    `json:"notes"`
	}
	out := struct {
		Event   event        `json:"event"`
		Rules   []rule       `json:"rules"`
		Before  *contentJSON `json:"before"`
		After   *contentJSON `json:"after"`
		Changed []string     `json:"changed"`
		Skipped string       `json:"skipped,omitempty"`
		Error   string       `json:"error,omitempty"`
		Retry   bool         `json:"retry,omitempty"`
		Request *request     `json:"request,omitempty"`
	}{
		Event:   event{r.Event.ID.String(), r.Event.Type, r.Event.Tenant, r.Event.Key, r.Event.CreatedAt},
		Rules:   []rule{},
		Before:  newContentJSON(&r.Event.Content),
		After:   newContentJSON(r.Content),
		Changed: changes(&r.Event.Content, r.Content),
		Skipped: r.Skipped, Retry: r.Retry,
	}
	for _, applied := range r.Rules {
		out.Rules = append(out.Rules, rule{applied.Name, applied.State})
	}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	if q != nil {
		out.Request = &request{q.Delivery.String(), q.Method, q.URL, q.Header, string(q.Body), q.SignedAt.UTC(), append([]string{}, q.Notes...)}
	}
	return out
}
