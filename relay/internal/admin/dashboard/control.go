package dashboard

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// control is what the pages ask the relay, and tell it; admin.Control has it
// all. A caller with a tenant sees and changes what is that tenant's only:
// control holds that, the pages only leave out what would be refused.
type control interface {
	Endpoints(ctx context.Context, who *admin.Caller, removed bool) ([]ledger.EndpointStatus, error)
	Endpoint(ctx context.Context, who *admin.Caller, name string) (*EndpointDetail, error)
	CreateEndpoint(ctx context.Context, who *admin.Caller, document json.RawMessage) (*NewSecret, error)
	EditEndpoint(ctx context.Context, who *admin.Caller, name string, patch json.RawMessage, revision int64) (*EndpointDetail, error)
	DeleteEndpoint(ctx context.Context, who *admin.Caller, name string) error
	CheckEndpoint(ctx context.Context, who *admin.Caller, name string, document json.RawMessage) error
	RotateSecret(ctx context.Context, who *admin.Caller, name string, r Rotation) (*NewSecret, error)
	Pause(ctx context.Context, who *admin.Caller, endpoint, reason string) (*ledger.Turned, error)
	Resume(ctx context.Context, who *admin.Caller, endpoint, reason string) (*ledger.Turned, error)
	Test(ctx context.Context, who *admin.Caller, endpoint, eventType string, payload []byte) (*admin.TestResult, error)

	List(ctx context.Context, who *admin.Caller, f ledger.Filter) ([]ledger.Delivery, error)
	Show(ctx context.Context, who *admin.Caller, id uuid.UUID) (*ledger.Detail, error)
	Retry(ctx context.Context, who *admin.Caller, id uuid.UUID) (again bool, err error)

	PreviewReplay(ctx context.Context, who *admin.Caller, r ReplayRequest) (*ReplayPreview, error)
	StartReplay(ctx context.Context, who *admin.Caller, r ReplayRequest) (*Replay, error)
	Replays(ctx context.Context, who *admin.Caller, limit int, before ledger.Cursor) ([]Replay, error)
	Replay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error)
	CancelReplay(ctx context.Context, who *admin.Caller, id uuid.UUID) (*Replay, error)

	Stats(ctx context.Context, who *admin.Caller, q StatsQuery) (*Stats, error)
	Audit(ctx context.Context, who *admin.Caller, f AuditFilter) ([]AuditEntry, error)
	Catalogue() []admin.EventType
}

// Provisional: these give way to admin's and ledger's own.
type (
	PageFunc       func(w http.ResponseWriter, r *http.Request, who *admin.Caller, csrf string)
	EndpointDetail struct {
		ledger.EndpointStatus
		Origin              string
		Revision            int64
		Document, Effective json.RawMessage
		CreatedAt           *time.Time
		UpdatedAt           *time.Time
		CreatedBy           string
		HasSecret           bool
		PreviousSecrets     []time.Time
		Patterns            []string
	}
	NewSecret struct {
		EndpointDetail
		Secret string
	}
	Rotation struct {
		Grace  time.Duration
		Secret string
	}
	FieldProblem struct{ Field, Message string }
	InvalidError struct{ Fields []FieldProblem }

	ReplayRequest struct {
		States                 []ledger.State
		Endpoint, Tenant, Type string
		Event                  uuid.UUID
		From, Until            time.Time
		NewIDs                 bool
		Rate                   int
		Scope                  string
	}
	ReplayPreview struct {
		Total      int64
		Capped     bool
		ByEndpoint []ReplayCount
	}
	ReplayCount struct {
		Endpoint string
		Rows     int64
	}
	Replay struct {
		ID                   uuid.UUID
		Request              ReplayRequest
		State                string
		Total, Done, Skipped int64
		CreatedAt            time.Time
		CreatedBy            string
		FinishedAt           *time.Time
		Error                string
	}

	StatsQuery struct {
		From, Until time.Time
		Step        time.Duration
		Endpoint    string
	}
	Stats struct {
		Now    StatsNow
		Series []StatsPoint
	}
	StatsNow struct {
		EventsPerSecond, DeliveriesPerSecond, SuccessShare float64
		P50, P95, P99                                      time.Duration
		Pending                                            int64
		OldestPending                                      *time.Time
		SlotLag, Retained                                  int64
	}
	StatsPoint struct {
		At                                                  time.Time
		Events, Delivered, Failed, Attempts, FailedAttempts int64
		P50, P95, P99                                       time.Duration
	}

	AuditFilter struct {
		Actor, Action, Subject string
		From, Until            time.Time
		Before                 int64
		Limit                  int
	}
	AuditEntry struct {
		ID                      int64
		At                      time.Time
		Actor, Source           string
		Action, Subject, Tenant string
		Detail, Before, After   json.RawMessage
	}
)

func (e *InvalidError) Error() string { return "invalid" }
