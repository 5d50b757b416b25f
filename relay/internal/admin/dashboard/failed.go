package dashboard

import (
	"slices"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// failedBody is what the page of failed and parked deliveries shows.
type failedBody struct {
	*deliveriesBody
	Parked  bool // it shows those that wait, else those that failed
	Waiting []ledger.EndpointStatus
}

// previewBody is what a bulk retry or replay would do.
type previewBody struct {
	*ledger.ReplayPreview
	Query  []pair // the form's fields, once more
	Path   string // where to confirm
	Replay bool   // it is no retry of failed ones
}

// pair is a hidden field.
type pair struct{ Name, Value string }

// maxWaiting bounds the endpoints that are listed with what waits for them.
const maxWaiting = 12

// failedFilter returns the filter of the page: failed ones, or those that wait.
func failedFilter(f filter) (filter, bool) {
	parked := slices.Equal(f.States, []string{string(ledger.Pending)})
	f.States = []string{string(ledger.Failed)}
	if parked {
		f.States = []string{string(ledger.Pending)}
	}
	return f, parked
}

func (d *Dashboard) failed(q *request) (*answer, error) {
	f, parked := failedFilter(filterOf(q.URL.Query()))
	list, err := d.deliveries(q, f, "/failed")
	if err != nil {
		return nil, err
	}
	b := &failedBody{deliveriesBody: list, Parked: parked}
	all, err := d.Control.Endpoints(q.Context(), q.who, false)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Pending > 0 {
			b.Waiting = append(b.Waiting, s)
		}
	}
	slices.SortStableFunc(b.Waiting, func(a, b ledger.EndpointStatus) int { return int(min(1, max(-1, b.Pending-a.Pending))) })
	b.Waiting = b.Waiting[:min(len(b.Waiting), maxWaiting)]
	a := &answer{page: "failed", title: "Failed and parked", section: "failed", body: b}
	if q.partial() {
		a.part = "found"
	}
	return a, nil
}

// retryOf returns the request of a bulk retry, and the fields that ask for it.
func retryOf(q *request) (r ledger.ReplayRequest, fields []pair, err error) {
	f, _ := failedFilter(filterOf(q.PostForm))
	wanted, ok := f.ledger(time.Now())
	if !ok {
		return r, nil, ledger.Refused("%s", f.Problem)
	}
	return requestOf(wanted), f.fields(), nil
}

// requestOf returns a replay of what a filter matches.
func requestOf(f ledger.Filter) ledger.ReplayRequest {
	return ledger.ReplayRequest{States: f.States, Endpoint: f.Endpoint, Tenant: f.Tenant, Type: f.Type, Event: f.Event, From: f.From, Until: f.Until}
}

// fields returns the filter as a form's.
func (f filter) fields() []pair {
	var list []pair
	for _, s := range f.States {
		list = append(list, pair{"state", s})
	}
	for _, p := range []pair{{"endpoint", f.Endpoint}, {"tenant", f.Tenant}, {"type", f.Type}, {"event", f.Event}, {"within", f.Within}, {"from", f.From}, {"until", f.Until}} {
		if p.Value != "" {
			list = append(list, p)
		}
	}
	return list
}

func (d *Dashboard) previewRetry(q *request) (*answer, error) {
	r, fields, err := retryOf(q)
	if err != nil {
		return nil, err
	}
	return d.preview(q, r, &previewBody{Query: fields, Path: "/failed/retry"})
}

func (d *Dashboard) preview(q *request, r ledger.ReplayRequest, b *previewBody) (*answer, error) {
	var err error
	if b.ReplayPreview, err = d.Control.PreviewReplay(q.Context(), q.who, r); err != nil {
		return nil, err
	}
	a := &answer{page: "preview", title: "Before it begins", section: "failed", body: b}
	if b.Replay {
		a.section = "replays"
	}
	if q.partial() {
		a.part = "preview"
	}
	return a, nil
}

func (d *Dashboard) retryMany(q *request) (*answer, error) {
	r, _, err := retryOf(q)
	if err != nil {
		return nil, err
	}
	return d.start(q, r)
}

func (d *Dashboard) start(q *request, r ledger.ReplayRequest) (*answer, error) {
	made, err := d.Control.StartReplay(q.Context(), q.who, r)
	if err != nil {
		return nil, err
	}
	return &answer{redirect: "/replays/" + made.ID.String()}, nil
}
