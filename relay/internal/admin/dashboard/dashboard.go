// Package dashboard is the page under /admin/webhooks: what operators, and the
// tenants of portals, see and do in a browser. Pages are rendered here and work
// without scripts; htmx only keeps what is being looked at in place and live.
package dashboard

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthorn/posthorn/relay/internal/admin"
)

// Base is the path that every page's begins with.
const Base = "/admin/webhooks"

// access lets those who are known in; *admin.Access is one.
type access interface {
	Page(next admin.PageFunc) http.Handler
	SlowPage(within time.Duration, atOnce, ofTenant int, next admin.PageFunc) http.Handler
}

// Options say what the pages are about, and for whom.
type Options struct {
	Control  control
	Access   access
	Snapshot func() admin.Snapshot
	Settings func() []byte   // the configuration in effect, as YAML without secrets
	Profiles func() []string // the names of the configuration's
	Version  string
	Logger   *slog.Logger

	liveEvery time.Duration // between two looks of a live page; 0 for 1s
}

// Bounds of what the pages take on, beside those of Access.
const (
	maxTests  = 4               // tests at once; more are refused
	ownTests  = 1               // of those a tenant's
	maxLive   = 8               // live pages at once; more are refused
	ownLive   = 2               // of those a tenant's
	maxText   = 64 << 10        // bytes of a payload or body that are shown
	maxFilter = 256             // characters of a filter's text
	pageSize  = 50              // rows
	testIn    = 6 * time.Minute // an endpoint's timeout is 5m at most
	liveFor   = 5 * time.Minute // then the browser asks again, and who it is
)

// Dashboard answers under Base.
type Dashboard struct {
	Options
	mux    *http.ServeMux
	assets *assets
	pages  pages
}

// New returns the dashboard for its options.
func New(o Options) (*Dashboard, error) {
	d := &Dashboard{Options: o, mux: http.NewServeMux(), assets: ownAssets()}
	d.liveEvery = cmp.Or(d.liveEvery, time.Second)
	var err error
	if d.pages, err = newPages(); err != nil {
		return nil, err
	}
	d.routes()
	return d, nil
}

// audience is whom a page is for, beside a role.
type audience int

const (
	everybody audience = iota
	staff              // not for a tenant's portal
)

func (d *Dashboard) routes() {
	d.mux.HandleFunc("GET "+Base+"/assets/{build}/{name}", d.assets.serve)

	d.page("GET /{$}", admin.Viewer, everybody, d.home)
	d.page("GET /overview", admin.Viewer, staff, d.overview)
	d.page("GET /stats", admin.Viewer, everybody, d.statsJSON)

	d.page("GET /endpoints", admin.Viewer, everybody, d.listEndpoints)
	d.page("GET /endpoints/new", admin.Operator, everybody, d.newEndpoint)
	d.page("POST /endpoints/new", admin.Operator, everybody, d.createEndpoint)
	d.page("POST /endpoints/check", admin.Operator, everybody, d.checkEndpoint)
	d.page("GET /endpoints/{id}", admin.Viewer, everybody, d.showEndpoint)
	d.page("GET /endpoints/{id}/bars", admin.Viewer, everybody, d.endpointBars)
	d.page("GET /endpoints/{id}/edit", admin.Operator, everybody, d.editEndpoint)
	d.page("POST /endpoints/{id}/edit", admin.Operator, everybody, d.saveEndpoint)
	d.page("POST /endpoints/{id}/check", admin.Operator, everybody, d.checkEndpoint)
	d.page("POST /endpoints/{id}/pause", admin.Operator, everybody, d.pauseEndpoint)
	d.page("POST /endpoints/{id}/resume", admin.Operator, everybody, d.resumeEndpoint)
	d.page("POST /endpoints/{id}/enable", admin.Operator, everybody, d.enableEndpoint)
	d.page("POST /endpoints/{id}/drain", admin.Operator, everybody, d.drainEndpoint)
	d.slow("POST /endpoints/{id}/test", testIn, d.testEndpoint)
	d.page("POST /endpoints/{id}/secret", admin.Operator, everybody, d.rotateSecret)
	d.page("GET /endpoints/{id}/delete", admin.Operator, everybody, d.confirmDelete)
	d.page("POST /endpoints/{id}/delete", admin.Operator, everybody, d.deleteEndpoint)

	d.page("GET /deliveries", admin.Viewer, everybody, d.listDeliveries)
	d.page("GET /deliveries/{id}", admin.Viewer, everybody, d.showDelivery)
	d.page("POST /deliveries/{id}/retry", admin.Operator, everybody, d.retryDelivery)
	d.mux.Handle("GET "+Base+"/deliveries/live", d.Access.SlowPage(liveFor, maxLive, ownLive, d.liveDeliveries))

	d.page("GET /failed", admin.Viewer, everybody, d.failed)
	d.page("POST /failed/preview", admin.Operator, everybody, d.previewRetry)
	d.page("POST /failed/retry", admin.Operator, everybody, d.retryMany)

	d.page("GET /replays", admin.Viewer, staff, d.listReplays)
	d.page("GET /replays/new", admin.Operator, staff, d.newReplay)
	d.page("POST /replays/preview", admin.Operator, staff, d.previewReplay)
	d.page("POST /replays/new", admin.Operator, staff, d.startReplay)
	d.page("GET /replays/{id}", admin.Viewer, everybody, d.showReplay)
	d.page("POST /replays/{id}/cancel", admin.Operator, everybody, d.cancelReplay)

	d.page("GET /events", admin.Viewer, everybody, d.listEvents)
	d.page("GET /events/{type}", admin.Viewer, everybody, d.showEvent)
	d.slow("POST /events/{type}/send", testIn, d.sendEvent)

	d.page("GET /audit", admin.Operator, everybody, d.audit)
	d.page("GET /settings", admin.Operator, staff, d.settings)
	d.page("GET /{$}/", admin.Viewer, everybody, d.home)
	d.page("/", admin.Viewer, everybody, func(*request) (*answer, error) { return nil, errNoPage })
}

// request is a page's request, and who makes it.
type request struct {
	*http.Request
	w    http.ResponseWriter
	who  *admin.Caller
	csrf string
}

// partial reports whether htmx asks for a part of a page.
func (q *request) partial() bool { return q.Header.Get("HX-Request") == "true" }

// readable reports whether all texts of the request are such as the database
// keeps: others are neither looked for nor written.
func (q *request) readable() bool {
	bad := func(text string) bool { return strings.ContainsRune(text, 0) || !utf8.ValidString(text) }
	for _, v := range []url.Values{q.URL.Query(), q.PostForm} {
		for _, texts := range v {
			if slices.ContainsFunc(texts, bad) {
				return false
			}
		}
	}
	return !bad(q.URL.Path)
}

// operator reports whether the caller may change things and see payloads.
func (q *request) operator() bool { return q.who.Role >= admin.Operator }

// portal reports whether the caller is one tenant's.
func (q *request) portal() bool { return q.who.Tenant != "" }

// page adds a page: a pattern of a method and a path below Base, the least
// role, for whom, and what answers.
func (d *Dashboard) page(pattern string, role admin.Role, to audience, do func(*request) (*answer, error)) {
	d.mux.Handle(under(pattern), d.Access.Page(d.serve(role, to, do)))
}

// slow adds a page of operators that may take so long.
func (d *Dashboard) slow(pattern string, within time.Duration, do func(*request) (*answer, error)) {
	d.mux.Handle(under(pattern), d.Access.SlowPage(within, maxTests, ownTests, d.serve(admin.Operator, everybody, do)))
}

func (d *Dashboard) serve(role admin.Role, to audience, do func(*request) (*answer, error)) admin.PageFunc {
	return func(w http.ResponseWriter, r *http.Request, who *admin.Caller, csrf string) {
		q := &request{Request: r, w: w, who: who, csrf: csrf}
		var (
			a   *answer
			err error
		)
		switch {
		case q.portal() && to == staff:
			err = errNoPage // as if there were none: it is not theirs to know
		case q.who.Role < role:
			err = errRole
		case !q.readable():
			err = errText
		default:
			a, err = do(q)
		}
		if err != nil {
			d.fail(q, err)
			return
		}
		d.write(q, a)
	}
}

// under returns a pattern for the mux.
func under(pattern string) string {
	for i := range pattern {
		if pattern[i] == '/' {
			switch pattern[i:] {
			case "/{$}":
				return pattern[:i] + Base
			case "/{$}/":
				return pattern[:i] + Base + "/{$}"
			}
			return pattern[:i] + Base + pattern[i:]
		}
	}
	return pattern
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }
