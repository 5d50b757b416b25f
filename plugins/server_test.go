package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
)

func committed() *pluginv1.Event {
	return &pluginv1.Event{
		Id:        "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e",
		Type:      "employee.created",
		Tenant:    "acme",
		Key:       "emp123",
		CreatedAt: timestamppb.New(time.Date(2026, 5, 22, 9, 30, 0, 1000, time.UTC)),
		Headers:   map[string]string{"traceparent": "00-ab-cd-01", "X-Source": "hr"},
		Payload:   []byte(`{"name": "Ahmed Khan", "ssn": "784-1987"}`),
	}
}

func changeOf(c *pluginv1.Change) *pluginv1.Result {
	return &pluginv1.Result{Outcome: &pluginv1.Result_Change{Change: c}}
}

func skipOf(reason string) *pluginv1.Result {
	return &pluginv1.Result{Outcome: &pluginv1.Result_Skip{Skip: &pluginv1.Skip{Reason: reason}}}
}

// transformOne returns what a server with f answers for a single event.
func transformOne(t *testing.T, maxMessage int, f TransformerFunc) *pluginv1.Result {
	t.Helper()
	response, err := newServer(f, maxMessage).Transform(t.Context(), &pluginv1.TransformRequest{Events: []*pluginv1.Event{committed()}})
	if err != nil {
		t.Fatal(err)
	}
	if len(response.GetResults()) != 1 {
		t.Fatalf("got %d results for one event", len(response.GetResults()))
	}
	return response.GetResults()[0]
}

func TestTransformerSeesTheWholeEvent(t *testing.T) {
	var got Event
	transformOne(t, 1<<20, func(_ context.Context, e *Event) error {
		got = *e
		return nil
	})
	want := Event{
		ID:        "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e",
		Type:      "employee.created",
		Tenant:    "acme",
		Key:       "emp123",
		CreatedAt: time.Date(2026, 5, 22, 9, 30, 0, 1000, time.UTC),
		Headers:   map[string]string{"traceparent": "00-ab-cd-01", "X-Source": "hr"},
		Payload:   []byte(`{"name": "Ahmed Khan", "ssn": "784-1987"}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the event differs (-want +got):\n%s", diff)
	}
}

func TestOnlyWhatChangedIsAnswered(t *testing.T) {
	tests := []struct {
		name string
		f    func(e *Event)
		want *pluginv1.Change
	}{
		{"nothing", func(*Event) {}, &pluginv1.Change{}},
		{"what cannot be changed", func(e *Event) { e.ID, e.Tenant, e.Key, e.CreatedAt = "", "", "", time.Time{} }, &pluginv1.Change{}},
		{"type", func(e *Event) { e.Type = "person.created" }, &pluginv1.Change{Type: proto.String("person.created")}},
		{"type to nothing", func(e *Event) { e.Type = "" }, &pluginv1.Change{Type: proto.String("")}},
		{"type to the same", func(e *Event) { e.Type = strings.Clone(e.Type) }, &pluginv1.Change{}},
		{"payload", func(e *Event) { e.Payload = []byte(`{}`) }, &pluginv1.Change{Payload: []byte(`{}`)}},
		{"payload in its place, of the same length", func(e *Event) { copy(e.Payload[30:], `"***-****"`) },
			&pluginv1.Change{Payload: []byte(`{"name": "Ahmed Khan", "ssn": "***-****"}`)}},
		{"payload in its place, shorter", func(e *Event) { e.Payload = append(e.Payload[:0], `{"a": 1}`...) }, &pluginv1.Change{Payload: []byte(`{"a": 1}`)}},
		{"a header more", func(e *Event) { e.Headers["X-New"] = "1" },
			&pluginv1.Change{Headers: &pluginv1.Headers{Values: map[string]string{"traceparent": "00-ab-cd-01", "X-Source": "hr", "X-New": "1"}}}},
		{"a header's value", func(e *Event) { e.Headers["X-Source"] = "erp" },
			&pluginv1.Change{Headers: &pluginv1.Headers{Values: map[string]string{"traceparent": "00-ab-cd-01", "X-Source": "erp"}}}},
		{"no headers", func(e *Event) { e.Headers = nil }, &pluginv1.Change{Headers: &pluginv1.Headers{}}},
		{"the same headers", func(e *Event) { e.Headers = maps.Clone(e.Headers) }, &pluginv1.Change{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := transformOne(t, 1<<20, func(_ context.Context, e *Event) error {
				tt.f(e)
				return nil
			})
			if diff := cmp.Diff(changeOf(tt.want), got, protocmp.Transform()); diff != "" {
				t.Errorf("the result differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsAreTheEventsResult(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want *pluginv1.Result
	}{
		{"skip", Skip("a test account"), skipOf("a test account")},
		{"skip without a reason", Skip(""), skipOf("")},
		{"wrapped skip", fmt.Errorf("accounts: %w", Skip("closed")), skipOf("closed")},
		{"reject", Reject(errors.New("no such employee")), failure("no such employee", true)},
		{"wrapped reject", fmt.Errorf("look up: %w", Reject(errors.New("no such employee"))), failure("look up: no such employee", true)},
		{"other", errors.New("the directory is\ndown"), failure("the directory is down", false)},
		{"without a text", errors.New(""), failure("failed without saying why", false)},
		{"of no error", &RejectedError{}, failure("panicked", false)},
		{"not UTF-8", errors.New("a\xff"), failure("a\ufffd", false)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := transformOne(t, 1<<20, func(_ context.Context, e *Event) error {
				e.Type = "changed.before"
				return tt.err
			})
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("the result differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatCannotBeSentIsAFailure(t *testing.T) {
	tests := []struct {
		name string
		f    func(e *Event)
		want string
	}{
		{"no payload", func(e *Event) { e.Payload = nil }, "payload is not JSON"},
		{"not JSON", func(e *Event) { e.Payload = []byte(`{"secret": `) }, "payload is not JSON"},
		{"two values", func(e *Event) { e.Payload = []byte(`{} {}`) }, "payload is not JSON"},
		{"payload not UTF-8", func(e *Event) { e.Payload = []byte("\"\xff\"") }, "payload is not JSON"},
		{"type not UTF-8", func(e *Event) { e.Type = "a\xff" }, "type is not UTF-8"},
		{"header not UTF-8", func(e *Event) { e.Headers["X-A"] = "a\xff" }, "a header is not UTF-8"},
		{"header's name not UTF-8", func(e *Event) { e.Headers["a\xff"] = "a" }, "a header is not UTF-8"},
		{"too large", func(e *Event) { e.Payload = []byte(`"` + strings.Repeat("x", 998) + `"`) },
			"result of 1022 bytes is above max_message, which is 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := transformOne(t, 1000, func(_ context.Context, e *Event) error {
				tt.f(e)
				return nil
			})
			if diff := cmp.Diff(failure(tt.want, false), got, protocmp.Transform()); diff != "" {
				t.Errorf("the result differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLargestResultFitsIntoAMessage(t *testing.T) {
	const limit = 1000
	largest := 0
	for n := limit - 100; n <= limit; n++ {
		result := transformOne(t, limit, func(_ context.Context, e *Event) error {
			e.Payload = []byte(`"` + strings.Repeat("x", n-2) + `"`)
			return nil
		})
		size := proto.Size(&pluginv1.TransformResponse{Results: []*pluginv1.Result{result}})
		if size > limit {
			t.Errorf("a payload of %d bytes yields a message of %d", n, size)
		}
		if result.GetChange() != nil {
			largest = n
		}
	}
	if largest < limit-50 {
		t.Errorf("the largest payload that passes a limit of %d has %d bytes", limit, largest)
	}
}

func TestPanicsFailTheirEventOnly(t *testing.T) {
	f := TransformerFunc(func(_ context.Context, e *Event) error {
		if e.Key == "bad" {
			panic("at once")
		}
		e.Type = e.Key
		return nil
	})
	request := &pluginv1.TransformRequest{Events: []*pluginv1.Event{{Key: "a"}, {Key: "bad"}, {Key: "c"}}}
	response, err := newServer(f, 1<<20).Transform(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	want := []*pluginv1.Result{changeOf(&pluginv1.Change{Type: proto.String("a")}), failure("panicked", false), changeOf(&pluginv1.Change{Type: proto.String("c")})}
	if diff := cmp.Diff(want, response.GetResults(), protocmp.Transform()); diff != "" {
		t.Errorf("the results differ (-want +got):\n%s", diff)
	}
}

func TestCallWithoutEventsHasNoResults(t *testing.T) {
	response, err := newServer(TransformerFunc(nil), 1<<20).Transform(t.Context(), &pluginv1.TransformRequest{})
	if err != nil || len(response.GetResults()) != 0 {
		t.Errorf("got %d results and the error %v", len(response.GetResults()), err)
	}
}

func TestSixtyFourEventsOfACallAreTransformedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int64
		release := make(chan struct{})
		f := TransformerFunc(func(context.Context, *Event) error {
			running.Add(1)
			defer running.Add(-1)
			<-release
			return nil
		})
		done := make(chan error)
		go func() {
			_, err := newServer(f, 1<<20).Transform(t.Context(), &pluginv1.TransformRequest{Events: make([]*pluginv1.Event, 200)})
			done <- err
		}()
		for _, want := range []int64{64, 64, 64, 8} {
			synctest.Wait()
			if got := running.Load(); got != want {
				t.Errorf("%d events are being transformed, want %d", got, want)
			}
			for range want {
				release <- struct{}{}
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTimeEndsBeforeTheCallsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var asked atomic.Int64
		f := TransformerFunc(func(ctx context.Context, e *Event) error {
			asked.Add(1)
			if e.Key == "quick" {
				return nil
			}
			<-ctx.Done()
			return fmt.Errorf("ask the directory: %w", ctx.Err())
		})
		events := slices.Repeat([]*pluginv1.Event{{Key: "slow"}}, workers+1)
		events[0] = &pluginv1.Event{Key: "quick"}
		events = append(events, &pluginv1.Event{Key: "quick"})
		response, err := newServer(f, 1<<20).Transform(ctx, &pluginv1.TransformRequest{Events: events})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 9*time.Second {
			t.Errorf("the call took %v of its 10s, want 9s", took)
		}
		results := response.GetResults()
		want := []*pluginv1.Result{
			unchanged,
			failure("ask the directory: context deadline exceeded", false),
			failure("the call's time was over before this event's turn", false),
		}
		if diff := cmp.Diff(want, []*pluginv1.Result{results[0], results[1], results[len(results)-1]}, protocmp.Transform()); diff != "" {
			t.Errorf("the results differ (-want +got):\n%s", diff)
		}
		if asked.Load() != workers+1 {
			t.Errorf("the transformer was asked for %d events, want %d", asked.Load(), workers+1)
		}
	})
}
