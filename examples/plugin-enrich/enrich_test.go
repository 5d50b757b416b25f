package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posthorn/posthorn/plugins"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ahmed = `{"name": "Ahmed Khan", "department": "Engineering"}`

// serve answers the requests for emp123 by handler until the test ends. It
// returns an enricher that asks it, and how many requests there were.
func serve(t *testing.T, limit int, keep time.Duration, handler http.HandlerFunc) (*enricher, *atomic.Int64) {
	t.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	d := newDirectory(server.URL, "a token", limit, keep)
	t.Cleanup(d.client.CloseIdleConnections)
	return &enricher{directory: d}, &requests
}

func answerAhmed(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("id") == "" || r.Header.Get("Authorization") != "Bearer a token" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, ahmed)
}

func TestEmployeeIsAdded(t *testing.T) {
	tests := []struct{ name, payload, want string }{
		{"employee", `{"employeeId": "emp123",  "n": 1.0}`, `{"employee":` + ahmed + `,"employeeId": "emp123",  "n": 1.0}`},
		{"space in front", " \n{\"employeeId\": \"emp123\"}", `{"employee":` + ahmed + `,"employeeId": "emp123"}`},
		{"an id of all sorts", `{"employeeId": "../a b&c=%2f"}`, `{"employee":` + ahmed + `,"employeeId": "../a b&c=%2f"}`},
		{"nobody", `{"amount": 1}`, `{"amount": 1}`},
		{"already there", `{"employeeId": "emp123", "employee": {}}`, `{"employeeId": "emp123", "employee": {}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enricher, _ := serve(t, 10, time.Hour, answerAhmed)
			e := &plugins.Event{Payload: []byte(tt.payload)}
			if err := enricher.Transform(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if string(e.Payload) != tt.want {
				t.Errorf("got  %s\nwant %s", e.Payload, tt.want)
			}
		})
	}
}

func TestErrorsSayWhetherARetryMakesSense(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	tests := []struct {
		name, payload string
		handler       http.HandlerFunc
		want          string
		rejected      bool
	}{
		{"unknown", `{"employeeId": "emp123"}`, status(http.StatusNotFound), "the directory knows no such employee", true},
		{"down", `{"employeeId": "emp123"}`, status(http.StatusServiceUnavailable), "look up the employee: the directory answered 503", false},
		{"no object", `{"employeeId": "emp123"}`, text(`null`), "look up the employee: the directory's answer is no JSON object of at most 65536 bytes", false},
		{"too large", `{"employeeId": "emp123"}`, text(`{"a": "` + strings.Repeat("x", maxAnswer) + `"}`),
			"look up the employee: the directory's answer is no JSON object of at most 65536 bytes", false},
		{"payload of another shape", `["emp123"]`, status(http.StatusTeapot), "payload is no object whose employeeId is a text", true},
		{"null", `null`, status(http.StatusTeapot), "payload is no object whose employeeId is a text", true},
		{"id of another shape", `{"employeeId": 123}`, status(http.StatusTeapot), "payload is no object whose employeeId is a text", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enricher, _ := serve(t, 10, time.Hour, tt.handler)
			err := enricher.Transform(t.Context(), &plugins.Event{Payload: []byte(tt.payload)})
			if err == nil || err.Error() != tt.want || plugins.IsRejected(err) != tt.rejected {
				t.Errorf("got the error %v, rejected %t; want %s, rejected %t", err, plugins.IsRejected(err), tt.want, tt.rejected)
			}
		})
	}
}

func TestAnswersAreKeptForATime(t *testing.T) {
	tests := []struct {
		name  string
		keep  time.Duration
		limit int
		ids   []string
		want  int64
	}{
		{"kept", time.Hour, 2, []string{"a", "b", "a", "b"}, 2},
		{"expired", 0, 2, []string{"a", "a", "a"}, 3},
		{"too many", time.Hour, 1, []string{"a", "b", "b", "a"}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enricher, requests := serve(t, tt.limit, tt.keep, answerAhmed)
			for _, id := range tt.ids {
				e := &plugins.Event{Payload: []byte(`{"employeeId": "` + id + `"}`)}
				if err := enricher.Transform(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			if got := requests.Load(); got != tt.want {
				t.Errorf("the directory was asked %d times, want %d", got, tt.want)
			}
			if got := len(enricher.directory.answers); got > tt.limit {
				t.Errorf("%d answers are kept, want %d at most", got, tt.limit)
			}
		})
	}
}

// roundTripper answers requests without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slow returns an enricher whose directory answers once release is closed.
func slow(release <-chan struct{}) (*enricher, *atomic.Int64) {
	var requests atomic.Int64
	d := newDirectory("http://directory.example", "", 10, time.Hour)
	d.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		requests.Add(1)
		select {
		case <-release:
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(ahmed)), Request: r}, nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})
	return &enricher{directory: d}, &requests
}

func TestLookupsOfTheSameEmployeeAreOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		enricher, requests := slow(release)
		errs := make(chan error)
		for range 10 {
			go func() {
				errs <- enricher.Transform(t.Context(), &plugins.Event{Payload: []byte(`{"employeeId": "emp123"}`)})
			}()
		}
		synctest.Wait()
		close(release)
		for range 10 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := requests.Load(); got != 1 {
			t.Errorf("the directory was asked %d times, want once", got)
		}
	})
}

func TestTransformEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		enricher, requests := slow(release)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e := &plugins.Event{Payload: []byte(`{"employeeId": "emp123"}`)}
		if err := enricher.Transform(ctx, e); !errors.Is(err, context.DeadlineExceeded) || plugins.IsRejected(err) {
			t.Errorf("got the error %v, want one that says that time is over, to be tried again", err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v, want 1s", took)
		}

		close(release) // the answer comes late and is there at the next attempt
		synctest.Wait()
		if err := enricher.Transform(t.Context(), e); err != nil {
			t.Error(err)
		}
		if got := requests.Load(); got != 1 {
			t.Errorf("the directory was asked %d times, want once", got)
		}
	})
}

func TestRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enricher, _ := slow(nil)
		begun := time.Now()
		err := enricher.Transform(t.Context(), &plugins.Event{Payload: []byte(`{"employeeId": "emp123"}`)})
		if took := time.Since(begun); err == nil || took != lookupTimeout {
			t.Errorf("got the error %v after %v, want one after %v", err, took, lookupTimeout)
		}
	})
}
