package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func (d *Dashboard) formAnswer(b *formBody) *answer {
	a := &answer{page: "form", title: "New endpoint", section: "endpoints", body: b}
	if b.Existing != nil {
		a.title = "Edit " + b.Existing.Name
	}
	if b.Sent {
		a.status = http.StatusUnprocessableEntity
	}
	return a
}

func (d *Dashboard) newEndpoint(q *request) (*answer, error) {
	document := map[string]any{}
	if t := q.URL.Query().Get("event"); t != "" && len(t) <= maxFilter {
		document["events"] = []any{t}
	}
	return d.formAnswer(d.newForm(q, nil, document)), nil
}

func (d *Dashboard) createEndpoint(q *request) (*answer, error) {
	document, b := d.documentOf(q, nil, nil)
	if f := b.find("more"); f != nil && f.Problem != "" || b.Secret.Problem != "" {
		b.Sent = true
		return d.formAnswer(b), nil
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	made, err := d.once(q, "dashboard create", json.RawMessage(text), func(ctx context.Context) (*admin.NewSecret, error) {
		return d.Control.CreateEndpoint(ctx, q.who, text)
	})
	if invalid := invalidOf(err); invalid != nil {
		b.show(invalid)
		b.Sent = true
		return d.formAnswer(b), nil
	}
	if errors.Is(err, ledger.ErrOtherRequest) {
		b.Problem, b.Sent = "An endpoint was made by this form before it was changed. Send it again to make another.", true
		return d.formAnswer(b), nil
	}
	var refused *ledger.RefusedError
	if errors.As(err, &refused) {
		b.Problem, b.Sent = sentence(refused), true
		return d.formAnswer(b), nil
	}
	if err != nil {
		return nil, err
	}
	if made.Secret == "" {
		return &answer{redirect: "/endpoints/" + url.PathEscape(made.ID.String()) + "?done=saved"}, nil
	}
	return d.withSecret(q, made, true)
}

// ownDocument returns the keys that an endpoint has of its own.
func ownDocument(detail *admin.EndpointDetail) (map[string]any, error) {
	document := map[string]any{}
	err := json.Unmarshal(detail.Document, &document)
	return document, err
}

// editable returns the endpoint, its keys, or why it cannot be edited here.
func (d *Dashboard) editable(q *request) (*admin.EndpointDetail, map[string]any, error) {
	detail, err := d.Control.Endpoint(q.Context(), q.who, q.PathValue("id"))
	if err != nil {
		return nil, nil, err
	}
	if detail.Origin != ledger.OfAPI {
		return nil, nil, ledger.Refused("it stands in the configuration: change it there")
	}
	document, err := ownDocument(detail)
	return detail, document, err
}

func (d *Dashboard) editEndpoint(q *request) (*answer, error) {
	detail, document, err := d.editable(q)
	if err != nil {
		return nil, err
	}
	return d.formAnswer(d.newForm(q, detail, document)), nil
}

// patchOf returns what a form changes of an endpoint.
func (d *Dashboard) patchOf(q *request, detail *admin.EndpointDetail, before map[string]any) (map[string]any, *formBody) {
	after, b := d.documentOf(q, detail, before)
	if q.portal() { // what the form does not have stays
		keep(b, before, after)
	}
	if b.Events.By == "events" {
		delete(after, "objects")
		delete(after, "triggers")
	}
	return difference(before, after), b
}

// keep puts into after what was there before and the form does not have: keys,
// and parts of those that it has parts of, such as tls.ca_file beside tls.verify.
func keep(b *formBody, before, after map[string]any) {
	for key, value := range before {
		if !b.sets(key) {
			after[key] = value
			continue
		}
		parts, nested := value.(map[string]any)
		if !nested || b.has(key) {
			continue
		}
		kept, _ := after[key].(map[string]any)
		kept = maps.Clone(kept)
		for part, value := range parts {
			if !b.has(key + "." + part) {
				if kept == nil {
					kept = map[string]any{}
				}
				kept[part] = value
			}
		}
		if kept != nil {
			after[key] = kept
		}
	}
}

func (d *Dashboard) saveEndpoint(q *request) (*answer, error) {
	detail, before, err := d.editable(q)
	if err != nil {
		return nil, err
	}
	patch, b := d.patchOf(q, detail, before)
	text, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	b.Sent = true
	if f := b.find("more"); f != nil && f.Problem != "" {
		return d.formAnswer(b), nil
	}
	if len(patch) == 0 {
		return back(q, "saved"), nil
	}
	_, err = d.Control.EditEndpoint(q.Context(), q.who, detail.ID.String(), text, b.Revision)
	if invalid := invalidOf(err); invalid != nil {
		b.show(invalid)
		return d.formAnswer(b), nil
	}
	if errors.Is(err, ledger.ErrChanged) {
		b.Revision = detail.Revision
		b.Problem = "It was changed meanwhile. Saving again overwrites that: what is here differs in " + strings.Join(slices.Sorted(maps.Keys(patch)), ", ") + "."
		return d.formAnswer(b), nil
	}
	var refused *ledger.RefusedError
	if errors.As(err, &refused) {
		b.Problem = sentence(err)
		return d.formAnswer(b), nil
	}
	if err != nil {
		return nil, err
	}
	return back(q, "saved"), nil
}

// checkEndpoint says what is wrong with a form while it is written.
func (d *Dashboard) checkEndpoint(q *request) (*answer, error) {
	var (
		b    *formBody
		made map[string]any
		name string
	)
	if id := q.PathValue("id"); id != "" {
		detail, before, err := d.editable(q)
		if err != nil {
			return nil, err
		}
		made, b = d.patchOf(q, detail, before)
		name = detail.ID.String()
	} else {
		made, b = d.documentOf(q, nil, nil)
	}
	text, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	err = d.Control.CheckEndpoint(q.Context(), q.who, name, text)
	if invalid := invalidOf(err); invalid != nil {
		b.show(invalid)
	} else if err != nil {
		return nil, err
	}
	return &answer{page: "form", part: "problems", body: b}, nil
}
