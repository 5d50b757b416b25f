package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// ReplayBody says which deliveries are made again. Exported, as huma wants of what
// is embedded.
type ReplayBody struct {
	States   []string `json:"states,omitempty" enum:"pending,delivered,failed,skipped" maxItems:"4" doc:"In one of these states; by default what is final: delivered, failed and skipped. What is pending becomes due now."`
	Endpoint string   `json:"endpoint,omitempty" maxLength:"256" doc:"To this endpoint, by name or id."`
	Tenant   string   `json:"tenant,omitempty" maxLength:"256" doc:"Of this tenant."`
	Type     string   `json:"type,omitempty" maxLength:"256" doc:"Of this event type."`
	Event    string   `json:"event,omitempty" format:"uuid" doc:"Of this event."`
	From     string   `json:"from,omitempty" format:"date-time" maxLength:"40" doc:"Of events committed at this time or later."`
	Until    string   `json:"until,omitempty" format:"date-time" maxLength:"40" doc:"Of events committed before this time; by default until the request."`
	NewIDs   bool     `json:"new_ids,omitempty" doc:"Make copies under new delivery ids, so that receivers that know the old ids take them for new, and leave the deliveries as they are. Only of what is final: copies are not copied again."`
	Rate     int      `json:"rate,omitempty" minimum:"1" maximum:"1000" doc:"At most so many deliveries a second; by default 100."`
}

type retryManyBody struct {
	ReplayBody
	Preview bool `json:"preview,omitempty" doc:"Count only."`
}

type (
	previewInput struct{ Body ReplayBody }
	startInput   struct {
		OnceInput
		Body ReplayBody
	}
	retryManyInput struct {
		OnceInput
		Body retryManyBody
	}
	replayPath struct {
		ID string `path:"id" format:"uuid" doc:"The replay's id."`
	}
	previewOutput   struct{ Body replayPreview }
	replayOutput    struct{ Body replay }
	replaysOutput   struct{ Body replayPage }
	retryManyOutput struct{ Body retriedMany }
)

type replayPreview struct {
	Total     int64           `json:"total" doc:"Deliveries, counted up to 100,000, and not to the end where that takes long."`
	More      bool            `json:"more" doc:"Whether there are more than were counted."`
	Endpoints []endpointCount `json:"endpoints" nullable:"false" doc:"The same by endpoint, the most first."`
}

type endpointCount struct {
	Endpoint string `json:"endpoint"`
	Count    int64  `json:"count"`
}

// replayRequest is what a replay was asked to do.
type replayRequest struct {
	ReplayBody
	EndpointID string `json:"endpoint_id,omitempty" format:"uuid" doc:"Whose name the endpoint's was when the replay began."`
}

// replay is a job that makes deliveries again.
type replay struct {
	ID         uuid.UUID     `json:"id" format:"uuid"`
	State      string        `json:"state" enum:"running,done,cancelled,failed"`
	Request    replayRequest `json:"request"`
	Total      int64         `json:"total" doc:"Deliveries that it was about when it began, counted up to 100,000."`
	TotalMore  bool          `json:"total_more" doc:"Whether there were more than were counted."`
	Done       int64         `json:"done" doc:"Deliveries that were made pending again, or due now."`
	Skipped    int64         `json:"skipped" doc:"Deliveries that could not be: their payload is gone, their endpoint is paused, disabled or removed, or they are being sent."`
	At         *time.Time    `json:"at,omitempty" doc:"How far it has come: the commit time of the event it came to last."`
	CreatedAt  time.Time     `json:"created_at"`
	CreatedBy  string        `json:"created_by"`
	FinishedAt *time.Time    `json:"finished_at,omitempty"`
	Error      string        `json:"error,omitempty" doc:"Why it does not go on, for now or for good."`
}

type replayPage struct {
	Replays []replay `json:"replays" nullable:"false"`
	Next    string   `json:"next,omitempty" doc:"The next page's cursor; absent on the last page."`
}

// retriedMany is what becomes of a retry by filter: one of the two.
type retriedMany struct {
	Preview *replayPreview `json:"preview,omitempty" doc:"What it would be about, if that was asked for."`
	Replay  *replay        `json:"replay,omitempty" doc:"The job that retries."`
}

func (a *API) replayOperations() {
	register(a, operation{
		id: "preview-replay", method: http.MethodPost, path: "/replays/preview", role: Operator, portal: true,
		summary: "Count what a replay would make again", doc: "Changes nothing.",
	}, func(ctx context.Context, who *Caller, in *previewInput) (*previewOutput, error) {
		p, err := a.preview(ctx, who, &in.Body, nil)
		if err != nil {
			return nil, err
		}
		return &previewOutput{*p}, nil
	})
	register(a, operation{
		id: "start-replay", method: http.MethodPost, path: "/replays", role: Operator, creates: true, portal: true,
		summary: "Make many deliveries again", doc: "The active relay makes them pending again at the rate, in the order of their commits, and goes on after an interruption where it was. Deliveries keep their ids, and what was kept of their requests, unless new ids are asked for.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, who *Caller, in *startInput) (*replayOutput, error) {
		return once(ctx, a, who, "start-replay", &in.OnceInput, in.Body, func(ctx context.Context) (*replayOutput, error) {
			r, err := a.start(ctx, who, &in.Body, nil)
			if err != nil {
				return nil, err
			}
			return &replayOutput{*r}, nil
		})
	})
	register(a, operation{
		id: "list-replays", method: http.MethodGet, path: "/replays", role: Viewer, portal: true,
		summary: "List replays", doc: "The newest first.",
	}, a.listReplays)
	register(a, operation{
		id: "show-replay", method: http.MethodGet, path: "/replays/{id}", role: Viewer, portal: true,
		summary: "Show a replay", doc: "How far it has come.", errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, who *Caller, in *replayPath) (*replayOutput, error) {
		return in.answer(ctx, who, a.Control.Replay)
	})
	register(a, operation{
		id: "cancel-replay", method: http.MethodPost, path: "/replays/{id}/cancel", role: Operator, portal: true,
		summary: "Cancel a replay", doc: "Ends it where it is: what it made pending is sent. One that is over stays as it is.", errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, who *Caller, in *replayPath) (*replayOutput, error) {
		return in.answer(ctx, who, a.Control.CancelReplay)
	})
	register(a, operation{
		id: "retry-deliveries", method: http.MethodPost, path: "/deliveries/retry", role: Operator, portal: true,
		summary: "Retry deliveries by filter", doc: "A replay of what failed for good, unless other states are named.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.retryDeliveries)
}

func (in *replayPath) answer(ctx context.Context, who *Caller, do func(context.Context, *Caller, uuid.UUID) (*ledger.Replay, error)) (*replayOutput, error) {
	id, err := checkID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	r, err := do(ctx, who, id)
	if err != nil {
		return nil, err
	}
	return &replayOutput{replayOf(r)}, nil
}

func (a *API) preview(ctx context.Context, who *Caller, b *ReplayBody, states []ledger.State) (*replayPreview, error) {
	r, err := b.request(states)
	if err != nil {
		return nil, err
	}
	p, err := a.Control.PreviewReplay(ctx, who, r)
	if err != nil {
		return nil, err
	}
	out := &replayPreview{Total: p.Total, More: p.More, Endpoints: []endpointCount{}}
	for _, e := range p.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointCount(e))
	}
	return out, nil
}

func (a *API) start(ctx context.Context, who *Caller, b *ReplayBody, states []ledger.State) (*replay, error) {
	r, err := b.request(states)
	if err != nil {
		return nil, err
	}
	started, err := a.Control.StartReplay(ctx, who, r)
	if err != nil {
		return nil, err
	}
	out := replayOf(started)
	return &out, nil
}

func (a *API) retryDeliveries(ctx context.Context, who *Caller, in *retryManyInput) (*retryManyOutput, error) {
	states := []ledger.State{ledger.Failed}
	if in.Body.Preview {
		p, err := a.preview(ctx, who, &in.Body.ReplayBody, states)
		if err != nil {
			return nil, err
		}
		return &retryManyOutput{retriedMany{Preview: p}}, nil
	}
	return once(ctx, a, who, "retry-deliveries", &in.OnceInput, in.Body, func(ctx context.Context) (*retryManyOutput, error) {
		r, err := a.start(ctx, who, &in.Body.ReplayBody, states)
		if err != nil {
			return nil, err
		}
		return &retryManyOutput{retriedMany{Replay: r}}, nil
	})
}

// request returns what the body asks for, or the problem of a field. Without
// states it is about the given ones, or about all that is final.
func (b *ReplayBody) request(states []ledger.State) (r ledger.ReplayRequest, err error) {
	r = ledger.ReplayRequest{States: states, Endpoint: b.Endpoint, Tenant: b.Tenant, Type: b.Type, NewIDs: b.NewIDs, Rate: b.Rate}
	if len(b.States) > 0 {
		r.States = nil
		for _, s := range b.States {
			r.States = append(r.States, ledger.State(s))
		}
	}
	if r.States == nil {
		r.States = []ledger.State{ledger.Delivered, ledger.Failed, ledger.Skipped}
	}
	for field, text := range map[string]string{"body.endpoint": b.Endpoint, "body.tenant": b.Tenant, "body.type": b.Type} {
		if err := checkText(field, text); err != nil {
			return r, err
		}
	}
	if b.Event != "" {
		if r.Event, err = checkID("body.event", b.Event); err != nil {
			return r, err
		}
	}
	if r.From, err = parseTime("body.from", b.From); err != nil {
		return r, err
	}
	if r.Until, err = parseTime("body.until", b.Until); err != nil {
		return r, err
	}
	if !r.Until.IsZero() && !r.From.Before(r.Until) {
		return r, invalid("body.until", "is after from")
	}
	if b.Endpoint == "" && b.Tenant == "" && b.Type == "" && b.Event == "" && b.From == "" {
		return r, invalid("body.from", "or endpoint, tenant, type or event is needed: it would be about all that there is")
	}
	return r, nil
}

func replayOf(r *ledger.Replay) replay {
	q := &r.Request
	shown := replayRequest{ReplayBody: ReplayBody{
		Endpoint: q.Endpoint, Tenant: q.Tenant, Type: q.Type, From: shownTime(q.From), Until: shownTime(q.Until), NewIDs: q.NewIDs, Rate: q.Rate,
	}}
	if q.EndpointID != uuid.Nil {
		shown.EndpointID = q.EndpointID.String()
	}
	for _, s := range q.States {
		shown.States = append(shown.States, string(s))
	}
	if q.Event != uuid.Nil {
		shown.Event = q.Event.String()
	}
	return replay{
		ID: r.ID, State: string(r.State), Request: shown, Total: r.Total, TotalMore: r.TotalMore, Done: r.Done, Skipped: r.Skipped, At: r.At,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy, FinishedAt: r.FinishedAt, Error: r.Error,
	}
}

func shownTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

func (a *API) listReplays(ctx context.Context, who *Caller, in *PageInput) (*replaysOutput, error) {
	before, err := readPlaceCursor(replayList, in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := a.Control.Replays(ctx, who, in.Limit+1, before)
	if err != nil {
		return nil, err
	}
	out := &replaysOutput{replayPage{Replays: []replay{}}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := &list[in.Limit-1]
		out.Body.Next = writePlaceCursor(replayList, ledger.Cursor{CreatedAt: last.CreatedAt, ID: last.ID})
	}
	for i := range list {
		out.Body.Replays = append(out.Body.Replays, replayOf(&list[i]))
	}
	return out, nil
}
