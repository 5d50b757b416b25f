package dashboard

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// replayRow is a replay as pages show it.
type replayRow struct{ *ledger.Replay }

// All returns how many deliveries it is about: what was counted when it began,
// or more that it has found since.
func (r replayRow) All() int64 { return max(r.Total, r.Done+r.Skipped) }

// Share returns how much of it is done, from 0 to 100.
func (r replayRow) Share() int64 {
	switch {
	case r.State == "done":
		return 100
	case r.Total <= 0:
		return 0
	}
	return min(99, (r.Done+r.Skipped)*100/r.Total)
}

// Running reports whether it goes on.
func (r replayRow) Running() bool { return r.State == "running" }

// Scope says in words what is replayed.
func (r replayRow) Scope() string {
	var parts []string
	for _, s := range r.Request.States {
		parts = append(parts, string(s))
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "all"
	}
	text += " deliveries"
	for _, p := range []pair{{"to", r.Request.Endpoint}, {"of tenant", r.Request.Tenant}, {"of type", r.Request.Type}} {
		if p.Value != "" {
			text += " " + p.Name + " " + p.Value
		}
	}
	if r.Request.Event != uuid.Nil {
		text += " of event " + short(r.Request.Event)
	}
	if !r.Request.From.IsZero() {
		text += " from " + moment(r.Request.From)
	}
	if !r.Request.Until.IsZero() {
		text += " until " + moment(r.Request.Until)
	}
	if r.Request.NewIDs {
		text += ", under new ids"
	}
	return text
}

// replaysBody is what the list of replays shows.
type replaysBody struct {
	Rows []replayRow
	Next string
}

func (d *Dashboard) listReplays(q *request) (*answer, error) {
	list, err := d.Control.Replays(q.Context(), q.who, pageSize+1, readCursor(q.URL.Query().Get("after")))
	if err != nil {
		return nil, err
	}
	b := &replaysBody{}
	if len(list) > pageSize {
		list = list[:pageSize]
		last := &list[pageSize-1]
		b.Next = Base + "/replays?after=" + writeCursor(&ledger.Delivery{CreatedAt: last.CreatedAt, ID: last.ID})
	}
	for i := range list {
		b.Rows = append(b.Rows, replayRow{&list[i]})
	}
	return &answer{page: "replays", title: "Replays", section: "replays", body: b}, nil
}

// replayForm is the form that starts a replay.
type replayForm struct {
	Filter  filter
	States  []ledger.State
	Withins []within
	Rate    string
	NewIDs  bool
	Types   []string
}

var finalStates = []ledger.State{ledger.Delivered, ledger.Failed, ledger.Skipped}

func (d *Dashboard) newReplay(q *request) (*answer, error) {
	f := filterOf(q.URL.Query())
	if len(f.States) == 0 {
		for _, s := range finalStates {
			f.States = append(f.States, string(s))
		}
	}
	b := &replayForm{Filter: f, States: finalStates, Withins: withins, Rate: "100"}
	for _, t := range d.Control.Catalogue() {
		b.Types = append(b.Types, t.Type)
	}
	return &answer{page: "replay_new", title: "New replay", section: "replays", body: b}, nil
}

// maxRate is the most deliveries a second that a replay may be made at, as by
// the API.
const maxRate = 1000

// replayOf returns the replay that a form asks for, and the fields that do. It
// takes what the API takes.
func replayOf(form url.Values) (r ledger.ReplayRequest, fields []pair, err error) {
	f := filterOf(form)
	wanted, ok := f.ledger(time.Now())
	if !ok {
		return r, nil, ledger.Refused("%s", f.Problem)
	}
	switch {
	case len(f.States) == 0:
		return r, nil, ledger.Refused("it is about deliveries in at least one of the states")
	case slices.ContainsFunc(wanted.States, func(s ledger.State) bool { return !slices.Contains(finalStates, s) }):
		return r, nil, ledger.Refused("it is about deliveries that are final")
	case f.Endpoint == "" && f.Tenant == "" && f.Type == "" && f.Event == "" && wanted.From.IsZero():
		return r, nil, ledger.Refused("an endpoint, a type, a tenant, an event or a time is needed: it would be about all that there is")
	}
	r, fields = requestOf(wanted), f.fields()
	if text := strings.TrimSpace(form.Get("rate")); text != "" {
		if r.Rate, err = strconv.Atoi(text); err != nil || r.Rate < 1 || r.Rate > maxRate {
			return r, nil, ledger.Refused("the rate is a number of deliveries a second, 1 to %d", maxRate)
		}
		fields = append(fields, pair{"rate", text})
	}
	if r.NewIDs = form.Get("new_ids") != ""; r.NewIDs {
		fields = append(fields, pair{"new_ids", "1"})
	}
	return r, fields, nil
}

func (d *Dashboard) previewReplay(q *request) (*answer, error) {
	r, fields, err := replayOf(q.PostForm)
	if err != nil {
		return nil, err
	}
	return d.preview(q, r, &previewBody{Query: fields, Path: "/replays/new", Replay: true})
}

func (d *Dashboard) startReplay(q *request) (*answer, error) {
	r, _, err := replayOf(q.PostForm)
	if err != nil {
		return nil, err
	}
	return d.start(q, r)
}

func (d *Dashboard) showReplay(q *request) (*answer, error) {
	id, err := uuid.Parse(q.PathValue("id"))
	if err != nil {
		return nil, errUnknown
	}
	r, err := d.Control.Replay(q.Context(), q.who, id)
	if err != nil {
		return nil, err
	}
	a := &answer{page: "replay", title: "Replay " + short(r.ID), section: "replays", body: replayRow{r}}
	if q.portal() {
		a.section = "failed"
	}
	if q.partial() {
		a.part = "progress"
		a.again = !replayRow{r}.Running()
	}
	return a, nil
}

func (d *Dashboard) cancelReplay(q *request) (*answer, error) {
	id, err := uuid.Parse(q.PathValue("id"))
	if err != nil {
		return nil, errUnknown
	}
	if _, err := d.Control.CancelReplay(q.Context(), q.who, id); err != nil {
		return nil, err
	}
	return &answer{redirect: "/replays/" + id.String() + "?done=cancelled"}, nil
}
