package integration

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/host"
)

// TestPluginInAnotherLanguage holds that docs/plugins.md tells all that a
// program without the SDK has to do: the example does no more.
func TestPluginInAnotherLanguage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := host.Start(ctx, host.Options{
		Name: "capitals", Path: "../examples/plugin-python/plugin.py",
		Timeout: 30 * time.Second, StartTimeout: time.Minute, Instances: 1, Batch: 256, MaxMessage: 16 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	var events []*plugins.Event
	for _, payload := range []string{`{"name":"Ahmed"}`, `[]`, `{"test":true}`, `{`} {
		events = append(events, &plugins.Event{ID: "1", Type: "employee.created", CreatedAt: time.Now(), Payload: []byte(payload)})
	}
	errs := p.Transform(ctx, events)
	var got []string
	for i, err := range errs {
		var skipped *plugins.SkipError
		switch {
		case errors.As(err, &skipped):
			got = append(got, "skipped: "+skipped.Reason)
		case plugins.IsRejected(err):
			got = append(got, "rejected: "+err.Error())
		case err != nil:
			got = append(got, "failed: "+err.Error())
		default:
			got = append(got, string(events[i].Payload))
		}
	}
	want := []string{`{"name": "AHMED"}`, "rejected: plugin capitals: payload is no object", "skipped: a test account", "failed: plugin capitals: JSONDecodeError"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}
