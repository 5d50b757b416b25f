// Package plugins is what the author of a plugin imports. A plugin is a program
// that changes events before Posthorn sends them:
//
//	func main() {
//		plugins.Serve(plugins.TransformerFunc(func(ctx context.Context, e *plugins.Event) error {
//			e.Payload = …
//			return nil
//		}))
//	}
package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Event is an event as the transforms before this one left it. A Transformer
// may change Type, Headers and Payload; the rest is to be read.
type Event struct {
	ID        string // UUID
	Type      string
	Tenant    string // empty if it has none
	Key       string // empty if it has none
	CreatedAt time.Time
	Headers   map[string]string // may be nil
	Payload   json.RawMessage   // to be replaced, not written to
}

// Transformer changes events.
type Transformer interface {
	// Transform changes e. The events of a call come in several goroutines at
	// once. ctx ends a little before the call's deadline, which is the plugin's
	// timeout in Posthorn's configuration.
	//
	// With nil the event goes on. [Skip] drops it: its deliveries are recorded
	// as skipped. Any other error fails its deliveries, which are tried again
	// on their endpoints' schedules; with [Reject] they are not.
	// People read the error's text, with the delivery: it should hold neither
	// secrets nor the payload.
	Transform(ctx context.Context, e *Event) error
}

// TransformerFunc is a function as a Transformer.
type TransformerFunc func(ctx context.Context, e *Event) error

// Transform calls f.
func (f TransformerFunc) Transform(ctx context.Context, e *Event) error { return f(ctx, e) }

// SkipError drops an event. Reason may be empty.
type SkipError struct{ Reason string }

// Error returns what happens, and why.
func (e *SkipError) Error() string {
	if e.Reason == "" {
		return "skipped"
	}
	return "skipped: " + e.Reason
}

// Skip returns the error that drops an event. reason may be empty.
func Skip(reason string) error { return &SkipError{Reason: reason} }

// RejectedError says that an event can never be transformed, so that trying
// again makes no sense.
type RejectedError struct{ Err error }

// Error returns the text of what is wrong.
func (e *RejectedError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *RejectedError) Unwrap() error { return e.Err }

// Reject returns err as one that no retry can mend; nil for nil.
func Reject(err error) error {
	if err == nil {
		return nil
	}
	return &RejectedError{Err: err}
}

// IsRejected reports whether err says that no retry makes sense.
func IsRejected(err error) bool {
	var rejected *RejectedError
	return errors.As(err, &rejected)
}
