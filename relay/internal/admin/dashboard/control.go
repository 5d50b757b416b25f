package dashboard

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// control is what the pages ask the relay, and tell it; admin.Control has it
// all. A caller with a tenant sees and changes what is that tenant's only:
// control holds that, the pages only leave out what would be refused.
type control interface {
	Endpoints(ctx context.Context, who *admin.Caller, removed bool) ([]ledger.EndpointStatus, error)
	EndpointNames(ctx context.Context, who *admin.Caller) ([]ledger.Endpoint, error)
	Endpoint(ctx context.Context, who *admin.Caller, name string) (*admin.EndpointDetail, error)
	CreateEndpoint(ctx context.Context, who *admin.Caller, document json.RawMessage) (*admin.NewSecret, error)
	EditEndpoint(ctx context.Context, who *admin.Caller, name string, patch json.RawMessage, revision int64) (*admin.EndpointDetail, error)
	DeleteEndpoint(ctx context.Context, who *admin.Caller, name string) error
	CheckEndpoint(ctx context.Context, who *admin.Caller, name string, document json.RawMessage) error
	RotateSecret(ctx context.Context, who *admin.Caller, name string, r admin.Rotation) (*admin.NewSecret, error)
	Pause(ctx context.Context, who *admin.Caller, endpoint, reason string) (*ledger.Turned, error)
	Resume(ctx context.Context, who *admin.Caller, endpoint, reason string) (*ledger.Turned, error)
	Test(ctx context.Context, who *admin.Caller, endpoint, eventType string, payload []byte) (*admin.TestResult, error)

	List(ctx context.Context, who *admin.Caller, f ledger.Filter) ([]ledger.Delivery, error)
	Show(ctx context.Context, who *admin.Caller, id uuid.UUID) (*ledger.Detail, error)
	Retry(ctx context.Context, who *admin.Caller, id uuid.UUID) (again bool, err error)

	PreviewReplay(ctx context.Context, who *admin.Caller, r ledger.ReplayRequest) (*ledger.ReplayPreview, error)
	StartReplay(ctx context.Context, who *admin.Caller, r ledger.ReplayRequest) (*ledger.Replay, error)
	Replays(ctx context.Context, who *admin.Caller, limit int, before ledger.Cursor) ([]ledger.Replay, error)
	Replay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*ledger.Replay, error)
	CancelReplay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*ledger.Replay, error)

	Stats(ctx context.Context, who *admin.Caller, q ledger.StatsQuery) (*admin.Stats, error)
	Audit(ctx context.Context, who *admin.Caller, f ledger.AuditFilter) ([]ledger.AuditEntry, error)
	Catalogue() []admin.EventType
	Once(ctx context.Context, who *admin.Caller, r admin.OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error)
}
