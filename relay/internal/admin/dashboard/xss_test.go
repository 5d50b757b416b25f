package dashboard

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// evil is what somebody outside may have put wherever a text can be put.
const evil = `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}</textarea></code>javascript:alert(3)`

// poison puts evil into all texts of the made-up relay that come from outside.
func (f *fakeControl) poison() {
	quoted, _ := json.Marshal(evil)
	document := json.RawMessage(`{"name":` + string(quoted) + `,"url":` + string(quoted) + `,"events":[` + string(quoted) + `],"headers":{` + string(quoted) + `:` + string(quoted) + `},"odd":` + string(quoted) +
		`,"signatures":[{"scheme":"hmac","header":` + string(quoted) + `}],"retry":{"schedule":["1s"]}}`)
	for i := range f.endpoints {
		e := &f.endpoints[i]
		e.Name, e.URL, e.Reason, e.CreatedBy, e.Document, e.Effective, e.Origin, e.Pending = evil, evil, evil, evil, document, document, ledger.OfAPI, 3
	}
	for i := range f.deliveries {
		d := &f.deliveries[i]
		d.Type, d.Endpoint, d.Key, d.Error, d.Payload = evil, evil, evil, evil, []byte(evil)
		d.Request = &ledger.Request{Method: evil, Headers: [][2]string{{evil, evil}}, Body: []byte(evil)}
		for j := range d.Tries {
			d.Tries[j].Error, d.Tries[j].Response, d.Tries[j].Outcome = evil, []byte(evil), evil
		}
	}
	for i := range f.replays {
		r := &f.replays[i]
		r.Request.Endpoint, r.Request.Type, r.CreatedBy, r.Error = evil, evil, evil, evil
	}
	for i := range f.entries {
		e := &f.entries[i]
		e.Actor, e.From, e.Action, e.Subject, e.Detail, e.Before, e.After = evil, evil, evil, evil, quoted, quoted, quoted
	}
	for i := range f.catalogue {
		f.catalogue[i].Title, f.catalogue[i].Group, f.catalogue[i].Example, f.catalogue[i].Schema = evil, evil, quoted, quoted
	}
	f.catalogue = append(f.catalogue, admin.EventType{Type: evil})
	f.result = &admin.TestResult{Error: evil, Method: evil, URL: evil, Headers: [][2]string{{evil, evil}}, Body: evil, Response: evil, Notes: []string{evil}}
}

// harmless checks that nothing of a page but its own elements came to be.
func (p *page) harmless() {
	p.t.Helper()
	for _, n := range p.all(func(*html.Node) bool { return true }) {
		if n.Data == "img" || n.Data == "script" && (n.FirstChild != nil || !strings.HasPrefix(attr(n, "src"), Base)) {
			p.t.Errorf("%s has a <%s> that was put into it", p.path, n.Data)
		}
		for _, a := range n.Attr {
			leads := slices.Contains([]string{"href", "src", "action", "formaction", "hx-get", "hx-post", "sse-connect"}, a.Key)
			if strings.HasPrefix(a.Key, "on") || leads && !strings.HasPrefix(a.Val, Base) && !strings.HasPrefix(a.Val, "#") {
				p.t.Errorf("%s has <%s %s=%q>", p.path, n.Data, a.Key, a.Val)
			}
		}
	}
}

func TestTextsFromOutsideStayTexts(t *testing.T) {
	for who := range people {
		b := newBrowser(t, who)
		b.control.poison()
		for path, to := range pagesOf(b.control) {
			if !slices.Contains(to, who) {
				continue
			}
			p := b.get(path, http.StatusOK)
			p.harmless()
			p.sound()
		}
	}
	b := newBrowser(t, "admin")
	b.control.poison()
	b.get("/events/"+url.PathEscape(evil), http.StatusOK).harmless()
	endpoint := b.control.endpoints[0].ID.String()
	for path, form := range map[string]url.Values{
		"/endpoints/" + endpoint + "/test":   {"type": {evil}, "payload": {evil}},
		"/endpoints/" + endpoint + "/secret": {"grace": {"1h"}, "secret": {evil}},
		"/events/pr.submitted/send":          {"endpoint": {evil}, "payload": {evil}},
		"/failed/preview":                    {"endpoint": {evil}, "type": {evil}, "tenant": {evil}},
	} {
		p := b.post(path, form, http.StatusOK)
		p.harmless()
		if !strings.Contains(p.text, "alert(1)") {
			t.Errorf("%s does not have the text at all", path)
		}
	}
	b.control.invalid = invalid("url", evil, evil, evil, "events[0]", evil)
	form := url.Values{}
	for _, name := range []string{"name", "url", "tenant", "headers", "body", "event", "patterns", "objects", "retry_schedule", "filter"} {
		form.Set(name, evil)
	}
	p := b.post("/endpoints/new", form, http.StatusUnprocessableEntity)
	p.harmless()
	p.sound()
	p.has("alert(1)")
	b.control.invalid, b.control.err = nil, ledger.Refused("%s", evil)
	b.post("/endpoints/"+endpoint+"/pause", url.Values{}, http.StatusConflict).harmless()
	for _, query := range []string{"?endpoint=", "?from=", "?event=", "?type=", "?within=", "?after=", "?search=", "?actor=", "?span=", "?done=", "?state="} {
		for _, path := range []string{"/deliveries", "/failed", "/endpoints", "/events", "/audit", "/overview", "/replays/new", "/replays"} {
			b.get(path+query+url.QueryEscape(evil), http.StatusOK).harmless()
		}
	}
}
