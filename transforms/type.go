package transforms

import (
	"context"
	"errors"
	"fmt"
)

// maxType bounds an event's type, in bytes, as the outbox does.
const maxType = 255

var errType = fmt.Errorf("the new type must have 1 to %d bytes of printable UTF-8", maxType)

// NewType returns a transform that gives events another type by a template over
// .Event and .Payload, as NewTemplate has it: 1 to 255 bytes of printable UTF-8.
// Templates see it and the object and action in it; which endpoints an event
// goes to does not change. Errors quote nothing of the event.
func NewType(text string) (Transform, error) {
	t, err := parseEventTemplate(text)
	if err != nil {
		return nil, err
	}
	if literal, ok := t.Literal(); ok && !isType(literal) {
		return nil, fmt.Errorf("parse template: %w", errType)
	}
	return Each(func(_ context.Context, m *Message) error {
		eventType, err := executeForEvent(t, m.Event, m.Payload, maxType)
		switch {
		case errors.Is(err, ErrTooLarge), err == nil && !isType(string(eventType)):
			return errType
		case err != nil:
			return err
		}
		m.SetType(string(eventType))
		return nil
	}), nil
}

func isType(text string) bool { return text != "" && len(text) <= maxType && isPrintable(text) }
