package transforms

import "context"

// NewFilter returns a transform that skips events for which a filter is false;
// ParseFilter says what it may be. It sees the event as the transforms before it
// left it. One that it cannot judge is an error.
func NewFilter(text string) (Transform, error) {
	filter, err := ParseFilter(text)
	if err != nil {
		return nil, err
	}
	return Each(func(_ context.Context, m *Message) error {
		matches, err := filter.Match(NewSubject(m.Event, JSON(m.Payload)))
		if err == nil && !matches {
			m.Skipped = "filter is false"
		}
		return err
	}), nil
}
