package admin

import (
	"context"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Control is what API and dashboard ask the relay, and tell it, for somebody:
// who that is stands in the ledger's audit, and a caller with a tenant sees and
// changes what is that tenant's only. Errors are those of the ledger. What is
// returned holds no secret and no URL's credentials, unless it says so.
type Control interface {
	EndpointControl
	DefinitionControl
	DeliveryControl
	AuditControl
	ReplayControl
	StatsControl
	Catalogue() []EventType
	// Once calls do for the first request with a key, and answers those that
	// follow within a day with what it returned. The same key with another request
	// is ledger.ErrOtherRequest. What was refused may be tried again, what failed
	// otherwise ten minutes later.
	Once(ctx context.Context, who *Caller, r OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error)
}

// OnceRequest is a request with an Idempotency-Key.
type OnceRequest struct {
	Operation, Key string
	Request        []byte // all that the answer depends on
}

// EndpointControl is Control's part for endpoints, which are given by name or id.
type EndpointControl interface {
	Endpoints(ctx context.Context, who *Caller, removed bool) ([]ledger.EndpointStatus, error)
	// EndpointNames returns the endpoints by name, without asking how they do.
	EndpointNames(ctx context.Context, who *Caller) ([]ledger.Endpoint, error)
	Pause(ctx context.Context, who *Caller, endpoint, reason string) (*ledger.Turned, error)
	Resume(ctx context.Context, who *Caller, endpoint, reason string) (*ledger.Turned, error)
	// Test sends a test to an endpoint. An empty type, or a nil payload, is
	// chosen. An error but ledger.ErrUnknownEndpoint says why nothing was sent.
	Test(ctx context.Context, who *Caller, endpoint, eventType string, payload []byte) (*TestResult, error)
}

// DeliveryControl is Control's part for deliveries.
type DeliveryControl interface {
	List(ctx context.Context, who *Caller, f ledger.Filter) ([]ledger.Delivery, error)
	Show(ctx context.Context, who *Caller, id uuid.UUID) (*ledger.Detail, error)
	Retry(ctx context.Context, who *Caller, id uuid.UUID) (again bool, err error)
}

// AuditControl is Control's part for the audit.
type AuditControl interface {
	// Audit returns the entries that match f, the newest first. A tenant is not
	// told who of the host's people did something, nor from where.
	Audit(ctx context.Context, who *Caller, f ledger.AuditFilter) ([]ledger.AuditEntry, error)
}

// ReplayControl is Control's part for making many deliveries again, which the
// active relay does over time.
type ReplayControl interface {
	PreviewReplay(ctx context.Context, who *Caller, r ledger.ReplayRequest) (*ledger.ReplayPreview, error)
	StartReplay(ctx context.Context, who *Caller, r ledger.ReplayRequest) (*ledger.Replay, error)
	// Replays returns the newest first, those after before.
	Replays(ctx context.Context, who *Caller, limit int, before ledger.Cursor) ([]ledger.Replay, error)
	// Replay returns ledger.ErrUnknownReplay for one that there is not.
	Replay(ctx context.Context, who *Caller, id uuid.UUID) (*ledger.Replay, error)
	// CancelReplay leaves one that is over as it is.
	CancelReplay(ctx context.Context, who *Caller, id uuid.UUID) (*ledger.Replay, error)
}

// StatsControl is Control's part for figures over time.
type StatsControl interface {
	Stats(ctx context.Context, who *Caller, q ledger.StatsQuery) (*Stats, error)
}
