package admin

import (
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed entrance/page.html
var entranceHTML string

//go:embed entrance/enter.js
var enterJS []byte

var entrancePage = template.Must(template.New("entrance").Parse(entranceHTML))

// entrance is a page for who is not known yet, or has no business here.
type entrance struct {
	Title   string
	Problem string // "" for none
	Login   bool   // asks for a token
	Enter   bool   // takes the token from the address
	Next    string // where to go then
	Refresh string // where to go now; "" to stay
	Back    string // where else to go; "" for nowhere
	Instead string // the token of Comer, who would take the place of Present; "" for nobody
	Present string
	Comer   string
	Script  string
	Styles  []string
}

func (a *Access) show(w http.ResponseWriter, status int, p entrance) {
	p.Styles = a.Styles
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := entrancePage.Execute(w, p); err != nil {
		a.Logger.Debug("page not written", slog.Any("err", err))
	}
}

// problemPage tells people why they are denied something. htmx puts what it gets
// into the page that is there: it gets no whole one. A frame shows what may stand
// in one only, and nobody but the portal's callers see pages in frames.
func (a *Access) problemPage(w http.ResponseWriter, r *http.Request, d *denial) {
	d.headers(w.Header())
	if r.Header.Get("HX-Request") == "true" {
		a.showPart(w, d)
		return
	}
	if framed(r) {
		a.hardenPage(w.Header(), &Caller{Via: viaPortal})
	}
	p := entrance{Title: http.StatusText(d.status), Problem: d.detail}
	if r.URL.Path != dashboardPath && d.status != http.StatusMisdirectedRequest {
		p.Back = dashboardPath
	}
	a.show(w, d.status, p)
}

// showPart is problemPage within a page of the dashboard's.
func (a *Access) showPart(w http.ResponseWriter, d *denial) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(d.status)
	text := strings.ToUpper(d.detail[:1]) + d.detail[1:] + "."
	if _, err := fmt.Fprintf(w, `<p class="alert" role="alert"><span>%s</span></p>`, template.HTMLEscapeString(text)); err != nil {
		a.Logger.Debug("part not written", slog.Any("err", err))
	}
}

// Mount adds the pages at the entrance: login, logout, and enter, to which a
// host application leads its customer with a portal token after the #.
func (a *Access) Mount(mux *http.ServeMux) {
	mux.Handle(dashboardPath+"/login", a.entrance(a.login))
	mux.Handle(dashboardPath+"/enter", a.entrance(a.enterPage))
	mux.Handle("POST "+dashboardPath+"/logout", a.Page(a.logout))
	mux.HandleFunc("GET "+dashboardPath+"/enter.js", func(w http.ResponseWriter, _ *http.Request) {
		harden(w.Header())
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(enterJS)
	})
}

// entrance returns what serves next to everybody.
func (a *Access) entrance(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.hardenPage(w.Header(), nil)
		if denied := a.admit(r); denied != nil {
			a.problemPage(w, r, denied)
			return
		}
		next(w, r)
	})
}

// maxLogin bounds the login's form, in bytes.
const maxLogin = 16 << 10

func (a *Access) login(w http.ResponseWriter, r *http.Request) {
	page := entrance{Title: "Log in", Login: true, Next: where(r.URL.Query().Get("next"))}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if who, _ := a.bySession(r, ""); who != nil {
			http.Redirect(w, r, page.Next, http.StatusSeeOther) //nolint:gosec // where has made it a path of ours
			return
		}
		if framed(r) {
			a.ended(w)
			return
		}
		a.show(w, http.StatusOK, page)
	case http.MethodPost:
		if denied := readForm(w, r, maxLogin); denied != nil {
			a.problemPage(w, r, denied)
			return
		}
		page.Next = where(r.PostForm.Get("next"))
		c, denied := a.byToken(r.Context(), r.PostForm.Get("token"), a.Proxy.clientOf(r), true)
		if denied == nil && r.PostForm.Get("instead") == "" {
			var who *Caller
			if who, denied = a.present(r, c); who != nil {
				a.ask(w, r, who, c, page.Next)
				return
			}
		}
		if denied == nil {
			if err := a.enter(r.Context(), w, r, c); err != nil {
				a.Logger.LogAttrs(r.Context(), slog.LevelWarn, "session not opened", slog.Any("err", err))
				denied = &denial{status: http.StatusServiceUnavailable, detail: "no session can be opened, the relay's log says why; try again later", retryAfter: 5 * time.Second}
			}
		}
		if denied != nil {
			denied.challenge = "" // a browser would ask by itself
			denied.headers(w.Header())
			if framed(r) { // no login stands there
				a.problemPage(w, r, denied)
				return
			}
			page.Problem = denied.detail
			a.show(w, denied.status, page)
			return
		}
		http.Redirect(w, r, page.Next, http.StatusSeeOther) //nolint:gosec // where has made it a path of ours
	default:
		w.Header().Set("Allow", "GET, POST")
		a.problemPage(w, r, &denial{status: http.StatusMethodNotAllowed, detail: "the login takes GET and POST only"})
	}
}

// enterPage has no session to ask for, nor token: its script has that. It may
// stand in a frame, as what it leads to.
func (a *Access) enterPage(w http.ResponseWriter, r *http.Request) {
	a.hardenPage(w.Header(), &Caller{Via: viaPortal})
	a.show(w, http.StatusOK, entrance{Title: "Webhooks", Enter: true, Next: where(r.URL.Query().Get("next")), Script: dashboardPath + "/enter.js"})
}

func (a *Access) logout(w http.ResponseWriter, r *http.Request, who *Caller, _ string) {
	a.leave(r)
	a.setCookie(w, r, sessionCookie, nil, who.Portal())
	if who.Portal() { // it has no token that it could type
		a.show(w, http.StatusOK, entrance{Title: "You are logged out"})
		return
	}
	http.Redirect(w, r, dashboardPath+"/login", http.StatusSeeOther)
}

// headers sets what a denial has to say in headers.
func (d *denial) headers(h http.Header) {
	if d.challenge != "" {
		h.Set("WWW-Authenticate", d.challenge)
	}
	if d.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d.retryAfter+time.Second-1)/time.Second)))
	}
}
