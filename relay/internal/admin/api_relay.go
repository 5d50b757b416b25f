package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// EventType is one entry of the catalogue.
type EventType struct {
	Type    string          `json:"type"`
	Group   string          `json:"group,omitempty" doc:"The heading to list it under."`
	Title   string          `json:"title,omitempty" doc:"What people call it."`
	Example json.RawMessage `json:"example,omitempty" doc:"A sample payload."`
	Schema  json.RawMessage `json:"schema,omitempty" doc:"JSON Schema of its payloads."`
}

type eventPage struct {
	Events []EventType `json:"events" nullable:"false"`
	Next   string      `json:"next,omitempty" doc:"The next page's cursor; absent on the last page."`
}

type eventsOutput struct{ Body eventPage }

// streamStatus is how the stream stands. What only the relay that holds the
// slot knows is absent on others.
type streamStatus struct {
	Role string `json:"role" enum:"active,standby,connecting" doc:"Of the relay that answers: active holds the slot and delivers."`
	// Slot is nil when it was not read lately.
	Slot   *slotStatus   `json:"slot,omitempty" doc:"The replication slot; absent when it could not be read lately."`
	Active *activeStatus `json:"active,omitempty" doc:"What the active relay knows; absent on others."`
}

type slotStatus struct {
	LagBytes      int64 `json:"lag_bytes" doc:"WAL that the relay has not confirmed yet."`
	RetainedBytes int64 `json:"retained_bytes" doc:"WAL that Postgres keeps for the slot."`
}

type activeStatus struct {
	Flushed          string     `json:"flushed" doc:"The position (LSN) up to which everything is recorded and confirmed."`
	OldestUnsettled  *time.Time `json:"oldest_unsettled,omitempty" doc:"Commit time of the oldest event whose outcome or parking is not recorded; absent when there is none."`
	BufferBytes      int64      `json:"buffer_bytes" doc:"Read and not yet settled."`
	LedgerBacklog    int        `json:"ledger_backlog" doc:"Outcomes that are not written yet."`
	LedgerUnwritable bool       `json:"ledger_unwritable" doc:"Whether the ledger refuses or does not answer: nothing is acknowledged, and soon nothing is sent."`
}

type streamOutput struct{ Body streamStatus }

func (a *API) relayOperations() {
	register(a, operation{
		id: "list-events", method: http.MethodGet, path: "/events", role: Viewer, portal: true,
		summary: "List event types", doc: "The catalogue of the configuration, by type.",
	}, func(_ context.Context, _ *Caller, in *PageInput) (*eventsOutput, error) {
		part, next, err := page(in, eventList, a.Control.Catalogue(), func(e *EventType) string { return e.Type })
		if err != nil {
			return nil, err
		}
		return &eventsOutput{eventPage{Events: part, Next: next}}, nil
	})
	register(a, operation{
		id: "show-stream", method: http.MethodGet, path: "/stream", role: Viewer,
		summary: "Show how the stream stands", doc: "How far the stream was read and recorded, as the relay that answers knows it.",
	}, func(context.Context, *Caller, *struct{}) (*streamOutput, error) {
		return &streamOutput{streamOf(a.Snapshot())}, nil
	})
}

func streamOf(s Snapshot) streamStatus {
	out := streamStatus{Role: s.Role}
	if s.SlotKnown {
		out.Slot = &slotStatus{LagBytes: s.SlotLag, RetainedBytes: s.SlotRetained}
	}
	if s.Flushed == "" { // not this relay's turn
		return out
	}
	out.Active = &activeStatus{Flushed: s.Flushed, BufferBytes: s.Buffered, LedgerBacklog: s.LedgerBacklog, LedgerUnwritable: s.LedgerDown}
	if !s.OldestUnsettled.IsZero() {
		out.Active.OldestUnsettled = &s.OldestUnsettled
	}
	return out
}
