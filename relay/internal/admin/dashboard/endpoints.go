package dashboard

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// health is how an endpoint does, at a glance.
type health struct{ Class, Word, Why string }

func (h health) bad() bool { return h.Class == "bad" || h.Class == "warn" }

// unsteady is for how long attempts fail until that is worth a look: single ones
// fail everywhere.
const unsteady = 10 * time.Second

// healthOf returns the health of an endpoint.
func healthOf(s *ledger.EndpointStatus) health {
	switch {
	case s.State == ledger.Removed:
		return health{"off", "removed", s.Reason}
	case s.State == ledger.Disabled && s.By == "relay":
		return health{"bad", "gone", s.Reason}
	case s.State == ledger.Disabled:
		return health{"off", "disabled", s.Reason}
	case s.State == ledger.Paused && s.By == "relay":
		return health{"bad", "auto-paused", s.Reason}
	case s.State == ledger.Paused:
		return health{"warn", "paused", s.Reason}
	case s.Failing:
		return health{"bad", "failing", plural(int64(s.Failures), "failed attempt", "failed attempts") + " in a row"}
	case s.Failures > 0 && (s.FailingSince == nil || time.Since(*s.FailingSince) >= unsteady):
		return health{"warn", "unsteady", plural(int64(s.Failures), "failed attempt", "failed attempts") + " in a row"}
	}
	return health{"ok", "healthy", ""}
}

// endpointRow is an endpoint in the list.
type endpointRow struct {
	ledger.EndpointStatus
	Health health
}

// endpointsBody is what the list of endpoints shows.
type endpointsBody struct {
	Rows         []endpointRow
	Search       string
	Show         string // all, trouble, paused or disabled
	All, Matched int
	Page, Pages  int
	Counts       map[string]int
}

// Link returns the address of another page of the list.
func (b *endpointsBody) Link(page int) string {
	v := url.Values{}
	if b.Search != "" {
		v.Set("search", b.Search)
	}
	if b.Show != "all" {
		v.Set("show", b.Show)
	}
	v.Set("page", strconv.Itoa(page))
	return Base + "/endpoints?" + v.Encode()
}

// Previous and Next return the numbers of the pages beside; 0 for none.
func (b *endpointsBody) Previous() int { return b.Page - 1 }

// Next returns the number of the page after; 0 for none.
func (b *endpointsBody) Next() int {
	if b.Page < b.Pages {
		return b.Page + 1
	}
	return 0
}

func (d *Dashboard) listEndpoints(q *request) (*answer, error) {
	all, err := d.Control.Endpoints(q.Context(), q.who, false)
	if err != nil {
		return nil, err
	}
	b := &endpointsBody{All: len(all), Search: cut(maxFilter, strings.TrimSpace(q.URL.Query().Get("search"))), Show: "all", Counts: map[string]int{"trouble": 0, "paused": 0, "disabled": 0}}
	if show := q.URL.Query().Get("show"); show == "trouble" || show == "paused" || show == "disabled" {
		b.Show = show
	}
	var matched []endpointRow
	for _, s := range all {
		row := endpointRow{s, healthOf(&s)}
		trouble := row.Health.bad()
		b.count("trouble", trouble)
		b.count("paused", s.State == ledger.Paused)
		b.count("disabled", s.State == ledger.Disabled)
		shown := b.Show == "all" || b.Show == "trouble" && trouble || b.Show == string(s.State)
		if shown && matches(&s, b.Search) {
			matched = append(matched, row)
		}
	}
	b.Matched, b.Pages = len(matched), max(1, (len(matched)+pageSize-1)/pageSize)
	asked, _ := strconv.Atoi(q.URL.Query().Get("page"))
	b.Page = min(max(1, asked), b.Pages)
	b.Rows = slices.Clone(matched[min(len(matched), (b.Page-1)*pageSize):min(len(matched), b.Page*pageSize)])
	a := &answer{page: "endpoints", title: "Endpoints", section: "endpoints", body: b}
	if q.partial() {
		a.part = "found"
	}
	return a, nil
}

func (b *endpointsBody) count(what string, yes bool) {
	if yes {
		b.Counts[what]++
	}
}

// matches reports whether a search finds an endpoint.
func matches(s *ledger.EndpointStatus, search string) bool {
	search = strings.ToLower(search)
	for _, text := range []string{s.Name, s.URL, s.Tenant, s.ID.String()} {
		if strings.Contains(strings.ToLower(text), search) {
			return true
		}
	}
	return false
}

// endpointBars shows what became of an endpoint's deliveries lately.
func (d *Dashboard) endpointBars(q *request) (*answer, error) {
	s := span{All: 24 * time.Hour, Step: time.Hour}
	stats, err := d.stats(q, q.PathValue("id"), s)
	if err != nil {
		return nil, err
	}
	return &answer{page: "endpoints", part: "sparkbars", body: barsOf(stats.Series, s.All)}, nil
}
