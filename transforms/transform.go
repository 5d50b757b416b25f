package transforms

import (
	"context"
	"errors"
	"runtime/debug"
)

// Message is one event on its way through a chain.
type Message struct {
	// Committed is the event's type as it was committed.
	Committed string
	// Event is the event as it was committed, with what transforms made of
	// Type, Object, Action and Headers. SetType changes the first three. Headers
	// may be nil; a transform that changes them replaces the map.
	Event Event
	// Payload is a JSON text. A transform replaces it and never writes to it.
	Payload []byte
	// Err is why the message could not be transformed; see Retryable.
	Err error
	// Skipped is why the event is dropped; empty when it is not.
	Skipped string
}

// SetType changes the type, and object and action with it.
func (m *Message) SetType(eventType string) {
	m.Event.Type = eventType
	m.Event.Object, m.Event.Action = SplitType(eventType)
}

// Transform changes events. It is safe for concurrent use.
type Transform interface {
	// Transform changes the messages of a batch, each by itself. One that it
	// cannot transform gets an Err, one that it drops gets a reason in Skipped.
	// None has either before. It returns soon after ctx ended.
	Transform(ctx context.Context, batch []*Message)
}

// Each returns a Transform that calls f for one message after the other. f's
// error becomes the message's, and a panic of f a PanicError of that message
// alone. What is left when ctx ends gets its error, as a Retryable one.
func Each(f func(ctx context.Context, m *Message) error) Transform { return each(f) }

type each func(ctx context.Context, m *Message) error

func (f each) Transform(ctx context.Context, batch []*Message) {
	for _, m := range batch {
		if err := ctx.Err(); err != nil {
			m.Err = Retryable(err)
			continue
		}
		f.call(ctx, m)
	}
}

func (f each) call(ctx context.Context, m *Message) {
	defer func() {
		if value := recover(); value != nil {
			m.Err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	m.Err = f(ctx, m)
}

// RetryableError is an error that may be gone when the event is transformed
// again. By any other error it fails for good.
type RetryableError struct{ Err error }

// Error returns the text of what went wrong.
func (e *RetryableError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *RetryableError) Unwrap() error { return e.Err }

// Retryable returns err as one that may be gone at another try.
func Retryable(err error) error { return &RetryableError{Err: err} }

// IsRetryable reports whether another try may succeed.
func IsRetryable(err error) bool {
	var retryable *RetryableError
	return errors.As(err, &retryable)
}
