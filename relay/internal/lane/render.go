package lane

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"

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

// render makes the request that every attempt of a delivery sends. An error
// is final: trying again would yield the same.
func (ep *Endpoint) render(id uuid.UUID, e *event.Event) (*ledger.Request, error) {
	if e.Invalid != "" {
		return nil, errors.New(e.Invalid)
	}
	v := view{endpoint: ep, id: id, event: e}
	q := &ledger.Request{Method: ep.Method, Headers: make([][2]string, 0, len(ep.Headers)+3)}
	q.Headers = append(q.Headers, [2]string{"Content-Type", ep.ContentType})
	userAgent := true
	for _, h := range ep.Headers {
		value, err := v.header(h)
		if err != nil {
			return nil, fmt.Errorf("render header %s: %w", h.Name, err)
		}
		userAgent = userAgent && !strings.EqualFold(h.Name, "User-Agent")
		q.Headers = append(q.Headers, [2]string{h.Name, value})
	}
	if userAgent {
		q.Headers = append(q.Headers, [2]string{"User-Agent", ep.UserAgent})
	}
	trace, err := v.traceparent()
	if err != nil {
		return nil, err
	}
	if trace != "" {
		q.Headers = append(q.Headers, [2]string{"Traceparent", trace})
	}
	q.Body, err = v.body()
	if err != nil {
		return nil, fmt.Errorf("render body: %w", err)
	}
	return q, nil
}

// view makes what templates see, once and only when one looks.
type view struct {
	endpoint *Endpoint
	id       uuid.UUID
	event    *event.Event
	made     *transforms.View
}

func (v *view) get() (*transforms.View, error) {
	if v.made != nil {
		return v.made, nil
	}
	e := v.event
	headers, err := e.HeaderMap()
	if err != nil {
		return nil, err
	}
	object, action := transforms.SplitType(e.Type)
	v.made = &transforms.View{
		Event: transforms.Event{
			ID: e.ID.String(), Type: e.Type, Object: object, Action: action,
			Tenant: e.Tenant, Key: e.Key, CreatedAt: e.CreatedAt, Headers: headers,
		},
		Payload:  transforms.JSON(e.Payload),
		Delivery: transforms.Delivery{ID: v.id.String(), CreatedAt: e.CommittedAt},
		Endpoint: transforms.Endpoint{ID: v.endpoint.ID.String(), Name: v.endpoint.Name, URL: v.endpoint.URL.String(), Tenant: v.endpoint.Tenant},
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

// traceparent returns the event's trace context, which is passed on.
func (v *view) traceparent() (string, error) {
	if len(v.event.Headers) == 0 {
		return "", nil
	}
	headers, err := v.event.HeaderMap()
	if err != nil {
		return "", err
	}
	if value := headers["traceparent"]; validHeaderValue(value) && len(value) <= maxHeader {
		return value, nil
	}
	return "", nil
}

// body returns the rendered body, or nil when it is the payload as it is.
func (v *view) body() ([]byte, error) {
	ep := v.endpoint
	body := v.event.Payload
	whole := ep.Body.IsPayload()
	if !whole {
		made, err := v.get()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := ep.Body.Execute(transforms.LimitWriter(&b, maxBody), made); err != nil {
			return nil, err
		}
		body = append([]byte{}, b.Bytes()...) // never nil, and no larger than it needs to be
	}
	switch {
	case ep.Compact:
		compact, err := transforms.Compact(nil, body)
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		if whole && len(compact) == len(body) {
			return nil, nil
		}
		return compact, nil
	case whole:
		return nil, nil
	case isJSON(ep.ContentType):
		if err := transforms.Valid(body); err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
	}
	return body, nil
}

// isJSON reports whether a body of this content type must be JSON.
func isJSON(contentType string) bool {
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
