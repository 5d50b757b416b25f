package admin

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/danielgtaylor/huma/v2"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// OnceInput makes an operation one that can be asked for again without being
// done again. Exported, as huma wants of what is embedded.
type OnceInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Any text, such as a UUID: the same request with the same key is done once, and answered alike for a day."`
}

// once returns what do does, or did for the request before that had the key and
// was the same. All that the answer depends on is in request.
func once[O any](ctx context.Context, a *API, who *Caller, operation string, in *OnceInput, request any, do func(context.Context) (*O, error)) (*O, error) {
	if in.IdempotencyKey == "" {
		return do(ctx)
	}
	if err := checkText("header.Idempotency-Key", in.IdempotencyKey); err != nil {
		return nil, err
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	answer, err := a.Control.Once(ctx, who, OnceRequest{operation, in.IdempotencyKey, text}, func(ctx context.Context) ([]byte, error) {
		out, err := do(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	})
	if err != nil {
		return nil, err
	}
	out := new(O)
	return out, json.Unmarshal(answer, out)
}

// Refuses reports whether an error of an operation is a refusal: nothing was
// done. After any other one it may have been done all the same.
func Refuses(err error) bool {
	var known huma.StatusError
	var refused *ledger.RefusedError
	var wrong *InvalidError
	if errors.As(err, &known) {
		return known.GetStatus() < 500
	}
	for _, refusal := range []error{ledger.ErrUnknownEndpoint, ledger.ErrUnknownDelivery, ledger.ErrUnknownReplay, ledger.ErrConfigured, ledger.ErrChanged} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return errors.As(err, &refused) || errors.As(err, &wrong)
}
