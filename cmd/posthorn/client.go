package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay"
)

// client asks the HTTP API of a relay, as an operator that is not on the spot.
// Who acts is who the token belongs to. Use newClient, and close at the end.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// The bounds of what the client waits for and takes from a server.
const (
	answerWithin = time.Minute
	testWithin   = 7 * time.Minute // an endpoint's timeout is 5m at most
	maxAnswer    = 64 << 20        // bytes
	maxProblem   = 1 << 10         // bytes of each of a problem's texts
	pageLimit    = 500             // items of a list, as the API allows
	maxItems     = 100_000         // of a list that has no limit of its own
)

func newClient(base *url.URL, token string) *client {
	return &client{base: base, token: token, http: &http.Client{
		Transport: http.DefaultTransport.(*http.Transport).Clone(),
		// The token is for this server only, and an answer elsewhere is none of its API.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// problemError is a problem (RFC 9457) that the server answered with.
type problemError struct {
	Status int
	Detail string
	Fields []string // each with what is wrong with it
}

func (e *problemError) Error() string {
	text := e.Detail
	if len(e.Fields) > 0 {
		text += ": " + strings.Join(e.Fields, "; ")
	}
	return fmt.Sprintf("the relay answers %d: %s", e.Status, text)
}

// ask makes a request of an operation, with body as JSON unless it is nil, and
// decodes the answer into out. A *problemError says what the relay refused, and
// why.
func (c *client) ask(ctx context.Context, method, path string, query url.Values, body, out any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	u := c.base.JoinPath("/api/v1", path) // which keeps path escaped
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the relay: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the relay's answer: %w", err)
	case len(text) > maxAnswer:
		return fmt.Errorf("read the relay's answer: it has more than %d bytes", maxAnswer)
	case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated:
		return refusal(res, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the relay's answer: it is none of its API: %w", err)
	}
	return nil
}

// refusal returns the error that an answer other than success tells.
func refusal(res *http.Response, text []byte) error {
	var p struct {
		Title, Detail string
		Errors        []struct{ Location, Message string }
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(text, &p) != nil {
		return fmt.Errorf("the server answers %d and no problem: --server is not the address of a relay's API", res.StatusCode)
	}
	e := &problemError{Status: res.StatusCode, Detail: told(p.Detail)}
	if p.Detail == "" {
		e.Detail = told(p.Title)
	}
	for _, field := range p.Errors {
		e.Fields = append(e.Fields, told(field.Location)+": "+told(field.Message))
	}
	return e
}

// told returns a text of a problem for a terminal.
func told(text string) string {
	if len(text) > maxProblem {
		text = strings.ToValidUTF8(text[:maxProblem], "") + "…"
	}
	return printable(text)
}

// pages returns the first items, at most most of them, of the list that is
// called so in path and answer.
func pages[T any](ctx context.Context, c *client, list string, query url.Values, most int) ([]T, error) {
	var all []T
	for {
		query.Set("limit", strconv.Itoa(min(pageLimit, most-len(all))))
		part, next, err := page[T](ctx, c, list, query)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		if next == "" || len(part) == 0 || len(all) >= most {
			return all[:min(len(all), most)], nil
		}
		query.Set("cursor", next)
	}
}

func page[T any](ctx context.Context, c *client, list string, query url.Values) (part []T, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var answer map[string]json.RawMessage
	if err := c.ask(ctx, http.MethodGet, "/"+list, query, nil, &answer); err != nil {
		return nil, "", err
	}
	if answer[list] == nil {
		return nil, "", fmt.Errorf("read the relay's answer: it is none of its API: it has no %s", list)
	}
	err = json.Unmarshal(answer[list], &part)
	if err == nil && answer["next"] != nil {
		err = json.Unmarshal(answer["next"], &next)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the relay's answer: it is none of its API: %w", err)
	}
	return part, next, nil
}

// Endpoints is as relay.Operator's.
func (c *client) Endpoints(ctx context.Context, removed bool) ([]relay.EndpointStatus, error) {
	query := url.Values{}
	if removed {
		query.Set("all", "true")
	}
	return pages[relay.EndpointStatus](ctx, c, "endpoints", query, maxItems)
}

// Pause is as relay.Operator's.
func (c *client) Pause(ctx context.Context, name, reason string, _ relay.Actor) (*relay.TurnedEndpoint, error) {
	return c.turn(ctx, name, "pause", reason)
}

// Resume is as relay.Operator's.
func (c *client) Resume(ctx context.Context, name, reason string, _ relay.Actor) (*relay.TurnedEndpoint, error) {
	return c.turn(ctx, name, "resume", reason)
}

func (c *client) turn(ctx context.Context, name, verb, reason string) (*relay.TurnedEndpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body := map[string]string{}
	if reason != "" {
		body["reason"] = reason
	}
	out := &relay.TurnedEndpoint{}
	return out, c.ask(ctx, http.MethodPost, "/endpoints/"+url.PathEscape(name)+"/"+verb, nil, body, out)
}

// List is as relay.Operator's, but for a filter's After.
func (c *client) List(ctx context.Context, f relay.DeliveryFilter) ([]relay.Delivery, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, state := range f.States {
		query.Add("state", string(state))
	}
	set("endpoint", f.Endpoint)
	set("tenant", f.Tenant)
	set("type", f.Type)
	if f.Event != uuid.Nil {
		set("event", f.Event.String())
	}
	if f.Since > 0 {
		set("since", f.Since.String())
	}
	if !f.From.IsZero() {
		set("from", f.From.Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		set("until", f.Until.Format(time.RFC3339Nano))
	}
	return pages[relay.Delivery](ctx, c, "deliveries", query, f.Limit)
}

// Show is as relay.Operator's: without request, payload and answers for a token
// that may not see them, and with those cut off that are very long.
func (c *client) Show(ctx context.Context, id uuid.UUID) (*relay.DeliveryDetail, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var shown struct {
		relay.Delivery
		Request *struct {
			Method  string
			Headers [][2]string
			Body    string
		}
		Payload string
		Tries   []struct {
			Number      int
			StartedAt   time.Time `json:"started_at"`
			Outcome     string
			Status      int
			Error       string
			DNSus       int64 `json:"dns_us"`
			ConnectUS   int64 `json:"connect_us"`
			TLSus       int64 `json:"tls_us"`
			FirstByteUS int64 `json:"first_byte_us"`
			TotalUS     int64 `json:"total_us"`
			Response    string
		}
	}
	if err := c.ask(ctx, http.MethodGet, "/deliveries/"+id.String(), nil, nil, &shown); err != nil {
		return nil, err
	}
	d := &relay.DeliveryDetail{Delivery: shown.Delivery}
	if shown.Payload != "" {
		d.Payload = []byte(shown.Payload)
	}
	if r := shown.Request; r != nil {
		d.Request = &relay.DeliveryRequest{Method: r.Method, Headers: r.Headers, Body: []byte(r.Body)}
	}
	for _, t := range shown.Tries {
		d.Tries = append(d.Tries, relay.Attempt{
			Number: t.Number, StartedAt: t.StartedAt, Outcome: t.Outcome, Status: t.Status, Error: t.Error, Response: []byte(t.Response),
			DNS: microseconds(t.DNSus), Connect: microseconds(t.ConnectUS), TLS: microseconds(t.TLSus), FirstByte: microseconds(t.FirstByteUS), Total: microseconds(t.TotalUS),
		})
	}
	return d, nil
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// Retry is as relay.Operator's.
func (c *client) Retry(ctx context.Context, id uuid.UUID, _ relay.Actor) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var out struct {
		Again bool `json:"rendered_again"`
	}
	err = c.ask(ctx, http.MethodPost, "/deliveries/"+id.String()+"/retry", nil, nil, &out)
	return out.Again, err
}

// SendTest is as relay.SendTest, from where the server is.
func (c *client) SendTest(ctx context.Context, s relay.Sample) (*relay.TestResult, error) {
	ctx, cancel := context.WithTimeout(ctx, testWithin)
	defer cancel()
	body := struct {
		Type    string          `json:"type,omitempty"`
		Payload json.RawMessage `json:"payload,omitempty"`
	}{s.Type, s.Payload}
	if s.Payload != nil && !json.Valid(s.Payload) {
		return nil, errors.New("the payload is not JSON")
	}
	var out struct {
		OK             bool
		Error          string
		Status         int
		Delivery       uuid.UUID `json:"delivery_id"`
		Type           string
		Method         string
		URL            string
		Headers        [][2]string
		Body, Response string
		DNSus          int64 `json:"dns_us"`
		ConnectUS      int64 `json:"connect_us"`
		TLSus          int64 `json:"tls_us"`
		FirstByteUS    int64 `json:"first_byte_us"`
		TotalUS        int64 `json:"total_us"`
		Notes          []string
	}
	if err := c.ask(ctx, http.MethodPost, "/endpoints/"+url.PathEscape(s.Endpoint)+"/test", nil, body, &out); err != nil {
		return nil, err
	}
	r := &relay.TestResult{
		Delivery: out.Delivery, Type: out.Type, Method: out.Method, URL: out.URL, Header: out.Headers, Body: []byte(out.Body),
		Status: out.Status, Response: []byte(out.Response), Notes: out.Notes,
		DNS: microseconds(out.DNSus), Connect: microseconds(out.ConnectUS), TLS: microseconds(out.TLSus), FirstByte: microseconds(out.FirstByteUS), Total: microseconds(out.TotalUS),
	}
	if !out.OK {
		r.Err = errors.New(out.Error)
	}
	return r, nil
}

// Catalogue is as relay.Catalogue, by type.
func (c *client) Catalogue(ctx context.Context) ([]relay.EventType, error) {
	return pages[relay.EventType](ctx, c, "events", url.Values{}, maxItems)
}
