package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

const settingsYAML = `database:
  url: postgres://posthorn:***@db.internal/app
source:
  slot: posthorn
http:
  listen: 127.0.0.1:8080
  tokens:
    - {name: ops, role: admin, token: "***"}
`

func newDashboard(c control, a access) (*Dashboard, error) {
	return New(Options{
		Control: c, Access: a, Version: "1.0.0-test", Logger: slog.New(slog.DiscardHandler),
		Snapshot: func() admin.Snapshot {
			return admin.Snapshot{Role: admin.RoleActive, Flushed: "0/1", SlotKnown: true, SlotLag: 182 << 10, SlotRetained: 48 << 20}
		},
		Settings: func() []byte { return []byte(settingsYAML) },
		Profiles: func() []string { return []string{"bindbee", "byro", "danbyte", "offly"} },
	})
}

// browser is somebody who looks at the pages of a made-up relay.
type browser struct {
	t       *testing.T
	control *fakeControl
	access  *fakeAccess
	d       *Dashboard
}

func newBrowser(t *testing.T, who string) *browser {
	t.Helper()
	b := &browser{t: t, control: newFake(time.Now()), access: &fakeAccess{people[who]}}
	var err error
	if b.d, err = newDashboard(b.control, b.access); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) do(r *http.Request) *httptest.ResponseRecorder {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.d.ServeHTTP(w, r)
	return w
}

// get returns the page at a path below Base, which must have the status.
func (b *browser) get(path string, status int) *page {
	b.t.Helper()
	return b.page(b.do(httptest.NewRequest(http.MethodGet, Base+path, http.NoBody)), path, status)
}

// part returns what htmx gets.
func (b *browser) part(path string, status int) *page {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodGet, Base+path, http.NoBody)
	r.Header.Set("HX-Request", "true")
	return b.page(b.do(r), path, status)
}

func (b *browser) send(path string, form url.Values, htmx bool) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodPost, Base+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if htmx {
		r.Header.Set("HX-Request", "true")
	}
	return b.do(r)
}

// post returns the page that a form leads to.
func (b *browser) post(path string, form url.Values, status int) *page {
	b.t.Helper()
	return b.page(b.send(path, form, false), path, status)
}

// moved checks that a form leads elsewhere.
func (b *browser) moved(path string, form url.Values, to string) {
	b.t.Helper()
	w := b.send(path, form, false)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != Base+to {
		b.t.Errorf("POST %s: %d to %q, want 303 to %q", path, w.Code, w.Header().Get("Location"), Base+to)
	}
}

func (b *browser) page(w *httptest.ResponseRecorder, path string, status int) *page {
	b.t.Helper()
	if w.Code != status {
		b.t.Fatalf("%s: status %d, want %d:\n%s", path, w.Code, status, w.Body)
	}
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		b.t.Fatal(err)
	}
	return &page{b.t, path, root, w.Body.String()}
}

// page is a page as a browser reads it.
type page struct {
	t    *testing.T
	path string
	root *html.Node
	text string
}

// all returns the elements of the page that a test holds of.
func (p *page) all(test func(*html.Node) bool) []*html.Node {
	var found []*html.Node
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && test(n) {
			found = append(found, n)
		}
	}
	return found
}

func (p *page) named(names ...string) []*html.Node {
	return p.all(func(n *html.Node) bool { return slices.Contains(names, n.Data) })
}

// id returns the element of an id, nil without one.
func (p *page) id(id string) *html.Node {
	for _, n := range p.all(func(n *html.Node) bool { return attr(n, "id") == id }) {
		return n
	}
	return nil
}

// words returns the text under a node, its white space as single spaces.
func words(n *html.Node) string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (p *page) has(texts ...string) {
	p.t.Helper()
	shown := words(p.root)
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			p.t.Errorf("%s does not show %q", p.path, text)
		}
	}
}

func (p *page) lacks(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if strings.Contains(p.text, text) {
			p.t.Errorf("%s has %q", p.path, text)
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// failingControl fails as the database does of texts that it does not keep.
type failingControl struct {
	*fakeControl
	t *testing.T
}

func (c failingControl) Stats(context.Context, *admin.Caller, ledger.StatsQuery) (*admin.Stats, error) {
	c.t.Error("the ledger is asked for figures")
	return nil, errors.New("invalid byte sequence")
}

func (c failingControl) Audit(context.Context, *admin.Caller, ledger.AuditFilter) ([]ledger.AuditEntry, error) {
	c.t.Error("the ledger is asked for the audit")
	return nil, errors.New("invalid byte sequence")
}

func TestTextsThatTheDatabaseDoesNotKeepAreRefused(t *testing.T) {
	b := newBrowser(t, "admin")
	b.d.Control = failingControl{b.control, t}
	for _, path := range []string{"/audit?actor=%00", "/audit?subject=a%00b", "/audit?action=%ff", "/stats?endpoint=%00", "/stats?endpoint=%fe", "/endpoints/%00/bars", "/endpoints/a%00", "/endpoints/%ff/bars", "/deliveries?type=a%00b"} {
		b.get(path, http.StatusBadRequest).has("characters that no text here has")
	}
	id := b.control.endpoints[0].ID.String()
	b.post("/endpoints/"+id+"/pause", url.Values{"reason": {"a\x00b"}}, http.StatusBadRequest)
	b.post("/endpoints/new", url.Values{"name": {"a\xff"}}, http.StatusBadRequest)
	if len(b.control.asked) > 0 || b.control.created != nil {
		t.Errorf("the relay was asked for %q", b.control.asked)
	}
}
