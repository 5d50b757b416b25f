package dashboard

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// These give way to those of ledger and admin.
type (
	Filter struct {
		States      []ledger.State
		Endpoint    string
		Tenant      string
		Type        string
		Event       uuid.UUID
		From, Until time.Time
		Limit       int
		After       ledger.Cursor
	}
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
		Total     int64
		More      bool
		Endpoints []EndpointCount
	}
	EndpointCount struct {
		Endpoint string
		Count    int64
	}
	ReplayState string
	Replay      struct {
		ID         uuid.UUID
		Request    ReplayRequest
		State      ReplayState
		Total      int64
		TotalMore  bool
		Done       int64
		Skipped    int64
		At         *time.Time
		CreatedAt  time.Time
		CreatedBy  string
		FinishedAt *time.Time
		Error      string
	}

	StatsQuery struct {
		From, Until time.Time
		Step        time.Duration
		Endpoint    string
	}
	Stats struct {
		Now    StatsNow
		Series []Point
	}
	StatsNow struct {
		EventsPerSecond     float64
		DeliveriesPerSecond float64
		SuccessShare        float64
		P50, P95, P99       time.Duration
		Pending             int64
		PendingMore         bool
		OldestPending       *time.Time
		SlotKnown           bool
		SlotLag             int64
		SlotRetained        int64
		OldestUnsettled     *time.Time
	}
	Point struct {
		At                        time.Time
		Events, Delivered, Failed int64
		Attempts, FailedAttempts  int64
		P50, P95, P99             time.Duration
	}
)

var errUnknownReplay = errors.New("no such replay")
