package transforms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxHeaders     = 100     // that one transform sets
	maxHeaderName  = 256     // bytes
	maxHeaderValue = 8 << 10 // bytes
)

// NewHeaders returns a transform that sets headers of events by templates over
// .Event and .Payload, as NewTemplate has it: name → template. All of them see
// the event as it was before. Empty text removes the header. A name is an HTTP
// token and means the header of exactly this spelling; a value is UTF-8 of at
// most 8 KiB without control characters. There may be 1 to 100 of them.
//
// An event's headers are what header templates of endpoints see as
// .Event.Headers; no request has them by itself. Errors quote nothing of the
// event.
func NewHeaders(templates map[string]string) (Transform, error) {
	if len(templates) == 0 || len(templates) > maxHeaders {
		return nil, fmt.Errorf("must be 1 to %d headers, got %d", maxHeaders, len(templates))
	}
	var parsed []header
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		if !isToken(name) {
			return nil, fmt.Errorf("header %.40q: must be a name of at most %d bytes, of letters, digits and !#$%%&'*+-.^_`|~", name, maxHeaderName)
		}
		t, err := parseEventTemplate(templates[name])
		if err == nil {
			if literal, ok := t.Literal(); ok {
				err = checkHeaderValue(literal)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		parsed = append(parsed, header{name, t})
	}
	return Each(func(_ context.Context, m *Message) error { return setHeaders(m, parsed) }), nil
}

type header struct {
	name     string
	template *Template
}

func setHeaders(m *Message, headers []header) error {
	changed := make(map[string]string, len(m.Event.Headers)+len(headers))
	maps.Copy(changed, m.Event.Headers)
	for _, h := range headers {
		value, err := executeForEvent(h.template, m.Event, m.Payload, maxHeaderValue)
		if err == nil {
			err = checkHeaderValue(string(value))
		}
		if err != nil {
			return fmt.Errorf("header %s: %w", h.name, err)
		}
		if len(value) == 0 {
			delete(changed, h.name)
		} else {
			changed[h.name] = string(value)
		}
	}
	m.Event.Headers = changed
	return nil
}

func checkHeaderValue(value string) error {
	switch {
	case len(value) > maxHeaderValue:
		return fmt.Errorf("the value has %d bytes, at most %d are allowed", len(value), maxHeaderValue)
	case !utf8.ValidString(value):
		return errors.New("the value is not UTF-8")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }):
		return errors.New("the value has a control character, such as a line break")
	}
	return nil
}

// isToken reports whether name is a token as RFC 9110, section 5.6.2 has it.
func isToken(name string) bool {
	for _, r := range name {
		if isDigit, isLetter := r >= '0' && r <= '9', r|0x20 >= 'a' && r|0x20 <= 'z'; !isDigit && !isLetter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) {
			return false
		}
	}
	return name != "" && len(name) <= maxHeaderName
}
