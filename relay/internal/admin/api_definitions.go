package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Document is an endpoint's, as it was sent.
type Document json.RawMessage

// Schema says only that it is an object: what may be in it the configuration
// decides that the relay runs with.
func (Document) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "The keys of an endpoint as the configuration has them (posthorn config schema): name, url, events or objects and triggers, tenant, filter, profile, secret, previous_secrets, enabled, and all that a profile has.",
		Examples:    []any{map[string]any{"name": "erp", "url": "https://erp.acme.example/hooks", "events": []string{"order.*"}}},
	}
}

// UnmarshalJSON keeps the text.
func (d *Document) UnmarshalJSON(text []byte) error {
	*d = bytes.Clone(text)
	return nil
}

// MarshalJSON returns the text.
func (d Document) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// EndpointFields are an endpointStatus', exported as huma wants of what is
// embedded.
type EndpointFields endpointStatus

// Definition is what an endpoint is, beside how it does.
type Definition struct {
	EndpointFields
	Revision        int64       `json:"revision,omitempty" doc:"Grows with each change; absent for one of the configuration."`
	Document        Document    `json:"document" doc:"The keys that were given. Secrets are ***."`
	Effective       Document    `json:"effective" doc:"All that it sends with, its profile's keys and defaults included. Secrets are ***."`
	Patterns        []string    `json:"patterns" nullable:"false" doc:"The event types that it gets."`
	HasSecret       bool        `json:"has_secret" doc:"Whether it, or its tenant, has a secret."`
	PublicKey       string      `json:"public_key,omitempty" doc:"By which receivers verify where the secret is an Ed25519 key: whpk_ and base64. Absent otherwise."`
	PreviousSecrets []time.Time `json:"previous_secrets" nullable:"false" doc:"When each of those that sign too expires."`
	CreatedAt       *time.Time  `json:"created_at,omitempty" doc:"Absent for one of the configuration, as updated_at and created_by."`
	UpdatedAt       *time.Time  `json:"updated_at,omitempty"`
	CreatedBy       string      `json:"created_by,omitempty"`
	Broken          string      `json:"broken,omitempty" doc:"Why the relay's configuration cannot use it any more: its events are parked. Absent when it can."`
}

// WithSecret is an endpoint and the secret that was made for it.
type WithSecret struct {
	Definition
	Secret string `json:"secret,omitempty" doc:"The secret that was made: this is the only time that it is shown. Absent where none was."`
}

type definitionOutput struct{ Body Definition }

type secretOutput struct{ Body WithSecret }

type createInput struct {
	OnceInput
	Body Document
}

type editInput struct {
	EndpointPath
	Revision int64 `query:"revision" minimum:"1" doc:"Only if the endpoint has this revision: else 409."`
	Body     Document
}

type deletedEndpoint struct {
	Name    string `json:"name" doc:"As it was given."`
	Deleted bool   `json:"deleted"`
}

type deletedOutput struct{ Body deletedEndpoint }

type rotateInput struct {
	EndpointPath
	OnceInput
	Body *rotateBody
}

type rotateBody struct {
	Grace  string `json:"grace,omitempty" maxLength:"40" doc:"How long the secret before signs too: a duration of at most 720h, by default 24h; 0s for not at all."`
	Secret string `json:"secret,omitempty" maxLength:"8192" doc:"The new secret; by default one is made."`
}

type checkInput struct{ Body Document }

type checkEditInput struct {
	EndpointPath
	Body Document
}

type checked struct {
	Valid bool `json:"valid"`
}

type checkedOutput struct{ Body checked }

// maxDefinition bounds a request with a document, in bytes.
const maxDefinition = 64 << 10

// defaultGrace is how long a secret that is replaced signs too.
const defaultGrace = 24 * time.Hour

func (a *API) definitionOperations() {
	register(a, operation{
		id: "show-endpoint", method: http.MethodGet, path: "/endpoints/{name}", role: Viewer, portal: true,
		summary: "Show an endpoint", doc: "What an endpoint is, and how it does.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, who *Caller, in *EndpointPath) (*definitionOutput, error) {
		return in.show(ctx, a, who)
	})
	register(a, operation{
		id: "create-endpoint", method: http.MethodPost, path: "/endpoints", role: Operator, creates: true, portal: true, body: maxDefinition,
		summary: "Create an endpoint", doc: "It gets the events that commit after it was created. A secret is made unless the document has one, its tenant has one or nothing signs with it; \"secret\": \"\" is for none. auth, and tls but for verify, take the role admin.",
		errors: []int{http.StatusConflict},
	}, a.createEndpoint)
	register(a, operation{
		id: "edit-endpoint", method: http.MethodPatch, path: "/endpoints/{name}", role: Operator, portal: true, body: maxDefinition,
		summary: "Edit an endpoint", doc: "By a JSON merge patch (RFC 7396) over the document. Secrets that the patch leaves out, or gives as ***, stay. A change applies to all events that the relay has not read yet, at the latest to the first that commits after it.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.editEndpoint)
	register(a, operation{
		id: "delete-endpoint", method: http.MethodDelete, path: "/endpoints/{name}", role: Operator, portal: true,
		summary: "Delete an endpoint", doc: "What it has pending ends as failed.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.deleteEndpoint)
	register(a, operation{
		id: "rotate-secret", method: http.MethodPost, path: "/endpoints/{name}/secret", role: Operator, portal: true, body: 16 << 10,
		summary: "Rotate an endpoint's secret", doc: "Requests are signed with the secret before, too, until the grace is over. Where the endpoint used its tenant's secret it has its own from then on.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.rotateSecret)
	register(a, operation{
		id: "check-new-endpoint", method: http.MethodPost, path: "/endpoints/check", role: Operator, portal: true, body: maxDefinition,
		summary: "Check a new endpoint", doc: "Says what creating an endpoint of this document would find wrong, and changes nothing.",
	}, func(ctx context.Context, who *Caller, in *checkInput) (*checkedOutput, error) {
		return a.checkEndpoint(ctx, who, "", in.Body)
	})
	register(a, operation{
		id: "check-endpoint", method: http.MethodPost, path: "/endpoints/{name}/check", role: Operator, portal: true, body: maxDefinition,
		summary: "Check a change of an endpoint", doc: "Says what editing the endpoint by this patch would find wrong, and changes nothing.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, who *Caller, in *checkEditInput) (*checkedOutput, error) {
		if err := checkText("path.name", in.Name); err != nil {
			return nil, err
		}
		return a.checkEndpoint(ctx, who, in.Name, in.Body)
	})
}

// definitionOf returns an endpoint as the API shows it.
func definitionOf(d *EndpointDetail) Definition {
	return Definition{
		EndpointFields: EndpointFields(statusOf(&d.EndpointStatus)), Revision: d.Revision, Document: Document(d.Document), Effective: Document(d.Effective),
		Patterns: append([]string{}, d.Patterns...), HasSecret: d.HasSecret, PublicKey: d.PublicKey, PreviousSecrets: append([]time.Time{}, d.PreviousSecrets...),
		CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt, CreatedBy: d.CreatedBy, Broken: d.Broken,
	}
}

func (in *EndpointPath) show(ctx context.Context, a *API, who *Caller) (*definitionOutput, error) {
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	d, err := a.Control.Endpoint(ctx, who, in.Name)
	if err != nil {
		return nil, err
	}
	return &definitionOutput{definitionOf(d)}, nil
}

func (a *API) createEndpoint(ctx context.Context, who *Caller, in *createInput) (*secretOutput, error) {
	made, err := once(ctx, a, who, "create-endpoint", &in.OnceInput, in.Body, func(ctx context.Context) (*WithSecret, error) {
		d, err := a.Control.CreateEndpoint(ctx, who, json.RawMessage(in.Body))
		if err != nil {
			return nil, err
		}
		return &WithSecret{definitionOf(&d.EndpointDetail), d.Secret}, nil
	})
	if err != nil {
		return nil, err
	}
	return &secretOutput{*made}, nil
}

func (a *API) editEndpoint(ctx context.Context, who *Caller, in *editInput) (*definitionOutput, error) {
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	d, err := a.Control.EditEndpoint(ctx, who, in.Name, json.RawMessage(in.Body), in.Revision)
	if err != nil {
		return nil, err
	}
	return &definitionOutput{definitionOf(d)}, nil
}

func (a *API) deleteEndpoint(ctx context.Context, who *Caller, in *EndpointPath) (*deletedOutput, error) {
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	if err := a.Control.DeleteEndpoint(ctx, who, in.Name); err != nil {
		return nil, err
	}
	return &deletedOutput{deletedEndpoint{Name: in.Name, Deleted: true}}, nil
}

func (a *API) rotateSecret(ctx context.Context, who *Caller, in *rotateInput) (*secretOutput, error) {
	if err := checkText("path.name", in.Name); err != nil {
		return nil, err
	}
	r := Rotation{Grace: defaultGrace}
	if in.Body != nil {
		r.Secret = in.Body.Secret
		if in.Body.Grace != "" {
			grace, err := time.ParseDuration(in.Body.Grace)
			if err != nil || grace < 0 || grace > MaxGrace {
				return nil, invalid("body.grace", "is a duration of 0s to 720h, such as 24h")
			}
			r.Grace = grace
		}
	}
	request := []any{in.Name, r}
	made, err := once(ctx, a, who, "rotate-secret", &in.OnceInput, request, func(ctx context.Context) (*WithSecret, error) {
		d, err := a.Control.RotateSecret(ctx, who, in.Name, r)
		if err != nil {
			return nil, err
		}
		return &WithSecret{definitionOf(&d.EndpointDetail), d.Secret}, nil
	})
	if err != nil {
		return nil, err
	}
	return &secretOutput{*made}, nil
}

func (a *API) checkEndpoint(ctx context.Context, who *Caller, name string, document Document) (*checkedOutput, error) {
	if err := a.Control.CheckEndpoint(ctx, who, name, json.RawMessage(document)); err != nil {
		return nil, err
	}
	return &checkedOutput{checked{Valid: true}}, nil
}

// problem returns what is wrong with a document as a problem.
func (e *InvalidError) problem() error {
	details := make([]error, len(e.Fields))
	for i, f := range e.Fields {
		where := "body"
		if f.Field != "" {
			where += "." + f.Field
		}
		details[i] = &huma.ErrorDetail{Location: where, Message: f.Message}
	}
	return huma.Error422UnprocessableEntity("validation failed", details...)
}
