package dashboard

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

//go:embed templates/*.html
var templateFiles embed.FS

// pages are the templates of each page, by the name of its file: those of
// layout.html and of the parts, with the page's own content.
type pages map[string]*template.Template

var functions = template.FuncMap{
	"number": number, "decimal": decimal, "percent": percent, "bytes": byteSize, "duration": duration, "latency": latency,
	"moment": moment, "precise": precise, "machine": machine, "short": short, "cut": cut, "plural": plural, "pretty": pretty,
	"ago":       func(t time.Time) string { return relative(t, time.Now()) },
	"past":      func(t time.Time) bool { return !t.After(time.Now()) },
	"count":     func(n int) int64 { return int64(n) },
	"dict":      dict,
	"health":    func(s ledger.EndpointStatus) health { return healthOf(&s) },
	"eventKeys": func() []string { return eventKeys },
}

// dict returns what a template gives a part of it.
func dict(pairs ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no key", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

func newPages() (pages, error) {
	shared, err := template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/part_*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the dashboard's layout: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/page_*.html")
	if err != nil {
		return nil, err
	}
	all := pages{}
	for _, file := range names {
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, fmt.Errorf("parse the dashboard's %s: %w", file, err)
		}
		all[strings.TrimSuffix(strings.TrimPrefix(path.Base(file), "page_"), ".html")] = t
	}
	return all, nil
}

// answer is what becomes of a request.
type answer struct {
	status   int    // 0 for 200
	page     string // which page's templates
	part     string // only this template of it; "" for the whole page
	title    string
	section  string // which entry of the navigation it belongs to
	body     any
	redirect string // where to instead
	json     []byte // this instead
	again    bool   // the page that asks for a part is out of date as a whole
}

// screen is what templates see.
type screen struct {
	Title, Section string
	Nav            []entry
	Who            *admin.Caller // nil where nobody is logged in
	CSRF           string
	Theme          string // light, dark or "" for the system's
	Base, Assets   string
	Version        string
	Flash          string // what was done by the request before
	Role           string // the relay's
	Body           any
}

// entry is an entry of the navigation.
type entry struct{ Name, Path, Icon string }

// Operator reports whether the caller may change things and see payloads.
func (s *screen) Operator() bool { return s.Who != nil && s.Who.Role >= admin.Operator }

// Portal reports whether the caller is one tenant's.
func (s *screen) Portal() bool { return s.Who != nil && s.Who.Tenant != "" }

var (
	errNoPage = errors.New("there is no such page")
	errRole   = errors.New("your role does not allow this")
	errForm   = errors.New("the form could not be read")
	errText   = errors.New("the address or the form has characters that no text here has")
)

// navigation returns the pages that the caller may open.
func navigation(who *admin.Caller) []entry {
	list := []entry{
		{"Overview", "/overview", "overview"}, {"Endpoints", "/endpoints", "endpoints"}, {"Deliveries", "/deliveries", "deliveries"},
		{"Failed", "/failed", "failed"}, {"Replays", "/replays", "replays"}, {"Events", "/events", "events"},
		{"Audit", "/audit", "audit"}, {"Settings", "/settings", "settings"},
	}
	var shown []entry
	for _, e := range list {
		switch e.Icon {
		case "overview", "replays":
			if who.Tenant != "" {
				continue
			}
		case "settings":
			if who.Tenant != "" || who.Role < admin.Operator {
				continue
			}
		case "audit":
			if who.Role < admin.Operator {
				continue
			}
		}
		shown = append(shown, e)
	}
	return shown
}

// flashes are what a redirect may say was done: nothing else, so that a link
// cannot put words into the page's mouth.
var flashes = map[string]string{
	"paused": "The endpoint is paused. Its events are kept until it is resumed.", "resumed": "The endpoint is resumed. What waited is sent first.",
	"saved": "The endpoint was saved. The change holds for all events that are not read yet.", "enabled": "The endpoint is enabled.",
	"disabled": "The endpoint is disabled. It gets no more events.", "deleted": "The endpoint was deleted.",
	"retried": "The delivery is due now. One more attempt is made within a second or two.", "cancelled": "The replay is being cancelled.",
}

func (d *Dashboard) screen(q *request, a *answer) *screen {
	s := &screen{
		Title: a.title, Section: a.section, Base: Base, Assets: d.assets.address, Version: d.Version, CSRF: q.csrf, Who: q.who,
		Theme: theme(q.Request), Flash: flashes[q.URL.Query().Get("done")], Body: a.body,
	}
	if q.who != nil {
		s.Nav = navigation(q.who)
	}
	if d.Snapshot != nil && !s.Portal() { // how the relay runs is no business of tenants
		s.Role = d.Snapshot().Role
	}
	return s
}

// theme returns what the browser's owner chose.
func theme(r *http.Request) string {
	if c, err := r.Cookie("posthorn_theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

// write answers a request.
func (d *Dashboard) write(q *request, a *answer) {
	switch {
	case a.redirect != "" && q.partial():
		q.w.Header().Set("HX-Redirect", Base+a.redirect)
		q.w.WriteHeader(http.StatusOK)
		return
	case a.redirect != "":
		http.Redirect(q.w, q.Request, Base+a.redirect, http.StatusSeeOther)
		return
	case a.json != nil:
		q.w.Header().Set("Content-Type", "application/json")
		_, _ = q.w.Write(a.json)
		return
	}
	text, err := d.render(q, a)
	if err != nil {
		d.Logger.LogAttrs(q.Context(), slog.LevelError, "dashboard page not rendered", slog.String("page", a.page), slog.Any("err", err))
		http.Error(q.w, "the page could not be made: the relay's log says why", http.StatusInternalServerError)
		return
	}
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	q.w.Header().Set("Vary", "HX-Request")
	if a.again {
		q.w.Header().Set("HX-Refresh", "true")
	}
	if a.status != 0 {
		q.w.WriteHeader(a.status)
	}
	_, _ = q.w.Write(text)
}

func (d *Dashboard) render(q *request, a *answer) ([]byte, error) {
	t, ok := d.pages[a.page]
	if !ok {
		return nil, fmt.Errorf("no page %q", a.page)
	}
	name := a.part
	if name == "" {
		name = "layout"
	}
	var out bytes.Buffer
	err := t.ExecuteTemplate(&out, name, d.screen(q, a))
	return out.Bytes(), err
}

// problem is what the page of an error says.
type problem struct {
	Status int
	Text   string
}

// fail answers with an error. What is no business of the caller's is logged.
func (d *Dashboard) fail(q *request, err error) {
	p := d.problem(q.Context(), q.URL.Path, err)
	a := &answer{status: p.Status, page: "problem", title: http.StatusText(p.Status), body: p}
	if q.partial() {
		a.part = "alert"
	}
	if p.Status == http.StatusServiceUnavailable {
		q.w.Header().Set("Retry-After", "5")
	}
	d.write(q, a)
}

func (d *Dashboard) problem(ctx context.Context, page string, err error) problem {
	var refused *ledger.RefusedError
	var invalid *admin.InvalidError
	switch {
	case errors.Is(err, errNoPage):
		return problem{http.StatusNotFound, "There is no such page."}
	case errors.Is(err, ledger.ErrUnknownEndpoint), errors.Is(err, ledger.ErrUnknownDelivery), errors.Is(err, ledger.ErrUnknownReplay), errors.Is(err, errUnknown):
		return problem{http.StatusNotFound, "It is not here: it may have been removed, or the address is wrong."}
	case errors.Is(err, errRole):
		return problem{http.StatusForbidden, "Your role does not allow this."}
	case errors.Is(err, errForm), errors.Is(err, errText):
		return problem{http.StatusBadRequest, sentence(err)}
	case errors.Is(err, ledger.ErrOtherRequest):
		return problem{http.StatusConflict, "This form was sent before with something else in it. Load its page again."}
	case errors.As(err, &refused), errors.Is(err, ledger.ErrConfigured), errors.Is(err, ledger.ErrChanged):
		return problem{http.StatusConflict, sentence(err)}
	case errors.As(err, &invalid):
		return problem{http.StatusUnprocessableEntity, fieldSentence(invalid)}
	case errors.Is(ctx.Err(), context.Canceled): // nobody waits for an answer
		return problem{http.StatusServiceUnavailable, "The request was cancelled."}
	}
	d.Logger.LogAttrs(ctx, slog.LevelWarn, "dashboard request failed", slog.String("page", page), slog.Any("err", err))
	return problem{http.StatusServiceUnavailable, "It could not be done just now; the relay's log says why. Try again in a moment."}
}

// errUnknown reports that an address names nothing.
var errUnknown = errors.New("unknown")

// sentence returns an error as a page says it.
func sentence(err error) string {
	text := err.Error()
	if text == "" {
		return "It was refused."
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// fieldSentence returns what is wrong with fields, where there is no form to
// show it in.
func fieldSentence(e *admin.InvalidError) string {
	var parts []string
	for _, f := range e.Fields {
		parts = append(parts, strings.TrimSpace(f.Field+" "+f.Message))
	}
	return strings.Join(parts, "; ") + "."
}
