package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// DefinitionControl is Control's part for what endpoints are. A document is a
// JSON object of the keys that an endpoint has in the configuration. Errors are
// those of the ledger, and *InvalidError. What stands in the configuration is
// changed there: here that is a *ledger.RefusedError.
type DefinitionControl interface {
	Endpoint(ctx context.Context, who *Caller, name string) (*EndpointDetail, error)
	// CreateEndpoint makes an endpoint, with a secret where it needs one and the
	// document has no key secret. "secret": "" is for none.
	CreateEndpoint(ctx context.Context, who *Caller, document json.RawMessage) (*NewSecret, error)
	// EditEndpoint changes an endpoint's document by a merge patch (RFC 7396).
	// Secrets that the patch leaves out, or gives as they are shown, stay. With a
	// revision other than 0 that is not the endpoint's it is ledger.ErrChanged.
	EditEndpoint(ctx context.Context, who *Caller, name string, patch json.RawMessage, revision int64) (*EndpointDetail, error)
	DeleteEndpoint(ctx context.Context, who *Caller, name string) error
	RotateSecret(ctx context.Context, who *Caller, name string, r Rotation) (*NewSecret, error)
	// CheckEndpoint returns what CreateEndpoint, or with a name EditEndpoint, would
	// find wrong.
	CheckEndpoint(ctx context.Context, who *Caller, name string, document json.RawMessage) error
}

// EndpointDetail is all about an endpoint but its deliveries.
type EndpointDetail struct {
	ledger.EndpointStatus
	Revision        int64           // 0 for one of the configuration
	Document        json.RawMessage // the keys that were given, secrets as ***
	Effective       json.RawMessage // all that it sends with, its profile's keys and defaults included, secrets as ***
	CreatedAt       *time.Time      // nil for one of the configuration, as UpdatedAt
	UpdatedAt       *time.Time
	CreatedBy       string      // as the audit has it; "" for one of the configuration
	HasSecret       bool        // its own or its tenant's
	PublicKey       string      // whpk_ and base64, by which receivers verify where its secret is an Ed25519 key, whsk_; else ""
	PreviousSecrets []time.Time // when each that still signs expires
	Patterns        []string    // of the event types that it gets
	Broken          string      // why the relay's configuration cannot use it, so that its events are parked; "" when it can
}

// NewSecret is an endpoint with the secret that was made for it.
type NewSecret struct {
	EndpointDetail
	Secret string // "" where there is none, or the caller gave it
}

// Rotation is a change of an endpoint's secret.
type Rotation struct {
	Grace  time.Duration // for which the one before signs too; 0 for not at all
	Secret string        // "" for one that is made
}

// MaxGrace is the longest that a secret may sign after it was replaced.
const MaxGrace = 30 * 24 * time.Hour

// InvalidError reports what is wrong with a document. Nothing of it quotes a
// secret.
type InvalidError struct{ Fields []FieldProblem }

// FieldProblem is what is wrong with one key of a document.
type FieldProblem struct {
	Field   string // such as retry.schedule[0]; "" for the whole
	Message string
}

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		if lines[i] = f.Message; f.Field != "" {
			lines[i] = fmt.Sprintf("%s: %s", f.Field, f.Message)
		}
	}
	return strings.Join(lines, "\n")
}
