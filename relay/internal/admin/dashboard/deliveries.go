package dashboard

import (
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// filter is which deliveries a page shows, as its form and address say.
type filter struct {
	States   []string
	Endpoint string // name or id
	Tenant   string // the event's
	Type     string
	Event    string
	Within   string // a key of withins
	From     string // as datetime-local: 2006-01-02T15:04, in UTC
	Until    string

	Problem string // what of it makes no sense
}

// within is a time back from now that filters offer.
type within struct {
	Key, Name string
	Back      time.Duration
}

var withins = []within{
	{"15m", "15 minutes", 15 * time.Minute}, {"1h", "hour", time.Hour}, {"24h", "24 hours", 24 * time.Hour}, {"168h", "7 days", 168 * time.Hour},
}

var allStates = []ledger.State{ledger.Pending, ledger.Sending, ledger.Delivered, ledger.Failed, ledger.Skipped}

// filterOf reads a filter from a query or form. What is empty matches all.
func filterOf(v url.Values) filter {
	text := func(name string) string { return cut(maxFilter, strings.TrimSpace(v.Get(name))) }
	f := filter{Endpoint: text("endpoint"), Tenant: text("tenant"), Type: text("type"), Event: text("event"), Within: text("within"), From: text("from"), Until: text("until")}
	for _, s := range v["state"] {
		if slices.Contains(allStates, ledger.State(s)) && !slices.Contains(f.States, s) {
			f.States = append(f.States, s)
		}
	}
	return f
}

// Has reports whether a state is among those of the filter.
func (f filter) Has(state ledger.State) bool { return slices.Contains(f.States, string(state)) }

// Narrow reports whether the filter asks for more than states.
func (f filter) Narrow() bool {
	f.States = nil
	return f.Query() != ""
}

// Query returns the filter as its address has it.
func (f filter) Query() string {
	v := url.Values{}
	for _, s := range f.States {
		v.Add("state", s)
	}
	for name, text := range map[string]string{
		"endpoint": f.Endpoint, "tenant": f.Tenant, "type": f.Type, "event": f.Event, "within": f.Within, "from": f.From, "until": f.Until,
	} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v.Encode()
}

// Link returns the address of the list at path with one state only, "" for all.
// It is a whole one: of a part html/template would escape what divides it.
func (f filter) Link(path, state string) string {
	f.States = nil
	if state != "" {
		f.States = []string{state}
	}
	return strings.TrimSuffix(Base+path+"?"+f.Query(), "?")
}

const localTime = "2006-01-02T15:04"

// ledger returns the filter for the ledger, and sets Problem where something of
// it makes no sense: nothing matches then.
func (f *filter) ledger(now time.Time) (out ledger.Filter, ok bool) {
	out = ledger.Filter{Endpoint: f.Endpoint, Tenant: f.Tenant, Type: f.Type}
	for _, s := range f.States {
		out.States = append(out.States, ledger.State(s))
	}
	if f.Event != "" {
		id, err := uuid.Parse(f.Event)
		if err != nil {
			f.Problem = "The event's id is a UUID."
			return out, false
		}
		out.Event = id
	}
	for _, w := range withins {
		if f.Within == w.Key {
			out.From = now.Add(-w.Back)
		}
	}
	if f.Problem = readTimes(f.From, f.Until, &out.From, &out.Until); f.Problem != "" {
		return out, false
	}
	if strings.ContainsFunc(f.Endpoint+f.Tenant+f.Type, func(r rune) bool { return r < ' ' || r == '\uFFFD' }) {
		f.Problem = "Filters are one line of text."
		return out, false
	}
	return out, true
}

// readTimes reads the times that a form gives, those that are not empty, and
// returns what is wrong with them.
func readTimes(from, until string, start, end *time.Time) (problem string) {
	for _, bound := range []struct {
		text string
		to   *time.Time
	}{{from, start}, {until, end}} {
		if bound.text == "" {
			continue
		}
		at, err := time.Parse(localTime, bound.text)
		if err != nil {
			return "Times are written as " + localTime + ", in UTC."
		}
		*bound.to = at
	}
	if !end.IsZero() && !start.Before(*end) {
		return "The times are from the earlier one until the later one."
	}
	return ""
}

// deliveriesBody is what the list of deliveries shows.
type deliveriesBody struct {
	Filter  filter
	Rows    []ledger.Delivery
	Next    string // the address of the next page; "" on the last one
	First   bool   // the page is the first: it can be live
	Live    string // where to listen
	Withins []within
	States  []ledger.State
	Portal  bool
}

func (d *Dashboard) listDeliveries(q *request) (*answer, error) {
	b, err := d.deliveries(q, filterOf(q.URL.Query()), "/deliveries")
	if err != nil {
		return nil, err
	}
	a := &answer{page: "deliveries", title: "Deliveries", section: "deliveries", body: b}
	if q.partial() {
		a.part = "found"
	}
	return a, nil
}

// deliveries returns the page of a list at path that the query asks for.
func (d *Dashboard) deliveries(q *request, f filter, path string) (*deliveriesBody, error) {
	b := &deliveriesBody{Filter: f, Withins: withins, States: allStates, Portal: q.portal()}
	wanted, ok := b.Filter.ledger(time.Now())
	if !ok {
		return b, nil
	}
	cursor := q.URL.Query().Get("after")
	b.First = cursor == ""
	wanted.After = readCursor(cursor)
	wanted.Limit = pageSize + 1 // one more: whether there is a next page
	var err error
	if b.Rows, err = d.Control.List(q.Context(), q.who, wanted); err != nil {
		return nil, err
	}
	query := f.Query()
	if len(b.Rows) > pageSize {
		b.Rows = b.Rows[:pageSize]
		b.Next = Base + path + "?" + strings.TrimPrefix(query+"&after="+writeCursor(&b.Rows[pageSize-1]), "&")
	}
	if b.First {
		b.Live = Base + "/deliveries/live?" + query
	}
	return b, nil
}

// A cursor is base64url of the commit time's microseconds and the id. Whoever
// sends one may have made it up: it is a place in the list in any case.
func writeCursor(d *ledger.Delivery) string {
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint64(nil, uint64(d.CreatedAt.UnixMicro())), d.ID[:]...))
}

// lastMicrosecond is the last of the year 9999, since 1970.
const lastMicrosecond = 253402300799999999

func readCursor(text string) (c ledger.Cursor) {
	place, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(place) != 8+len(c.ID) {
		return c
	}
	at := binary.BigEndian.Uint64(place)
	if at > lastMicrosecond {
		return c
	}
	return ledger.Cursor{CreatedAt: time.UnixMicro(int64(at)), ID: uuid.UUID(place[8:])}
}
