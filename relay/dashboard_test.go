package relay

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestDashboardShowsTheRunningRelayWithoutSecrets(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(apiEndpoints, echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('pr.made', '{"n": 1}');`)
	failed := c.waitDeliveries(t, "endpoint=ill", 1)[0]
	delivered := c.waitDeliveries(t, "endpoint=erp", 1)[0]
	for path, want := range map[string]string{
		"/overview": "From commit to delivered", "/endpoints": "a b/c", "/endpoints/" + delivered.EndpointID.String(): "it is changed there", "/endpoints/" + failed.EndpointID.String(): "Retry forecast",
		"/endpoints/" + delivered.EndpointID.String() + "/bars": "<svg", "/stats?span=24h": `"delivered":[`, "/endpoints/new": "New endpoint",
		"/deliveries": delivered.ID.String(), "/deliveries?state=delivered&state=failed&within=1h&type=pr.made&endpoint=erp": delivered.ID.String(),
		"/deliveries/" + delivered.ID.String(): "Request", "/deliveries/" + failed.ID.String(): "Attempt 1", "/failed": "Failed and parked", "/failed?state=pending": failed.ID.String(),
		"/replays": "No replays yet", "/replays/new": "Nothing happens before", "/events": "PR made", "/events/pr.made": "Send it as a test", "/audit": "Nothing here can be changed", "/settings": "slot: ",
	} {
		if got := c.ask(t, "operator", "GET", "/admin/webhooks"+path, ""); got.status != http.StatusOK || !strings.Contains(string(got.body), want) {
			t.Errorf("%s answers %d without %q:\n%s", path, got.status, want, got.body)
		}
	}
	for path, want := range map[string]int{"/settings": 403, "/audit": 403, "/endpoints/new": 403, "/deliveries/" + uuid.NewString(): 404, "/endpoints/" + uuid.NewString(): 404, "/nothing": 404} {
		if got := c.ask(t, "viewer", "GET", "/admin/webhooks"+path, ""); got.status != want {
			t.Errorf("%s answers a viewer %d, want %d", path, got.status, want)
		}
	}
	if got := c.ask(t, "", "GET", "/admin/webhooks/overview", ""); got.status != http.StatusOK || !strings.Contains(string(got.body), "Log in") {
		t.Errorf("somebody unknown is answered %d %s", got.status, got.body)
	}
}

func TestDashboardTellsATenantOfItsOwnOnly(t *testing.T) {
	c, deliveries := tenants(t)
	acme := c.portal(t, "acme", "operator")
	for _, path := range []string{"", "/endpoints", "/deliveries", "/failed", "/failed?state=pending", "/events", "/audit", "/endpoints/" + deliveries["acme-erp"].EndpointID.String(), "/deliveries/" + deliveries["acme-ill"].ID.String(), "/deliveries?endpoint=bravo-erp"} {
		got := acme.ask(t, "", "GET", "/admin/webhooks"+path, "")
		text := strings.ReplaceAll(string(got.body), `value="bravo-erp"`, "") // of the filter that was sent
		text = strings.ReplaceAll(text, "endpoint=bravo-erp", "")
		if got.status != http.StatusOK || strings.Contains(text, "bravo") {
			t.Errorf("%s answers a tenant %d: %s", path, got.status, got.body)
		}
	}
	for _, foreign := range []string{"bravo-erp", "bravo-ill", "all-bravo"} {
		endpoint, delivery := "/endpoints/"+deliveries[foreign].EndpointID.String(), "/deliveries/"+deliveries[foreign].ID.String()
		for _, path := range []string{endpoint, endpoint + "/edit", endpoint + "/delete", delivery, "/endpoints/" + foreign} {
			if got := acme.ask(t, "", "GET", "/admin/webhooks"+path, ""); got.status != http.StatusNotFound {
				t.Errorf("GET %s answers a tenant %d", path, got.status)
			}
		}
		for _, path := range []string{endpoint + "/pause", endpoint + "/resume", endpoint + "/enable", endpoint + "/drain", endpoint + "/test", endpoint + "/delete", endpoint + "/edit", endpoint + "/check", delivery + "/retry"} {
			if got := acme.ask(t, "", "POST", "/admin/webhooks"+path, ""); got.status != http.StatusNotFound {
				t.Errorf("POST %s answers a tenant %d %s", path, got.status, got.body)
			}
		}
	}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func TestDashboardsFormsWorkWithoutScripts(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(tenantEndpoints, echo(t)))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string, form url.Values) (int, string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.address+"/admin/webhooks"+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", "http://"+c.address)
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Request.URL.Path, string(text)
	}
	if _, path, _ := ask("POST", "/login", url.Values{"token": {"operator-0102030405060708090a"}}); path != "/admin/webhooks/overview" {
		t.Fatalf("the login leads to %s", path)
	}
	form := url.Values{"name": {"made"}, "url": {"https://made.example/"}, "enabled": {"true"}, "by": {"events"}, "event": {"pr.made"}, "secret_kind": {"generate"}}
	if status, _, text := ask("POST", "/endpoints/new", form); status != http.StatusForbidden {
		t.Fatalf("a form without the session's token is answered %d %s", status, text)
	}
	_, _, text := ask("GET", "/endpoints/new", nil)
	token := csrfField.FindStringSubmatch(text)
	if token == nil {
		t.Fatalf("the form has no token: %s", text)
	}
	form.Set("csrf", token[1])
	form.Set("timeout", "soon")
	if status, _, text := ask("POST", "/endpoints/new", form); status != http.StatusUnprocessableEntity || !strings.Contains(text, "must be a duration") {
		t.Errorf("a wrong form is answered %d %s", status, text)
	}
	form.Set("timeout", "5s")
	status, _, text := ask("POST", "/endpoints/new", form)
	if status != http.StatusOK || !strings.Contains(text, "whsec_") {
		t.Fatalf("the form is answered %d %s", status, text)
	}
	id := db.text(t, `SELECT id FROM posthorn.definitions WHERE name = 'made'`)
	for _, step := range []struct{ path, want string }{
		{"pause", "Its events are kept until it is resumed."}, {"resume", "What waited is sent first."}, {"enable", "The endpoint is enabled."}, {"delete", "The endpoint was deleted."},
	} {
		if status, _, text := ask("POST", "/endpoints/"+id+"/"+step.path, url.Values{"csrf": {token[1]}}); status != http.StatusOK || !strings.Contains(text, step.want) {
			t.Errorf("%s is answered %d %s", step.path, status, text)
		}
	}
	if got := db.text(t, `SELECT string_agg(action, ' ' ORDER BY id) FROM posthorn.audit WHERE actor LIKE 'web:%' AND action <> 'login'`); got != "endpoint.create endpoint.pause endpoint.resume endpoint.delete" {
		t.Errorf("the audit has %s", got)
	}
}
