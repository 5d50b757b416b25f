package dashboard

import (
	"encoding/json"
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

// pagesOf returns the paths of all pages, and whom they answer.
func pagesOf(f *fakeControl) map[string][]string {
	everybody, operators, staff := []string{"admin", "viewer", "portal"}, []string{"admin", "portal"}, []string{"admin", "viewer"}
	endpoint, failed, delivered := f.endpoints[0].ID.String(), "", ""
	for _, d := range f.deliveries {
		switch {
		case d.Tenant != "acme":
		case d.State == "failed":
			failed = d.ID.String()
		case d.State == "delivered":
			delivered = d.ID.String()
		}
	}
	return map[string][]string{
		"/overview": staff, "/overview?span=7d": staff,
		"/endpoints": everybody, "/endpoints?show=trouble": everybody, "/endpoints?search=nothing-has-this": everybody,
		"/endpoints/new": operators, "/endpoints/" + endpoint: everybody, "/endpoints/" + endpoint + "/edit": operators, "/endpoints/" + endpoint + "/delete": operators,
		"/deliveries": everybody, "/deliveries?type=nothing": everybody, "/deliveries?event=nonsense": everybody,
		"/deliveries/" + failed: everybody, "/deliveries/" + delivered: everybody,
		"/failed": everybody, "/failed?state=pending": everybody,
		"/replays": staff, "/replays/new": {"admin"}, "/replays/" + f.replays[0].ID.String(): everybody, "/replays/" + f.replays[1].ID.String(): everybody,
		"/events": everybody, "/events/pr.submitted": everybody, "/events/pr.closed": everybody,
		"/audit": operators, "/settings": {"admin"},
	}
}

func TestEveryPageIsSoundForEverybodyWhoMayOpenIt(t *testing.T) {
	for who := range people {
		t.Run(who, func(t *testing.T) {
			b := newBrowser(t, who)
			for path, to := range pagesOf(b.control) {
				if slices.Contains(to, who) {
					b.get(path, http.StatusOK).sound()
				} else if w := b.do(httptest.NewRequest(http.MethodGet, Base+path, http.NoBody)); w.Code != http.StatusForbidden && w.Code != http.StatusNotFound {
					t.Errorf("%s answers %s with %d", path, who, w.Code)
				}
			}
			b.get("/nothing", http.StatusNotFound).sound()
		})
	}
}

// sound checks what holds of every page: the policy for contents, and what
// people need who do not see it, or do not point at it.
func (p *page) sound() {
	p.t.Helper()
	wrong := func(n *html.Node, what string) {
		p.t.Helper()
		p.t.Errorf("%s: <%s id=%q name=%q class=%q> %s", p.path, n.Data, attr(n, "id"), attr(n, "name"), attr(n, "class"), what)
	}
	seen := map[string]bool{}
	for _, n := range p.all(func(*html.Node) bool { return true }) {
		for _, a := range n.Attr {
			switch {
			case a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") || strings.HasPrefix(a.Key, "hx-vars"):
				wrong(n, "has the inline "+a.Key)
			case (a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "formaction") && !strings.HasPrefix(a.Val, Base) && !strings.HasPrefix(a.Val, "#"):
				wrong(n, "leads to "+a.Val)
			case a.Key == "aria-describedby" || a.Key == "aria-labelledby" || a.Key == "aria-controls" || n.Data == "label" && a.Key == "for":
				for _, id := range strings.Fields(a.Val) {
					if p.id(id) == nil {
						wrong(n, a.Key+" names "+id+", which is not there")
					}
				}
			case a.Key == "id" && seen[a.Val]:
				wrong(n, "has an id that another has")
			case a.Key == "id":
				seen[a.Val] = true
			}
		}
		switch n.Data {
		case "style":
			wrong(n, "is inline")
		case "script":
			if !strings.HasPrefix(attr(n, "src"), Base+"/assets/") || n.FirstChild != nil {
				wrong(n, "is inline")
			}
		case "input", "select", "textarea":
			if attr(n, "type") != "hidden" && !p.labelled(n) {
				wrong(n, "has no label")
			}
		case "button", "a", "summary", "h1", "h2", "h3", "caption", "legend", "option":
			if words(n) == "" && attr(n, "aria-label") == "" && n.Data != "option" {
				wrong(n, "says nothing")
			}
		case "table":
			if !slices.ContainsFunc(children(n), func(c *html.Node) bool { return c.Data == "caption" }) {
				wrong(n, "has no caption")
			}
		case "th":
			if attr(n, "scope") == "" || words(n) == "" {
				wrong(n, "has no scope or says nothing")
			}
		case "svg":
			if attr(n, "aria-hidden") != "true" && (attr(n, "role") != "img" || attr(n, "aria-label") == "") {
				wrong(n, "is neither hidden nor named")
			}
		case "nav", "section":
			if attr(n, "aria-label") == "" && attr(n, "aria-labelledby") == "" && p.repeated(n.Data) && attr(n, "class") != "" {
				wrong(n, "is one of several landmarks and has no name")
			}
		}
	}
	for name, count := range map[string]int{"h1": 1, "main": 1} {
		if got := len(p.named(name)); got != count {
			p.t.Errorf("%s has %d <%s>", p.path, got, name)
		}
	}
	if lang := attr(p.named("html")[0], "lang"); lang != "en" {
		p.t.Errorf("%s is in %q", p.path, lang)
	}
}

func (p *page) repeated(name string) bool { return len(p.named(name)) > 1 }

func (p *page) labelled(n *html.Node) bool {
	if attr(n, "aria-label") != "" {
		return true
	}
	for a := range n.Ancestors() {
		if a.Data == "label" {
			return true
		}
	}
	id := attr(n, "id")
	return id != "" && len(p.all(func(l *html.Node) bool { return l.Data == "label" && attr(l, "for") == id && words(l) != "" })) == 1
}

func children(n *html.Node) []*html.Node {
	var list []*html.Node
	for c := range n.ChildNodes() {
		list = append(list, c)
	}
	return list
}

func TestPagesShowWhatTheyAreFor(t *testing.T) {
	b := newBrowser(t, "admin")
	endpoint := "/endpoints/" + b.control.endpoints[1].ID.String()
	for path, want := range map[string][]string{
		"/overview":                      {"41.4", "96.2", "99.31 %", "18 ms p50", "410 ms p99", "1,534", "182 KiB", "48 MiB", "acme-payroll", "auto-paused", "gone"},
		"/endpoints":                     {"acme-erp", "https://erp.acme.example/hooks/byro", "healthy", "failing", "1,204", "maintenance until noon", "New endpoint"},
		"/endpoints?show=paused":         {"globex-archive", "offly-hr"},
		"/endpoints?search=DANBYTE":      {"automation", "cmdb"},
		endpoint:                         {"Drain 1,204", "Send a test", "X-Byro-Signature", "7 h 12 min", "±10 %", "Rotate the secret", "Delete this endpoint", "made here by web:ops"},
		"/failed?state=pending":          {"globex-archive", "318", "when resumed", "Send all of these now"},
		"/failed":                        {"the receiver answered 500 Internal Server Error", "Retry all of these"},
		"/replays":                       {"running", "731 of 1,204, 4 skipped", "failed deliveries to acme-payroll", "under new ids"},
		"/events":                        {"pr.submitted", "PR submitted", "sample", "schema", "inventory.low_stock"},
		"/events/pr.submitted":           {`"prId": "clx123"`, `"minimum": 0`, "Send it as a test"},
		"/audit":                         {"endpoint.pause", "portal:acme/jane", "from 192.0.2.17", "Older ones"},
		"/settings":                      {"slot: posthorn", "***"},
		"/endpoints/new":                 {"required", "pr.submitted", "Generate one, and show it once", "CEL"},
		"/endpoints?done=deleted":        {"The endpoint was deleted."},
		"/deliveries?state=failed&done=": {"failed", "Live"},
	} {
		b.get(path, http.StatusOK).has(want...)
	}
	b.get("/endpoints?show=paused", http.StatusOK).lacks("acme-erp")
	b.get("/endpoints?done=%3Cb%3Eany+words", http.StatusOK).lacks("any words")
}

func TestDeliveryShowsItsWayFromTheCommit(t *testing.T) {
	b := newBrowser(t, "admin")
	d := b.control.deliveries[1] // failed after four attempts
	p := b.get("/deliveries/"+d.ID.String(), http.StatusOK)
	p.has("Committed by the application", "34 ms on its way", "Attempt 1", "+34 ms", "DNS 2 ms, connect 14 ms, TLS 31 ms", "no answer within 10s", "Attempt 4", "database is locked",
		`"event": "pr.submitted"`, "curl --globoff --request 'POST' 'https://hooks.globex.example/byro?token=***'", `it'\''s`, "Retry now", "How a receiver verifies it", "openssl dgst -sha256")
	if steps := p.all(func(n *html.Node) bool { return n.Data == "svg" && attr(n, "class") == "segments" }); len(steps) != 4 {
		t.Errorf("%d attempts have their timings drawn, want 4", len(steps))
	}
	b.moved("/deliveries/"+d.ID.String()+"/retry", nil, "/deliveries/"+d.ID.String()+"?done=retried")
	if !slices.Contains(b.control.asked, "retry "+d.ID.String()) {
		t.Errorf("asked for %q, want a retry", b.control.asked)
	}
}

func TestViewersSeeNoPayloadsAndNothingTheyCannotUse(t *testing.T) {
	b := newBrowser(t, "viewer")
	for path, to := range pagesOf(b.control) {
		if !slices.Contains(to, "viewer") {
			continue
		}
		p := b.get(path, http.StatusOK)
		for _, n := range p.all(func(n *html.Node) bool { return hasAttr(n, "hx-post") || strings.EqualFold(attr(n, "method"), "post") }) {
			if attr(n, "action") != Base+"/logout" {
				t.Errorf("%s has a form that a viewer cannot use: %v", path, n.Attr)
			}
		}
		p.lacks("database is locked", "&#34;urgent", "deliveredAt", "curl --globoff", Base+"/endpoints/new\"", "/edit\"", Base+"/settings", Base+"/audit")
	}
}

// changing are the forms, with an endpoint's or delivery's id.
func changing(f *fakeControl) []string {
	endpoint, delivery, replay := f.endpoints[0].ID.String(), f.deliveries[1].ID.String(), f.replays[0].ID.String()
	list := []string{"/endpoints/new", "/endpoints/check", "/deliveries/" + delivery + "/retry", "/failed/preview", "/failed/retry", "/replays/preview", "/replays/new", "/replays/" + replay + "/cancel", "/events/pr.submitted/send"}
	for _, verb := range []string{"edit", "check", "pause", "resume", "enable", "drain", "test", "secret", "delete"} {
		list = append(list, "/endpoints/"+endpoint+"/"+verb)
	}
	return list
}

func TestViewersChangeNothing(t *testing.T) {
	b := newBrowser(t, "viewer")
	for _, path := range changing(b.control) {
		b.post(path, url.Values{}, http.StatusForbidden).has("Your role does not allow this.")
	}
	if len(b.control.asked) > 0 || b.control.created != nil || b.control.patched != nil {
		t.Errorf("the relay was asked for %q", b.control.asked)
	}
}

func TestPortalHasItsOwnPagesAndFieldsOnly(t *testing.T) {
	b := newBrowser(t, "portal")
	b.d.Snapshot = func() admin.Snapshot { return admin.Snapshot{Role: admin.RoleStandby} }
	if text := b.get("/endpoints", http.StatusOK).text; strings.Contains(text, admin.RoleStandby) {
		t.Errorf("a tenant is told that the relay is a standby: %s", text)
	}
	p := b.get("/endpoints", http.StatusOK)
	var names []string
	for _, n := range p.all(func(n *html.Node) bool {
		return n.Data == "a" && n.Parent.Data == "li" && attr(n.Parent.Parent.Parent, "id") == "navigation"
	}) {
		names = append(names, words(n))
	}
	if want := []string{"Endpoints", "Deliveries", "Failed", "Events", "Audit"}; !slices.Equal(names, want) {
		t.Errorf("the navigation has %q, want %q", names, want)
	}
	p.has("acme-erp")
	p.lacks("globex-archive", "offly-hr")
	form := b.get("/endpoints/new", http.StatusOK)
	for _, name := range []string{"tenant", "profile", "filter", "timeout", "body", "more", "concurrency", "retry_schedule"} {
		if form.id(name) != nil {
			t.Errorf("the form has %s, which a portal's caller may not set", name)
		}
	}
	for _, name := range []string{"name", "url", "enabled", "method", "content_type", "headers", "tls_verify", "secret", "objects"} {
		if form.id(name) == nil {
			t.Errorf("the form lacks %s", name)
		}
	}
	for _, path := range []string{"/overview", "/replays", "/settings", "/stats", "/endpoints/" + b.control.endpoints[2].ID.String()} {
		b.get(path, http.StatusNotFound)
	}
	for _, path := range []string{"/replays/new", "/replays/preview"} {
		b.post(path, url.Values{}, http.StatusNotFound)
	}
}

func TestHomeLeadsToTheFirstPageOfEachCaller(t *testing.T) {
	for who, want := range map[string]string{"admin": "/overview", "viewer": "/overview", "portal": "/endpoints"} {
		b := newBrowser(t, who)
		for _, path := range []string{"", "/"} {
			w := b.do(httptest.NewRequest(http.MethodGet, Base+path, http.NoBody))
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != Base+want {
				t.Errorf("%s is led from %q to %q, want %q", who, path, w.Header().Get("Location"), Base+want)
			}
		}
	}
}

func TestAssetsAreServedByWhatIsInThem(t *testing.T) {
	b := newBrowser(t, "viewer")
	address := ownAssets().address
	for name, kind := range map[string]string{
		"app.css": "text/css", "app.js": "javascript", "htmx-2.0.11.min.js": "javascript", "pico-2.1.1.min.css": "text/css", "uplot.LICENSE": "text/plain", "icon.svg": "image/svg+xml",
	} {
		w := b.do(httptest.NewRequest(http.MethodGet, address+name, http.NoBody))
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Content-Type"), kind) || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	for _, library := range []string{"htmx", "htmx-ext-sse", "pico", "uplot"} {
		if len(ownAssets().files[library+".LICENSE"]) == 0 {
			t.Errorf("%s has no licence", library)
		}
	}
	for _, path := range []string{Base + "/assets/0123/app.css", address + "none.css", address + "..%2fassets.go"} {
		if w := b.do(httptest.NewRequest(http.MethodGet, path, http.NoBody)); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
	for _, own := range []string{"app.css", "app.js", "icon.svg"} {
		text := strings.ReplaceAll(string(ownAssets().files[own]), "http://www.w3.org/2000/svg", "")
		if strings.Contains(text, "//fonts") || strings.Contains(text, "http://") || strings.Contains(text, "https://") {
			t.Errorf("%s loads from elsewhere", own)
		}
	}
}

func TestChartsHaveGapsWhereNothingIsKnown(t *testing.T) {
	retained := int64(7)
	points := []ledger.Point{{}, {Attempts: 4, FailedAttempts: 1, Delivered: 3, P50: time.Millisecond, Peak: &ledger.Levels{Parked: 2, Unsettled: time.Second, SlotRetained: &retained}}}
	text, err := json.Marshal(seriesOf(points, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"delivered":[0,0.3]`, `"p50":[null,1]`, `"share":[null,0.75]`, `"parked":[null,2]`, `"unsettled":[null,1000]`, `"lag":[null,null]`, `"retained":[null,7]`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %s: %s", want, text)
		}
	}
}
