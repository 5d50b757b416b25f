package lane

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/event"
	"github.com/posthorn/posthorn/relay/internal/ledger"
	"github.com/posthorn/posthorn/transforms"
)

// The bounds on what templates yield.
const (
	maxBody   = 64 << 20
	maxHeader = 8 << 10
)

// render makes the request that every attempt of a delivery sends; others may
// share it. An error is final: trying again would yield the same.
func (ep *Endpoint) render(id uuid.UUID, e *event.Event) (*ledger.Request, error) {
	if e.Invalid != "" {
		return nil, errors.New(e.Invalid)
	}
	v := view{endpoint: ep, id: id, event: e}
	plain := ep.plain.of(ep)
	headers := plain.Headers
	if headers == nil {
		var err error
		if headers, err = v.rendered(); err != nil {
			return nil, err
		}
	}
	parent, state, err := v.traceContext()
	if err != nil {
		return nil, err
	}
	body, err := v.body()
	if err != nil {
		return nil, fmt.Errorf("render body: %w", err)
	}
	if plain.Headers != nil && parent == "" && body == nil {
		return plain, nil
	}
	if parent != "" {
		headers = append(slices.Clip(headers), [2]string{"Traceparent", parent})
	}
	if state != "" {
		headers = append(headers, [2]string{"Tracestate", state})
	}
	return &ledger.Request{Method: ep.Method, Headers: headers, Body: body}, nil
}

// plain is the request of a delivery whose body is the event's payload, made
// when one is rendered first: they all share it. Its headers are nil where
// they differ from one delivery to the next.
type plain struct {
	once    sync.Once
	request ledger.Request
}

func (p *plain) of(ep *Endpoint) *ledger.Request {
	p.once.Do(func() {
		p.request.Method = ep.Method
		for _, h := range ep.Headers {
			if _, literal := h.Value.Literal(); !literal {
				return
			}
		}
		v := view{endpoint: ep}
		if headers, err := v.rendered(); err == nil { // literals always render
			p.request.Headers = headers
		}
	})
	return &p.request
}

// rendered returns the endpoint's headers for a delivery.
func (v *view) rendered() ([][2]string, error) {
	ep := v.endpoint
	headers := append(make([][2]string, 0, len(ep.Headers)+3), [2]string{"Content-Type", ep.ContentType})
	userAgent := true
	for _, h := range ep.Headers {
		value, err := v.header(h)
		if err != nil {
			return nil, fmt.Errorf("render header %s: %w", h.Name, err)
		}
		userAgent = userAgent && !strings.EqualFold(h.Name, "User-Agent")
		headers = append(headers, [2]string{h.Name, value})
	}
	if userAgent {
		headers = append(headers, [2]string{"User-Agent", ep.UserAgent})
	}
	return headers, nil
}

// view makes what templates see, once and only when one looks.
type view struct {
	endpoint *Endpoint
	id       uuid.UUID
	event    *event.Event
	made     *transforms.View
}

// shownURL is an endpoint's URL as templates see it, made when one looks first.
type shownURL struct {
	once sync.Once
	text string
}

func (s *shownURL) of(u *url.URL) string {
	s.once.Do(func() { s.text = transforms.EndpointURL(u) })
	return s.text
}

// Form is how JSON is written before it is signed and sent.
type Form int

// The forms, as the configuration's key json names them.
const (
	Preserve Form = iota
	Compact
	Stringify
)

// apply returns src in the form. An error says that src is not JSON.
func (f Form) apply(src []byte) (dst []byte, err error) {
	switch f {
	case Compact:
		dst, err = transforms.Compact(nil, src)
	case Stringify:
		dst, err = transforms.Stringify(nil, src)
	default:
		return src, transforms.Valid(src)
	}
	return dst, err
}

// headers returns the event's headers, as the transforms left them.
func (v *view) headers() (map[string]string, error) {
	if made := v.event.Made.Load(); made != nil {
		return made.Headers, nil
	}
	return v.event.HeaderMap()
}

func (v *view) get() (*transforms.View, error) {
	if v.made != nil {
		return v.made, nil
	}
	e, eventType := v.event, v.event.Type
	if made := e.Made.Load(); made != nil {
		eventType = made.Type
	}
	headers, err := v.headers()
	if err != nil {
		return nil, err
	}
	payload, err := v.payload()
	if err != nil {
		return nil, err
	}
	object, action := transforms.SplitType(eventType)
	v.made = &transforms.View{
		Event: transforms.Event{
			ID: e.ID.String(), Type: eventType, Object: object, Action: action,
			Tenant: e.Tenant, Key: e.Key, CreatedAt: e.CreatedAt, Headers: headers,
		},
		Payload:  transforms.JSON(payload),
		Delivery: transforms.Delivery{ID: v.id.String(), CreatedAt: e.CommittedAt},
		Endpoint: transforms.Endpoint{ID: v.endpoint.ID.String(), Name: v.endpoint.Name, URL: v.endpoint.shown.of(v.endpoint.URL), Tenant: v.endpoint.Tenant},
	}
	return v.made, nil
}

func (v *view) header(h Header) (string, error) {
	if text, ok := h.Value.Literal(); ok {
		return text, nil
	}
	made, err := v.get()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := h.Value.Execute(transforms.LimitWriter(&b, maxHeader), made); err != nil {
		return "", err
	}
	value := b.String()
	if !validHeaderValue(value) {
		return "", errors.New("the value holds a control character, e.g. a line break")
	}
	return value, nil
}

// traceContext returns the event's traceparent and tracestate, which are passed
// on: "" where there is none or the endpoint has a header of its own for it.
func (v *view) traceContext() (parent, state string, err error) {
	headers, err := v.headers()
	if err != nil || len(headers) == 0 {
		return "", "", err
	}
	if parent = headers["traceparent"]; !passable(parent) || v.endpoint.sets("Traceparent") {
		return "", "", nil
	}
	if state = headers["tracestate"]; !v.endpoint.Traced || !passable(state) || v.endpoint.sets("Tracestate") {
		state = ""
	}
	return parent, state, nil
}

func passable(value string) bool {
	return value != "" && len(value) <= maxHeader && validHeaderValue(value)
}

// payload returns the payload as templates see it: as the transforms left it,
// in the endpoint's form where that cannot be the body's, which is no JSON.
func (v *view) payload() ([]byte, error) {
	payload := v.event.Payload
	if made := v.event.Made.Load(); made != nil {
		payload = made.Payload
	}
	if v.endpoint.Form == Preserve || isJSON(v.endpoint.ContentType) {
		return payload, nil
	}
	formed, err := v.endpoint.Form.apply(payload)
	if err != nil {
		return nil, fmt.Errorf("the payload is not JSON: %w", err)
	}
	return formed, nil
}

// body returns the rendered body, or nil when it is the payload as it is.
func (v *view) body() ([]byte, error) {
	body, err := v.written()
	if err == nil && isJSON(v.endpoint.ContentType) && (v.endpoint.Form != Preserve || !v.endpoint.Body.IsPayload()) {
		if body, err = v.endpoint.Form.apply(body); err != nil {
			err = fmt.Errorf("the body is not JSON: %w", err)
		}
	}
	if err != nil || v.endpoint.Body.IsPayload() && bytes.Equal(body, v.event.Payload) {
		return nil, err
	}
	return body, nil
}

// written returns what the body's template yields; never nil.
func (v *view) written() ([]byte, error) {
	if v.endpoint.Body.IsPayload() {
		return v.payload()
	}
	made, err := v.get()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := v.endpoint.Body.Execute(transforms.LimitWriter(&b, maxBody), made); err != nil {
		return nil, err
	}
	return append([]byte{}, b.Bytes()...), nil // no larger than it needs to be
}

// isJSON reports whether a body of this content type must be JSON.
func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true // as nearly all
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

func validHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
