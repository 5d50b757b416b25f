package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// newFormKey returns what a form that makes a secret is told apart by from the
// same form once more. It is random.
func newFormKey() string { return uuid.NewString() }

// onceEvery is how often a form that came twice asks for what became of the first.
const onceEvery = 200 * time.Millisecond

// made is what is kept of an endpoint whose secret was made.
type made struct {
	ID     uuid.UUID `json:"id"`
	Secret string    `json:"secret"`
}

// once returns what do makes, or made when the form came before: a double click
// or a page that is loaded again makes no second secret, and shows the first. All
// that do depends on is in request.
func (d *Dashboard) once(q *request, operation string, request any, do func(context.Context) (*admin.NewSecret, error)) (*admin.NewSecret, error) {
	key := q.PostForm.Get("key")
	if key == "" || len(key) > maxFilter {
		return do(q.Context())
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	answer, err := d.first(q, admin.OnceRequest{Operation: operation, Key: key, Request: text}, func(ctx context.Context) ([]byte, error) {
		s, err := do(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(made{s.ID, s.Secret}) //nolint:gosec // Control.Once keeps it encrypted
	})
	if err != nil {
		return nil, err
	}
	var m made
	if err := json.Unmarshal(answer, &m); err != nil {
		return nil, err
	}
	detail, err := d.Control.Endpoint(q.Context(), q.who, m.ID.String())
	if err != nil {
		return nil, err
	}
	return &admin.NewSecret{EndpointDetail: *detail, Secret: m.Secret}, nil
}

// first is Control.Once that waits for the first request, whose answer the
// browser does not wait for any more.
func (d *Dashboard) first(q *request, r admin.OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error) {
	ticker := time.NewTicker(onceEvery)
	defer ticker.Stop()
	for {
		answer, err := d.Control.Once(q.Context(), q.who, r, do)
		if !errors.Is(err, ledger.ErrRunning) {
			return answer, err
		}
		select {
		case <-ticker.C:
		case <-q.Context().Done():
			return nil, err
		}
	}
}
