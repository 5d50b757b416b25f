package dashboard

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Drawn reports whether any attempt's timings are.
func (b *deliveryBody) Drawn() bool {
	return slices.ContainsFunc(b.Steps, func(s step) bool { return len(s.Segments) > 0 })
}

// deliveryBody is what the page of a delivery shows. What was sent and answered
// is for operators.
type deliveryBody struct {
	*ledger.Detail
	Steps    []step
	URL      string // of its endpoint now; "" where that is gone
	Curl     string
	Verify   *verifying
	Request  *sent
	Payload  string
	Retry    bool   // it can be retried
	NoRetry  string // why not
	Kept     bool   // the payload was
	EventURL string
}

// sent is a request as the page shows it.
type sent struct {
	Method  string
	Headers [][2]string
	Body    string
}

// step is a line of the delivery's way: the commit, a wait or an attempt.
type step struct {
	Kind     string // commit, wait, attempt or due
	Name     string
	At       time.Time
	After    time.Duration // since the commit
	Took     time.Duration
	Outcome  string // of an attempt
	Status   int
	Error    string
	Response string
	Segments []segment
	Spoken   string
}

func (d *Dashboard) showDelivery(q *request) (*answer, error) {
	id, err := uuid.Parse(q.PathValue("id"))
	if err != nil {
		return nil, errUnknown
	}
	detail, err := d.Control.Show(q.Context(), q.who, id)
	if err != nil {
		return nil, err
	}
	b := &deliveryBody{Detail: detail, Steps: stepsOf(detail, q.operator()), Kept: detail.Payload != nil}
	endpoint, err := d.Control.Endpoint(q.Context(), q.who, detail.EndpointID.String())
	if err == nil {
		b.URL, b.Verify = endpoint.URL, verifyingOf(endpoint.Effective, endpoint.HasSecret, endpoint.PublicKey)
	}
	b.Retry, b.NoRetry = retryable(detail, endpoint)
	if q.operator() {
		b.contents(detail)
	}
	a := &answer{page: "delivery", title: "Delivery " + short(detail.ID), section: "deliveries", body: b}
	if q.partial() {
		a.part = "way"
		a.again = detail.State.Final() // the whole page says so then
	}
	return a, nil
}

// contents shows what was sent.
func (b *deliveryBody) contents(detail *ledger.Detail) {
	b.Payload = prettyOf(detail.Payload, detail.PayloadBytes)
	r := detail.Request
	if r == nil {
		return
	}
	body, size := r.Body, detail.BodyBytes
	if body == nil {
		body, size = detail.Payload, detail.PayloadBytes
	}
	b.Request = &sent{Method: r.Method, Headers: r.Headers, Body: prettyOf(body, size)}
	if b.URL != "" {
		b.Curl = curlOf(r, b.URL, body, size)
	}
}

// retryable reports whether a retry can be asked for, or why not.
func retryable(detail *ledger.Detail, endpoint *admin.EndpointDetail) (can bool, why string) {
	switch {
	case endpoint == nil || endpoint.State == ledger.Removed:
		return false, "Its endpoint is gone."
	case detail.State == ledger.Sending:
		return false, "It is being sent."
	case endpoint.State == ledger.Disabled:
		return false, "Its endpoint is disabled."
	}
	return true, ""
}

// stepsOf returns the delivery's way, from the host's commit on.
func stepsOf(detail *ledger.Detail, contents bool) []step {
	committed := detail.CreatedAt
	steps := []step{{Kind: "commit", Name: "Committed by the application", At: committed}}
	last := committed
	wait := func(until time.Time, name string) {
		if w := until.Sub(last); w >= time.Millisecond {
			steps = append(steps, step{Kind: "wait", Name: name, Took: w})
		}
	}
	for i, t := range detail.Tries {
		name := "on its way"
		if i > 0 {
			name = "wait for the retry"
		}
		wait(t.StartedAt, name)
		s := step{
			Kind: "attempt", At: t.StartedAt, After: max(0, t.StartedAt.Sub(committed)), Took: t.Total,
			Outcome: t.Outcome, Status: t.Status, Error: t.Error, Segments: segments(t.DNS, t.Connect, t.TLS, t.FirstByte, t.Total),
			Name: "Attempt " + number(int64(t.Number)),
		}
		s.Spoken = spoken(s.Segments)
		if contents {
			s.Response = excerpt(t.Response)
		}
		steps = append(steps, s)
		last = t.StartedAt.Add(t.Total)
	}
	switch {
	case detail.FinishedAt != nil && len(detail.Tries) == 0 && detail.State == ledger.Delivered:
		took := max(0, detail.FinishedAt.Sub(committed))
		steps = append(steps, step{Kind: "attempt", Name: "Delivered at the first attempt", At: *detail.FinishedAt, After: took, Outcome: "delivered", Status: detail.Status})
	case detail.FinishedAt != nil && len(detail.Tries) == 0:
		steps = append(steps, step{Kind: "end", Name: string(detail.State), At: *detail.FinishedAt, After: max(0, detail.FinishedAt.Sub(committed)), Error: detail.Error})
	case detail.DueAt != nil:
		steps = append(steps, step{Kind: "due", Name: "Next attempt is due", At: *detail.DueAt, After: max(0, detail.DueAt.Sub(committed))})
	}
	return steps
}

func (d *Dashboard) retryDelivery(q *request) (*answer, error) {
	id, err := uuid.Parse(q.PathValue("id"))
	if err != nil {
		return nil, errUnknown
	}
	if _, err := d.Control.Retry(q.Context(), q.who, id); err != nil {
		return nil, err
	}
	return &answer{redirect: "/deliveries/" + id.String() + "?done=retried"}, nil
}

// signatureOf is a signature in effect, as the endpoint's keys say it.
type signatureOf struct {
	Scheme    string `json:"scheme"`
	Header    string `json:"header"`
	Algorithm string `json:"algorithm"`
	Encoding  string `json:"encoding"`
	Content   string `json:"content"`
	Value     string `json:"value"`
	Prefix    string `json:"prefix"`
}

// signaturesOf returns those in effect; the default is standard-webhooks where
// there is a secret.
func signaturesOf(effective json.RawMessage, hasSecret bool) []signatureOf {
	var in struct {
		Signatures *[]signatureOf `json:"signatures"`
	}
	if json.Unmarshal(effective, &in) != nil {
		return nil
	}
	if in.Signatures != nil {
		return *in.Signatures
	}
	if hasSecret {
		return []signatureOf{{Scheme: "standard-webhooks"}}
	}
	return nil
}
