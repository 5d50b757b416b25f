package dashboard

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

func TestActionsOnAnEndpoint(t *testing.T) {
	b := newBrowser(t, "admin")
	id := b.control.endpoints[0].ID.String()
	for path, test := range map[string]struct {
		form  url.Values
		to    string
		asked string
	}{
		"pause":  {url.Values{"reason": {"  a\r\nmove "}}, "/endpoints/" + id + "?done=paused", "pause " + id + " a move"},
		"resume": {nil, "/endpoints/" + id + "?done=resumed", "resume " + id},
		"enable": {nil, "/endpoints/" + id + "?done=enabled", "edit " + id + " 0"},
		"delete": {nil, "/endpoints?done=deleted", "delete " + id},
		"drain":  {nil, "/replays/" + b.control.replays[0].ID.String(), "replay"},
	} {
		b.control.asked = nil
		b.moved("/endpoints/"+id+"/"+path, test.form, test.to)
		if len(b.control.asked) != 1 || strings.Join(strings.Fields(b.control.asked[0]), " ") != test.asked {
			t.Errorf("%s asked for %q, want %q", path, b.control.asked, test.asked)
		}
	}
	if want := (ledger.ReplayRequest{States: []ledger.State{ledger.Pending}, Endpoint: id}); b.control.replay.Endpoint != want.Endpoint || !slices.Equal(b.control.replay.States, want.States) {
		t.Errorf("a drain asks for %+v, want %+v", b.control.replay, want)
	}
	b.control.err = ledger.Refused("it is disabled in the configuration")
	b.post("/endpoints/"+id+"/pause", nil, http.StatusConflict).has("It is disabled in the configuration.")
	w := b.send("/endpoints/"+id+"/pause", nil, true)
	p := b.page(w, "pause", http.StatusConflict)
	if len(p.named("h1")) > 0 || attr(p.named("p")[0], "role") != "alert" {
		t.Errorf("htmx gets %s", w.Body)
	}
}

func TestTestShowsItsResultInPlace(t *testing.T) {
	b := newBrowser(t, "admin")
	id := b.control.endpoints[0].ID.String()
	w := b.send("/endpoints/"+id+"/test", url.Values{"type": {"pr.submitted"}, "payload": {`{"a":1}`}}, true)
	p := b.page(w, "test", http.StatusOK)
	p.has("delivered", "HTTP 200", "97.1 ms", "DNS 2.1 ms, connect 11.2 ms, TLS 24.8 ms", "X-Byro-Signature")
	if len(p.named("h1", "nav")) > 0 {
		t.Error("htmx gets more than the result")
	}
	if want := `test ` + id + ` pr.submitted {"a":1}`; strings.Join(strings.Fields(b.control.asked[0]), " ") != want {
		t.Errorf("asked for %q, want %q", b.control.asked[0], want)
	}
	b.control.result.OK, b.control.result.Status, b.control.result.Error = false, 0, "no such host: erp.acme.example"
	b.post("/endpoints/"+id+"/test", nil, http.StatusOK).has("failed", "No answer", "no such host: erp.acme.example", "Recent deliveries")
	for status, hint := range map[int]string{401: "compare the secret", 404: "not at this path", 302: "not followed", 503: "its own log"} {
		b.control.result.Status = status
		b.post("/endpoints/"+id+"/test", nil, http.StatusOK).has(hint)
	}
	b.control.err = ledger.Refused("a transform skips the event")
	b.post("/endpoints/"+id+"/test", nil, http.StatusOK).has("Nothing was sent. A transform skips the event.")
	b.control.err = errors.New("secret of the database")
	b.post("/endpoints/"+id+"/test", nil, http.StatusServiceUnavailable).lacks("secret of the database")
	b.control.err, b.control.result.Status = nil, 503
	b.post("/events/pr.submitted/send", url.Values{"endpoint": {id}, "payload": {"{}"}}, http.StatusOK).has("its own log", "Sample payload")
}

func TestBulkRetryDoesWhatItsPreviewCounted(t *testing.T) {
	b := newBrowser(t, "admin")
	form := url.Values{"state": {"failed"}, "endpoint": {"acme-payroll"}, "type": {"pr.submitted"}, "from": {"2026-11-01T10:00"}}
	p := b.post("/failed/preview", form, http.StatusOK)
	p.has("1,204 deliveries would be retried", "acme-payroll", "900")
	p.sound()
	previewed := b.control.replay
	confirmed := url.Values{}
	for _, n := range p.named("input") {
		confirmed.Add(attr(n, "name"), attr(n, "value"))
	}
	b.moved("/failed/retry", confirmed, "/replays/"+b.control.replays[0].ID.String())
	got := b.control.replay
	if got.Endpoint != "acme-payroll" || got.Type != previewed.Type || !got.From.Equal(previewed.From) || !slices.Equal(got.States, []ledger.State{ledger.Failed}) || got.From.IsZero() {
		t.Errorf("the retry asks for %+v, its preview counted %+v", got, previewed)
	}
	b.post("/failed/preview", url.Values{"event": {"x"}}, http.StatusConflict).has("The event's id is a UUID.")
	b.post("/failed/preview", url.Values{"state": {"delivered"}}, http.StatusOK)
	if !slices.Equal(b.control.replay.States, []ledger.State{ledger.Failed}) {
		t.Errorf("a bulk retry is of %v", b.control.replay.States)
	}
}

func TestReplayDoesWhatItsPreviewCounted(t *testing.T) {
	b := newBrowser(t, "admin")
	form := url.Values{"state": {"delivered", "failed"}, "tenant": {"acme"}, "rate": {"25"}, "new_ids": {"1"}, "until": {"2026-11-01T10:00"}}
	p := b.post("/replays/preview", form, http.StatusOK)
	confirmed := url.Values{}
	for _, n := range p.named("input") {
		confirmed.Add(attr(n, "name"), attr(n, "value"))
	}
	b.moved("/replays/new", confirmed, "/replays/"+b.control.replays[0].ID.String())
	if got := b.control.replay; got.Tenant != "acme" || got.Rate != 25 || !got.NewIDs || len(got.States) != 2 || got.Until.IsZero() {
		t.Errorf("the replay asks for %+v", got)
	}
	id := b.control.replays[0].ID.String()
	b.part("/replays/"+id, http.StatusOK).has("61 %", "731 of 1,204 done", "Cancel")
	b.moved("/replays/"+id+"/cancel", nil, "/replays/"+id+"?done=cancelled")
	b.get("/replays/"+uuid.NewString(), http.StatusNotFound)
}

func TestReplaysAreWithinTheBoundsOfTheAPIs(t *testing.T) {
	b := newBrowser(t, "admin")
	for name, test := range map[string]struct {
		change url.Values
		want   string
	}{
		"of no state":         {url.Values{"state": nil}, "at least one of the states"},
		"of what is sent now": {url.Values{"state": {"failed", "sending"}}, "that are final"},
		"of all there is":     {url.Values{"endpoint": nil}, "all that there is"},
		"until a time only":   {url.Values{"endpoint": nil, "until": {"2026-11-01T10:00"}}, "all that there is"},
		"backwards":           {url.Values{"from": {"2026-11-02T10:00"}, "until": {"2026-11-01T10:00"}}, "from the earlier one"},
		"too fast":            {url.Values{"rate": {"1001"}}, "1 to 1000"},
		"at no rate":          {url.Values{"rate": {"0"}}, "1 to 1000"},
		"at a rate in words":  {url.Values{"rate": {"fast"}}, "1 to 1000"},
	} {
		form := url.Values{"state": {"failed"}, "endpoint": {"acme-erp"}, "rate": {"1000"}}
		maps.Copy(form, test.change)
		for _, path := range []string{"/replays/preview", "/replays/new"} {
			b.post(path, form, http.StatusConflict).has(test.want)
		}
		if b.control.replay.Endpoint != "" || len(b.control.asked) > 0 {
			t.Errorf("a replay %s is asked for", name)
		}
	}
	b.post("/replays/preview", url.Values{"state": {"failed"}, "within": {"1h"}, "rate": {"1000"}}, http.StatusOK)
}

func TestPagesThatWaitForAnEndLoadAgainOnceItCame(t *testing.T) {
	b := newBrowser(t, "admin")
	final, pending := b.control.deliveries[0].ID.String(), b.control.deliveries[6].ID.String()
	for path, want := range map[string]string{
		"/deliveries/" + final: "true", "/deliveries/" + pending: "", "/replays/" + b.control.replays[0].ID.String(): "", "/replays/" + b.control.replays[1].ID.String(): "true",
	} {
		r := httptest.NewRequest(http.MethodGet, Base+path, http.NoBody)
		r.Header.Set("HX-Request", "true")
		if got := b.do(r).Header().Get("HX-Refresh"); got != want {
			t.Errorf("%s: HX-Refresh is %q, want %q", path, got, want)
		}
		polls := len(b.get(path, http.StatusOK).all(func(n *html.Node) bool { return strings.HasPrefix(attr(n, "hx-trigger"), "every") })) > 0
		if polls == (want == "true") {
			t.Errorf("%s asks again and again: %v", path, polls)
		}
	}
}

func TestListsHeedTheirFilters(t *testing.T) {
	b := newBrowser(t, "admin")
	event := uuid.New()
	b.get("/deliveries?state=failed&state=pending&state=nonsense&endpoint=+acme-erp+&type=pr.submitted&tenant=acme&event="+event.String()+"&from=2026-11-01T10:00&until=2026-11-02T10:00", http.StatusOK)
	f := b.control.filters[0]
	if !slices.Equal(f.States, []ledger.State{ledger.Failed, ledger.Pending}) || f.Endpoint != "acme-erp" || f.Type != "pr.submitted" || f.Tenant != "acme" || f.Event != event ||
		!f.From.Equal(time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)) || !f.Until.Equal(time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)) || f.Limit != pageSize+1 {
		t.Errorf("the list asks for %+v", f)
	}
	b.get("/deliveries?event=nonsense", http.StatusOK).has("The event's id is a UUID.", "Nothing matches.")
	b.get("/deliveries?from=yesterday", http.StatusOK).has("in UTC")
	b.get("/deliveries?type=a%01b", http.StatusOK).has("Filters are one line of text.")
	if len(b.control.filters) != 1 {
		t.Error("a filter that makes no sense was looked for")
	}
}

func TestAuditIsFoundByWhoWhatWhenAndWhose(t *testing.T) {
	const query = "actor=web%3Aops&action=endpoint.pause&from=2026-11-01T10%3A00&subject=7&tenant=acme&until=2026-11-02T10%3A00"
	b := newBrowser(t, "admin")
	b.control.entries = slices.Repeat([]ledger.AuditEntry{{ID: 7, Action: "endpoint.pause"}}, pageSize+1)
	p := b.get("/audit?"+query, http.StatusOK)
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	want := ledger.AuditFilter{Actor: "web:ops", Action: "endpoint.pause", Subject: "7", Tenant: "acme", From: at, Until: at.AddDate(0, 0, 1), Limit: pageSize + 1}
	if got := b.control.audits[0]; got != want {
		t.Errorf("the audit is asked for %+v, want %+v", got, want)
	}
	for id, value := range map[string]string{"audit-tenant": "acme", "audit-from": "2026-11-01T10:00", "audit-until": "2026-11-02T10:00"} {
		if got := attr(p.id(id), "value"); got != value {
			t.Errorf("%s has %q, want %q", id, got, value)
		}
	}
	for _, n := range p.all(func(n *html.Node) bool { return attr(n, "rel") == "next" }) {
		next, _ := url.Parse(attr(n, "href"))
		if v := next.Query(); v.Get("before") != "7" || v.Get("tenant") != "acme" || v.Get("from") != "2026-11-01T10:00" || v.Get("until") != "2026-11-02T10:00" {
			t.Errorf("the next page is %s", next)
		}
	}
	b.get("/audit?from=yesterday", http.StatusOK).has("in UTC", "Nothing matches.")
	b.get("/audit?from=2026-11-02T10:00&until=2026-11-01T10:00", http.StatusOK).has("from the earlier one until the later one")
	if len(b.control.audits) != 1 {
		t.Error("a filter that makes no sense was looked for")
	}
	b = newBrowser(t, "portal")
	if p := b.get("/audit?tenant=globex", http.StatusOK); p.id("audit-tenant") != nil || b.control.audits[0].Tenant != "" {
		t.Error("a tenant's caller can ask for another tenant's")
	}
}

func TestTabsKeepTheFilter(t *testing.T) {
	b := newBrowser(t, "admin")
	for path, want := range map[string]string{
		"/deliveries?endpoint=a%26b&type=c&state=failed": "/deliveries?endpoint=a%26b&state=pending&type=c", "/deliveries?state=failed": "/deliveries?state=pending", "/failed?endpoint=a%26b": "/failed?endpoint=a%26b&state=pending",
	} {
		p := b.get(path, http.StatusOK)
		if len(p.all(func(n *html.Node) bool { return n.Data == "a" && attr(n, "href") == Base+want })) != 1 {
			t.Errorf("%s has no link to %s", path, want)
		}
	}
}

func TestListsArePagedToTheirEnd(t *testing.T) {
	b := newBrowser(t, "admin")
	seen := map[string]bool{}
	for path := "/deliveries"; path != ""; {
		p := b.get(path, http.StatusOK)
		path = ""
		for _, n := range p.named("a") {
			if id := attr(n, "id"); strings.HasPrefix(id, "d-") {
				seen[id] = true
			}
			if attr(n, "rel") == "next" {
				path = strings.TrimPrefix(attr(n, "href"), Base)
			}
		}
	}
	if len(seen) != len(b.control.deliveries) {
		t.Errorf("the pages show %d deliveries, want %d", len(seen), len(b.control.deliveries))
	}
	for _, cursor := range []string{"x", "////", strings.Repeat("A", 32), strings.Repeat("_", 32)} {
		b.get("/deliveries?after="+url.QueryEscape(cursor), http.StatusOK)
	}
}

func TestLivePageSendsWhatChanged(t *testing.T) {
	b := newBrowser(t, "admin")
	b.d.liveEvery = time.Millisecond
	changes := &changingControl{fakeControl: b.control, more: make(chan ledger.Delivery, 1)}
	b.d.Control = changes
	server := httptest.NewServer(b.d)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+Base+"/deliveries/live?state=failed", http.NoBody)
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("the live page is %s", kind)
	}
	lines := bufio.NewScanner(answer.Body)
	until := func(text string) (events int) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == "event: rows" {
				events++
			}
			if strings.Contains(lines.Text(), text) {
				return events
			}
		}
		t.Fatalf("the stream ended without %q", text)
		return 0
	}
	until("<tr>")
	changes.more <- ledger.Delivery{ID: uuid.New(), Type: "something.new", State: ledger.Failed, CreatedAt: time.Now()}
	if events := until("something.new"); events != 1 {
		t.Errorf("%d events came for one change", events)
	}
}

// changingControl lists further deliveries once they come.
type changingControl struct {
	*fakeControl
	more  chan ledger.Delivery
	fresh []ledger.Delivery
}

func (c *changingControl) List(context.Context, *admin.Caller, ledger.Filter) ([]ledger.Delivery, error) {
	select {
	case d := <-c.more:
		c.fresh = append(c.fresh, d)
	default:
	}
	return append(slices.Clone(c.fresh), c.deliveries[1].Delivery), nil
}

func TestCurlCommandIsOneCommandWhateverIsInIt(t *testing.T) {
	body := "@/etc/passwd it's $(touch /tmp/x) `id` \\ \"quoted\"\n"
	command := curlOf(&ledger.Request{Method: "POST", Headers: [][2]string{{"X-A", "'; rm -rf /"}}}, "https://a.example/?q='", []byte(body), 0)
	out, err := exec.Command("sh", "-c", `curl() { for word in "$@"; do printf '%s\0' "$word"; done; }; `+command).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--globoff", "--request", "POST", "https://a.example/?q='", "--header", "X-A: '; rm -rf /", "--data-raw", body, ""}
	if got := strings.Split(string(out), "\x00"); !slices.Equal(got, want) {
		t.Errorf("the shell reads %q, want %q", got, want)
	}
}

func TestVerifyingSaysWhatTheProductsSign(t *testing.T) {
	for effective, want := range map[string][]string{
		`{"signatures":[{"scheme":"hmac","header":"X-Byro-Signature","algorithm":"sha256","encoding":"hex"}]}`:                    {"X-Byro-Signature", "hex HMAC-SHA256 of the raw body", `crypto.createHmac("sha256", secret).update(rawBody).digest("hex")`},
		`{"signatures":[{"scheme":"hmac","header":"X-Danbyte-Signature","algorithm":"sha512","value":"sha512={signature}"}]}`:     {"X-Danbyte-Signature", "HMAC-SHA512", `"sha512=" + crypto`},
		`{"signatures":[{"scheme":"hmac","header":"X-Bindbee-Webhook-Signature","encoding":"base64url"}]}`:                        {"base64url HMAC-SHA256", `digest("base64url")`},
		`{"signatures":[{"scheme":"hmac","header":"X-S","content":"{timestamp}.{body}","value":"t={timestamp},v1={signature}"}]}`: {"{timestamp}.{body}", "t={timestamp},v1={signature}"},
		`{"signatures":[{"scheme":"github"}]}`:                            {"X-Hub-Signature-256", `"sha256=" + crypto`},
		`{"signatures":[{"scheme":"stripe"}]}`:                            {"Stripe-Signature", "constructEvent"},
		`{"signatures":[{"scheme":"standard-webhooks","prefix":"svix"}]}`: {"svix-signature", "standardwebhooks"},
		`{}`: {"webhook-signature"},
	} {
		v := verifyingOf([]byte(effective), true, "")
		if v == nil {
			t.Fatalf("%s: nothing", effective)
		}
		text := v.Header + " " + v.What + " " + v.Node
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q lacks %q", effective, text, w)
			}
		}
	}
	if v := verifyingOf([]byte(`{"signatures":[{"scheme":"standard-webhooks","prefix":"svix"}]}`), true, "whpk_x"); v.Header != "svix-signature" || !strings.Contains(v.What, "Ed25519") || !strings.Contains(v.Node, `headers["svix-timestamp"]`) {
		t.Errorf("by a public key requests are verified by %+v", v)
	}
	if v := verifyingOf([]byte(`{"signatures":[]}`), true, ""); v != nil {
		t.Errorf("unsigned requests are verified by %+v", v)
	}
}
