package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// endpointStatus is an endpoint as the API shows it.
type endpointStatus struct {
	ID            uuid.UUID  `json:"id" format:"uuid"`
	Name          string     `json:"name"`
	Tenant        string     `json:"tenant,omitempty" doc:"Whose events it gets; absent: every tenant's."`
	URL           string     `json:"url" doc:"Without credentials."`
	Origin        string     `json:"origin" enum:"configuration,api" doc:"Where it is defined, and can be changed."`
	State         string     `json:"state" enum:"enabled,paused,disabled,removed"`
	By            string     `json:"state_by" enum:"configuration,operator,relay" doc:"Who set the state; configuration also where the API's document did."`
	Reason        string     `json:"reason,omitempty" doc:"Of the state."`
	Since         *time.Time `json:"since,omitempty" doc:"When the state was set; absent while no relay ran with the endpoint."`
	Failing       bool       `json:"failing" doc:"Whether first attempts are parked until one succeeds."`
	Failures      int        `json:"failures" doc:"Failed attempts in a row."`
	FailingSince  *time.Time `json:"failing_since,omitempty" doc:"When the first of them was made."`
	Pending       int64      `json:"pending" doc:"Deliveries that are not final, counted up to 10,000."`
	PendingMore   bool       `json:"pending_more,omitempty" doc:"Whether there are more than were counted."`
	OldestPending *time.Time `json:"oldest_pending,omitempty" doc:"Commit time of the oldest one's event."`
	NextDue       *time.Time `json:"next_due,omitempty" doc:"When the first of them may be sent; absent when none may."`
}

// turned is what became of an endpoint that was paused or resumed.
type turned struct {
	ID      uuid.UUID `json:"id" format:"uuid"`
	Name    string    `json:"name"`
	State   string    `json:"state" enum:"enabled,paused"`
	Was     string    `json:"was" enum:"enabled,paused,disabled" doc:"The state before."`
	By      string    `json:"state_by" enum:"configuration,operator,relay" doc:"Who set the state; configuration also where the API's document did."`
	Reason  string    `json:"reason,omitempty" doc:"Of the state."`
	Since   time.Time `json:"since" doc:"When the state was set."`
	Changed bool      `json:"changed" doc:"false when there was nothing to do."`
}

// TestResult is what came of a test.
type TestResult struct {
	OK          bool        `json:"ok" doc:"Whether the answer was a success: 2xx."`
	Error       string      `json:"error,omitempty" doc:"Why it was none."`
	Status      int         `json:"status,omitempty" doc:"The answer's; absent without one."`
	Delivery    uuid.UUID   `json:"delivery_id" format:"uuid" doc:"As the request named it; no delivery has it."`
	Type        string      `json:"type" doc:"The event's."`
	Method      string      `json:"method"`
	URL         string      `json:"url" doc:"Without credentials."`
	Headers     [][2]string `json:"headers" doc:"As sent, names and values, credentials as ***."`
	Body        string      `json:"body" doc:"As sent."`
	Response    string      `json:"response,omitempty" doc:"The first bytes of the answer's body."`
	DNSus       int64       `json:"dns_us" doc:"Microseconds; 0 for what did not happen."`
	ConnectUS   int64       `json:"connect_us"`
	TLSus       int64       `json:"tls_us"`
	FirstByteUS int64       `json:"first_byte_us"`
	TotalUS     int64       `json:"total_us"`
	Notes       []string    `json:"notes" doc:"About the event, for people."`
}

// EndpointPath names an endpoint in the path. Exported, as huma wants of what is
// embedded.
type EndpointPath struct {
	Name string `path:"name" maxLength:"256" doc:"The endpoint's name or id."`
}

type turnInput struct {
	EndpointPath
	Body *turnBody
}

type turnBody struct {
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why, for whoever asks: one line of at most 500 bytes."`
}

type turnOutput struct{ Body turned }

type testInput struct {
	EndpointPath
	Body *testBody
}

type testBody struct {
	Type    string          `json:"type,omitempty" maxLength:"256" doc:"The event's; default: the first of the catalogue that the endpoint gets."`
	Payload json.RawMessage `json:"payload,omitempty" doc:"Any JSON; default: the catalogue's example of the type."`
}

type testOutput struct{ Body TestResult }

type endpointsInput struct {
	PageInput
	All bool `query:"all" doc:"Those that were removed from the configuration too."`
}

type endpointPage struct {
	Endpoints []endpointStatus `json:"endpoints" nullable:"false"`
	Next      string           `json:"next,omitempty" doc:"The next page's cursor; absent on the last page."`
}

type endpointsOutput struct{ Body endpointPage }

func (a *API) endpointOperations() {
	register(a, operation{
		id: "list-endpoints", method: http.MethodGet, path: "/endpoints", role: Viewer, portal: true,
		summary: "List endpoints", doc: "Endpoints by name, with their health and what waits for them.",
	}, a.listEndpoints)
	register(a, operation{
		id: "pause-endpoint", method: http.MethodPost, path: "/endpoints/{name}/pause", role: Operator, portal: true,
		summary: "Pause an endpoint", doc: "Parks the events of an endpoint until it is resumed; the running relay notices within a second or two. One that is paused already stays so, with the new reason if one is given.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, who *Caller, in *turnInput) (*turnOutput, error) {
		return in.turn(ctx, who, a.Control.Pause)
	})
	register(a, operation{
		id: "resume-endpoint", method: http.MethodPost, path: "/endpoints/{name}/resume", role: Operator, portal: true,
		summary: "Resume an endpoint", doc: "Lets an endpoint that is paused, or answered 410 Gone, have its events again, what was parked first, and forgets its failures.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, who *Caller, in *turnInput) (*turnOutput, error) {
		return in.turn(ctx, who, a.Control.Resume)
	})
	register(a, operation{
		id: "test-endpoint", method: http.MethodPost, path: "/endpoints/{name}/test", role: Operator, portal: true, body: maxPayload, within: testWithin,
		summary: "Send a test to an endpoint", doc: "Sends one request in the way that every delivery is sent, marked by the header Posthorn-Test, and waits for what comes of it. Of the ledger it touches the audit only. A conflict says why nothing was sent.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.testEndpoint)
}

func (a *API) listEndpoints(ctx context.Context, who *Caller, in *endpointsInput) (*endpointsOutput, error) {
	list, err := a.Control.Endpoints(ctx, who, in.All)
	if err != nil {
		return nil, err
	}
	part, next, err := page(&in.PageInput, endpointList, list, func(s *ledger.EndpointStatus) string { return s.Name + "\x00" + string(s.ID[:]) })
	if err != nil {
		return nil, err
	}
	out := &endpointsOutput{endpointPage{Endpoints: []endpointStatus{}, Next: next}}
	for i := range part {
		out.Body.Endpoints = append(out.Body.Endpoints, statusOf(&part[i]))
	}
	return out, nil
}

func statusOf(s *ledger.EndpointStatus) endpointStatus {
	return endpointStatus{
		ID: s.ID, Name: s.Name, Tenant: s.Tenant, URL: s.URL, Origin: s.Origin, State: string(s.State), By: s.By, Reason: s.Reason, Since: s.Since,
		Failing: s.Failing, Failures: s.Failures, FailingSince: s.FailingSince, Pending: s.Pending, PendingMore: s.PendingMore, OldestPending: s.OldestPending, NextDue: s.NextDue,
	}
}

// maxReason bounds a reason, in bytes.
const maxReason = 500

// turn answers with what do makes of the endpoint.
func (in *turnInput) turn(ctx context.Context, who *Caller, do func(ctx context.Context, who *Caller, endpoint, reason string) (*ledger.Turned, error)) (*turnOutput, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	if err := checkText("body.reason", reason); err != nil {
		return nil, err
	}
	if len(reason) > maxReason {
		return nil, invalid("body.reason", "has more than 500 bytes")
	}
	t, err := do(ctx, who, in.Name, reason)
	if err != nil {
		return nil, err
	}
	return &turnOutput{turned{ID: t.ID, Name: t.Name, State: string(t.State), Was: string(t.Was), By: t.By, Reason: t.Reason, Since: t.Since, Changed: t.Changed}}, nil
}

func (a *API) testEndpoint(ctx context.Context, who *Caller, in *testInput) (*testOutput, error) {
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	var sample testBody
	if in.Body != nil {
		sample = *in.Body
	}
	if err := checkText("body.type", sample.Type); err != nil {
		return nil, err
	}
	leave, ok := a.testing.enter(who, nil)
	if !ok {
		return nil, huma.ErrorWithHeaders(huma.Error429TooManyRequests("other tests are being sent: try again when they are done"), http.Header{"Retry-After": {"5"}})
	}
	defer leave()
	result, err := a.Control.Test(ctx, who, in.Name, sample.Type, sample.Payload)
	if err != nil {
		return nil, err
	}
	result.Body, result.Response = excerpt([]byte(result.Body)), excerpt([]byte(result.Response))
	return &testOutput{*result}, nil
}
