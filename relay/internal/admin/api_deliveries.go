package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Delivery is a delivery as lists show it.
type Delivery struct {
	ID         uuid.UUID  `json:"id" format:"uuid"`
	State      string     `json:"state" enum:"pending,sending,delivered,failed,skipped"`
	Endpoint   string     `json:"endpoint" doc:"Its name."`
	EndpointID uuid.UUID  `json:"endpoint_id" format:"uuid"`
	Event      uuid.UUID  `json:"event_id" format:"uuid"`
	Type       string     `json:"type" doc:"The event's."`
	Tenant     string     `json:"tenant,omitempty" doc:"The event's."`
	Key        string     `json:"key,omitempty" doc:"The event's."`
	CreatedAt  time.Time  `json:"created_at" doc:"When the event was committed."`
	Attempts   int        `json:"attempts" doc:"Made so far."`
	Status     int        `json:"status,omitempty" doc:"HTTP status of the last one; absent without an answer."`
	Error      string     `json:"error,omitempty" doc:"Of the last one; where the event was skipped, by what and why."`
	Reason     string     `json:"reason,omitempty" doc:"Why it is pending."`
	DueAt      *time.Time `json:"due_at,omitempty" doc:"When it may be sent; absent when final, and while an earlier event of its key is pending."`
	FinishedAt *time.Time `json:"finished_at,omitempty" doc:"When it became final."`
}

func deliveryOf(d *ledger.Delivery) Delivery {
	return Delivery{
		ID: d.ID, State: string(d.State), Endpoint: d.Endpoint, EndpointID: d.EndpointID, Event: d.Event, Type: d.Type, Tenant: d.Tenant, Key: d.Key,
		CreatedAt: d.CreatedAt, Attempts: d.Attempts, Status: d.Status, Error: d.Error, Reason: d.Reason, DueAt: d.DueAt, FinishedAt: d.FinishedAt,
	}
}

// deliveryDetail is all that there is of a delivery. What was sent, and
// answered, is for operators.
type deliveryDetail struct {
	Delivery
	Tries   []try            `json:"tries" nullable:"false" doc:"The recorded attempts: failed ones, and all of a delivery that needed more than one."`
	Request *deliveryRequest `json:"request,omitempty" doc:"Without what is made at each attempt. Absent where it was not rendered or not kept, and for viewers."`
	Payload string           `json:"payload,omitempty" doc:"The event's, its first 64 KiB. Absent where it was not kept, and for viewers."`
}

type deliveryRequest struct {
	Method  string      `json:"method"`
	Headers [][2]string `json:"headers" doc:"Names and values, credentials as ***."`
	Body    string      `json:"body" doc:"Its first 64 KiB."`
}

type try struct {
	Number      int       `json:"number" doc:"From 1."`
	StartedAt   time.Time `json:"started_at"`
	Outcome     string    `json:"outcome" enum:"delivered,rejected,failed" doc:"rejected: an answer other than 2xx; failed: no answer, or nothing was sent."`
	Status      int       `json:"status,omitempty"`
	Error       string    `json:"error,omitempty"`
	DNSus       int64     `json:"dns_us" doc:"Microseconds; 0 for what did not happen."`
	ConnectUS   int64     `json:"connect_us"`
	TLSus       int64     `json:"tls_us"`
	FirstByteUS int64     `json:"first_byte_us"`
	TotalUS     int64     `json:"total_us"`
	Response    string    `json:"response,omitempty" doc:"The first bytes of the answer's body. Absent for viewers."`
}

type deliveriesInput struct {
	PageInput
	State    []string `query:"state,explode" enum:"pending,sending,delivered,failed,skipped" maxItems:"5" doc:"Only in this state; repeated, in one of these."`
	Endpoint string   `query:"endpoint" maxLength:"256" doc:"Only to this endpoint, by name or id."`
	Tenant   string   `query:"tenant" maxLength:"256" doc:"Only of this tenant."`
	Type     string   `query:"type" maxLength:"256" doc:"Only of this event type."`
	Event    string   `query:"event" format:"uuid" doc:"Only of this event."`
	Since    string   `query:"since" maxLength:"40" doc:"Only of events committed within this duration, such as 1h30m."`
	From     string   `query:"from" format:"date-time" maxLength:"40" doc:"Only of events committed at this time or later."`
	Until    string   `query:"until" format:"date-time" maxLength:"40" doc:"Only of events committed before this time."`
}

type deliveryPage struct {
	Deliveries []Delivery `json:"deliveries" nullable:"false"`
	Next       string     `json:"next,omitempty" doc:"The next page's cursor; absent on the last page."`
}

type deliveriesOutput struct{ Body deliveryPage }

type deliveryPath struct {
	ID string `path:"id" format:"uuid" doc:"The delivery's id."`
}

type deliveryOutput struct{ Body deliveryDetail }

type retried struct {
	ID    uuid.UUID `json:"id" format:"uuid"`
	Again bool      `json:"rendered_again" doc:"Whether the event is transformed and rendered again, because the ledger has no request of the delivery."`
}

type retryOutput struct{ Body retried }

func (a *API) deliveryOperations() {
	register(a, operation{
		id: "list-deliveries", method: http.MethodGet, path: "/deliveries", role: Viewer, portal: true,
		summary: "List deliveries", doc: "Deliveries that are pending and that are final, the newest event's first.",
	}, a.listDeliveries)
	register(a, operation{
		id: "show-delivery", method: http.MethodGet, path: "/deliveries/{id}", role: Viewer, portal: true,
		summary: "Show a delivery", doc: "A delivery with its attempts. What was sent and answered is shown to operators only.",
		errors: []int{http.StatusNotFound},
	}, a.showDelivery)
	register(a, operation{
		id: "retry-delivery", method: http.MethodPost, path: "/deliveries/{id}/retry", role: Operator, portal: true,
		summary: "Retry a delivery", doc: "Makes one more attempt, of a delivery that is final or of one that is pending, now: with the same id and, where the ledger has it, the same request.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.retryDelivery)
}

// maxSince bounds how far back a list can be asked to look.
const maxSince = 100 * 365 * 24 * time.Hour

// filter returns what the query asks for, or the problem of a field.
func (in *deliveriesInput) filter() (f ledger.Filter, err error) {
	f = ledger.Filter{Endpoint: in.Endpoint, Tenant: in.Tenant, Type: in.Type, Limit: in.Limit + 1} // one more: whether there is a next page
	for _, s := range in.State {
		f.States = append(f.States, ledger.State(s))
	}
	for field, text := range map[string]string{"query.endpoint": in.Endpoint, "query.tenant": in.Tenant, "query.type": in.Type} {
		if err := checkText(field, text); err != nil {
			return f, err
		}
	}
	if in.Event != "" {
		if f.Event, err = checkID("query.event", in.Event); err != nil {
			return f, err
		}
	}
	if in.Since != "" {
		if f.Since, err = time.ParseDuration(in.Since); err != nil || f.Since <= 0 || f.Since > maxSince {
			return f, invalid("query.since", "is a positive duration such as 1h30m")
		}
	}
	if f.From, err = parseTime("query.from", in.From); err != nil {
		return f, err
	}
	if f.Until, err = parseTime("query.until", in.Until); err != nil {
		return f, err
	}
	f.After, err = readPlaceCursor(deliveryList, in.Cursor)
	return f, err
}

func (a *API) listDeliveries(ctx context.Context, who *Caller, in *deliveriesInput) (*deliveriesOutput, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	list, err := a.Control.List(ctx, who, f)
	if err != nil {
		return nil, err
	}
	out := &deliveriesOutput{deliveryPage{Deliveries: []Delivery{}}}
	if len(list) > in.Limit {
		list = list[:in.Limit]
		last := &list[in.Limit-1]
		out.Body.Next = writePlaceCursor(deliveryList, ledger.Cursor{CreatedAt: last.CreatedAt, ID: last.ID})
	}
	for i := range list {
		out.Body.Deliveries = append(out.Body.Deliveries, deliveryOf(&list[i]))
	}
	return out, nil
}

func (a *API) showDelivery(ctx context.Context, who *Caller, in *deliveryPath) (*deliveryOutput, error) {
	id, err := checkID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	d, err := a.Control.Show(ctx, who, id)
	if err != nil {
		return nil, err
	}
	contents := who.Role >= Operator
	out := &deliveryOutput{deliveryDetail{Delivery: deliveryOf(&d.Delivery), Tries: []try{}}}
	for _, t := range d.Tries {
		shown := try{
			Number: t.Number, StartedAt: t.StartedAt, Outcome: t.Outcome, Status: t.Status, Error: t.Error,
			DNSus: t.DNS.Microseconds(), ConnectUS: t.Connect.Microseconds(), TLSus: t.TLS.Microseconds(),
			FirstByteUS: t.FirstByte.Microseconds(), TotalUS: t.Total.Microseconds(),
		}
		if contents {
			shown.Response = excerpt(t.Response)
		}
		out.Body.Tries = append(out.Body.Tries, shown)
	}
	if !contents {
		return out, nil
	}
	out.Body.Payload = excerptOf(d.Payload, d.PayloadBytes)
	if r := d.Request; r != nil {
		body, size := r.Body, d.BodyBytes
		if body == nil {
			body, size = d.Payload, d.PayloadBytes
		}
		out.Body.Request = &deliveryRequest{Method: r.Method, Headers: append([][2]string{}, r.Headers...), Body: excerptOf(body, size)}
	}
	return out, nil
}

func (a *API) retryDelivery(ctx context.Context, who *Caller, in *deliveryPath) (*retryOutput, error) {
	id, err := checkID("path.id", in.ID)
	if err != nil {
		return nil, err
	}
	again, err := a.Control.Retry(ctx, who, id)
	if err != nil {
		return nil, err
	}
	return &retryOutput{retried{ID: id, Again: again}}, nil
}
