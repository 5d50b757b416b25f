package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// dashboardPath is where the dashboard is, and all that belongs to it.
const dashboardPath = "/admin/webhooks"

// maxForm bounds a form, in bytes: an endpoint may have a large template.
const maxForm = 1 << 20

// PageFunc answers with a page for who, whose forms have csrf in them.
type PageFunc func(w http.ResponseWriter, r *http.Request, who *Caller, csrf string)

// Page returns what serves next to those who are known, within 20s. A form has
// been read, at most 1 MiB of it, and holds what r.PostForm has.
func (a *Access) Page(next PageFunc) http.Handler {
	return a.page(answerWithin, func(ctx context.Context, who *Caller) (leave func(), denied *denial) {
		leave, ok := a.busy.enter(who, ctx.Done())
		if !ok {
			return nil, &denial{status: http.StatusServiceUnavailable, detail: "too many requests are being worked on", retryAfter: 5 * time.Second}
		}
		return leave, nil
	}, next)
}

// SlowPage is Page for what may take so long, such as a test that is sent or a
// page's live part. So many are served at once, and so many of a tenant; more are
// refused.
func (a *Access) SlowPage(within time.Duration, atOnce, ofTenant int, next PageFunc) http.Handler {
	slow := newRooms(atOnce, ofTenant)
	return a.page(within, func(_ context.Context, who *Caller) (leave func(), denied *denial) {
		leave, ok := slow.enter(who, nil)
		if !ok {
			return nil, &denial{status: http.StatusTooManyRequests, detail: "others are being worked on: try again when they are done", retryAfter: 5 * time.Second}
		}
		return leave, nil
	}, next)
}

// page serves next within so long, once room lets it.
func (a *Access) page(within time.Duration, room func(context.Context, *Caller) (leave func(), denied *denial), next PageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.hardenPage(w.Header(), nil)
		if denied := a.admit(r); denied != nil {
			a.problemPage(w, r, denied)
			return
		}
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Now().Add(within + writeWithin)) // every connection can, but for those of tests
		ctx, cancel := context.WithTimeout(r.Context(), within)
		defer cancel()
		r = r.WithContext(ctx)
		who, denied := a.known(w, r)
		if denied != nil {
			a.turnAway(w, r, denied)
			return
		}
		leave, denied := room(ctx, who)
		if denied != nil {
			a.problemPage(w, r, denied)
			return
		}
		defer leave()
		_ = conn.SetReadDeadline(time.Time{}) // the form's: it has been read
		who.conn = conn
		a.hardenPage(w.Header(), who)
		a.lendCookie(w, r, who)
		next(w, r, who, who.csrf)
	})
}

// known is know for a page, whose forms hold the CSRF token.
func (a *Access) known(w http.ResponseWriter, r *http.Request) (*Caller, *denial) {
	who, denied := a.identify(r)
	if denied != nil || !changes(r) {
		return who, denied
	}
	if denied := readForm(w, r, maxForm); denied != nil {
		return nil, denied
	}
	shown := r.Header.Get(csrfHeader)
	if shown == "" {
		shown = r.PostForm.Get("csrf")
	}
	if !who.confirmed(shown) {
		return nil, errUnconfirmed
	}
	return who, nil
}

// readForm reads a form of so many bytes at most into r.PostForm.
func readForm(w http.ResponseWriter, r *http.Request, bytes int64) *denial {
	r.Body = http.MaxBytesReader(w, r.Body, bytes)
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &denial{status: http.StatusRequestEntityTooLarge, detail: "the form is too large"}
	case err != nil:
		return &denial{status: http.StatusBadRequest, detail: "the form cannot be read"}
	case strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/"):
		return &denial{status: http.StatusUnsupportedMediaType, detail: "forms are sent as application/x-www-form-urlencoded"}
	}
	return nil
}

// hardenPage sets the headers of a page: nothing is loaded, sent to or shown
// in anything but the relay's own, but for the portal's pages in frames of the
// configuration's. who is nil where nobody is known.
func (a *Access) hardenPage(h http.Header, who *Caller) {
	harden(h)
	ancestors := "'none'"
	if who != nil && who.Portal() && len(a.FrameAncestors) > 0 {
		ancestors = strings.Join(a.FrameAncestors, " ")
	}
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors "+ancestors)
	// Without a referrer a browser says in a form's Origin that it is of nowhere.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// lendCookie gives the browser of a proxy's user something for its CSRF token
// to belong to.
func (a *Access) lendCookie(w http.ResponseWriter, r *http.Request, who *Caller) {
	if who.ambient && who.csrf == "" {
		c := newCookie(nil)
		a.setCookie(w, r, proxyCookie, c, false)
		who.csrf = c.csrf(who.Name)
	}
}

// turnAway answers who may not see a page: with the login where that may help.
func (a *Access) turnAway(w http.ResponseWriter, r *http.Request, denied *denial) {
	if denied.status != http.StatusUnauthorized || r.Header.Get("Authorization") != "" {
		a.problemPage(w, r, denied)
		return
	}
	htmx := r.Header.Get("HX-Request") != ""
	next := ""
	switch {
	case htmx:
		if u, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			next = u.RequestURI()
		}
	case !changes(r):
		next = r.URL.RequestURI()
	}
	login := dashboardPath + "/login?next=" + url.QueryEscape(where(next))
	switch {
	case htmx && changes(r): // a form is being filled in, which a redirect would throw away
		w.Header().Set("HX-Trigger", "session-ended")
		a.problemPage(w, r, denied)
	case htmx: // it puts what a redirect leads to into the page
		w.Header().Set("HX-Redirect", login)
		a.problemPage(w, r, denied)
	case framed(r):
		a.ended(w)
	case crossSite(r): // a cookie may be there: from our own page it is sent
		a.show(w, http.StatusOK, entrance{Title: "One moment", Refresh: login})
	default:
		http.Redirect(w, r, login, http.StatusSeeOther)
	}
}

// crossSite reports whether a browser followed a link on another site's page:
// it leaves out the session's cookie then.
func crossSite(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

// framed reports whether a browser asks for what a page shows in a frame.
func framed(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return dest == "iframe" || dest == "frame"
}

// ended tells who sees the portal in a frame, where no login may stand, that
// the session is over.
func (a *Access) ended(w http.ResponseWriter) {
	a.hardenPage(w.Header(), &Caller{Via: viaPortal})
	a.show(w, http.StatusUnauthorized, entrance{Title: "Your session has ended", Problem: "Open this again from the page that shows it."})
}
