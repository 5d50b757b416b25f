package dashboard

import (
	"bufio"
	"context"
	"errors"
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
	b.post("/replays/preview", url.Values{"rate": {"fast"}}, http.StatusConflict)
	id := b.control.replays[0].ID.String()
	b.part("/replays/"+id, http.StatusOK).has("61 %", "731 of 1,204 done", "Cancel")
	b.moved("/replays/"+id+"/cancel", nil, "/replays/"+id+"?done=cancelled")
	b.get("/replays/"+uuid.NewString(), http.StatusNotFound)
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
	b.get("/deliveries?type=a%00b", http.StatusOK).has("Filters are one line of text.")
	if len(b.control.filters) != 1 {
		t.Error("a filter that makes no sense was looked for")
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
	body := "it's $(touch /tmp/x) `id` \\ \"quoted\"\n"
	command := curlOf(&ledger.Request{Method: "POST", Headers: [][2]string{{"X-A", "'; rm -rf /"}}}, "https://a.example/?q='", []byte(body))
	out, err := exec.Command("sh", "-c", `curl() { for word in "$@"; do printf '%s\0' "$word"; done; }; `+command).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--request", "POST", "https://a.example/?q='", "--header", "X-A: '; rm -rf /", "--data-binary", body, ""}
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
		v := verifyingOf([]byte(effective), true)
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
	if v := verifyingOf([]byte(`{"signatures":[]}`), true); v != nil {
		t.Errorf("unsigned requests are verified by %+v", v)
	}
}
