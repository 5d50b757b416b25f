package plugins_test

import (
	"context"
	"errors"
	"slices"

	"github.com/posthorn/posthorn/plugins"
)

// The whole of a plugin's main.
func Example() {
	plugins.Serve(plugins.TransformerFunc(func(_ context.Context, e *plugins.Event) error {
		if e.Headers["X-Test"] != "" {
			return plugins.Skip("a test")
		}
		if e.Tenant == "" {
			return plugins.Reject(errors.New("event has no tenant"))
		}
		e.Payload = slices.Concat([]byte(`{"data":`), e.Payload, []byte(`}`))
		return nil
	}))
}
