package relay

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
)

// tenantEndpoints is a configuration of two tenants' endpoints, and everybody's;
// bravo stands in all that is not acme's.
const tenantEndpoints = `
egress: {allow: [127.0.0.0/8]}
ledger: {bodies: all, encryption_keys: [00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff]}
events: [{type: pr.made}]
endpoints:
  - {name: acme-erp, tenant: acme, url: "%[1]s/acme", events: ["*"]}
  - {name: acme-ill, tenant: acme, url: "%[1]s/ill/acme", events: ["*"], retry: {schedule: [1h]}}
  - {name: bravo-erp, tenant: bravo, url: "%[1]s/bravo", events: ["*"]}
  - {name: bravo-ill, tenant: bravo, url: "%[1]s/ill/bravo", events: ["*"], retry: {schedule: [1h]}}
  - {name: all-bravo, url: "%[1]s/ill/all-bravo", events: ["*"], retry: {schedule: [1h]}}
`

// as returns a client that shows the same token whatever role it asks with.
func (c *apiClient) as(token string) *apiClient {
	return &apiClient{address: c.address, http: &http.Client{Transport: withToken{token, c.http.Transport}, Timeout: c.http.Timeout}}
}

type withToken struct {
	token string
	next  http.RoundTripper
}

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.token)
	return t.next.RoundTrip(r)
}

// portal returns a client with a new portal token.
func (c *apiClient) portal(t *testing.T, tenant, role string) *apiClient {
	t.Helper()
	var made admin.PortalToken
	c.must(t, "admin", "POST", "/api/v1/portal-tokens", fmt.Sprintf(`{"tenant": %q, "subject": "jo", "role": %q}`, tenant, role), &made)
	return c.as(made.Token)
}

// tenants returns a relay's API with deliveries of both tenants, and one of
// each of their deliveries by endpoint.
func tenants(t *testing.T) (*apiClient, map[string]Delivery) {
	t.Helper()
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(tenantEndpoints, echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, tenant, payload) VALUES ('pr.made', 'acme', '{"whose": "acme"}'), ('pr.made', 'bravo', '{"whose": "bravo"}'), ('pr.made', NULL, '{"whose": "all-bravo"}');`)
	byEndpoint := make(map[string]Delivery)
	for endpoint, n := range map[string]int{"acme-erp": 1, "acme-ill": 1, "bravo-erp": 1, "bravo-ill": 1, "all-bravo": 3} {
		byEndpoint[endpoint] = c.waitDeliveries(t, "endpoint="+endpoint, n)[0]
	}
	return c, byEndpoint
}

func TestATenantReachesItsOwnOnly(t *testing.T) {
	c, deliveries := tenants(t)
	c.ask(t, "operator", "POST", "/api/v1/endpoints/bravo-erp/pause", `{"reason": "bravo"}`)
	c.ask(t, "operator", "POST", "/api/v1/endpoints/bravo-erp/resume", `{"reason": "bravo"}`)
	c.must(t, "operator", "POST", "/api/v1/endpoints", `{"name": "bravo-made", "tenant": "bravo", "url": "https://bravo.example", "events": ["none"]}`, &struct{}{})
	acme := c.portal(t, "acme", "operator")
	ids := make(map[string]uuid.UUID)
	var page struct {
		Endpoints []struct {
			ID   uuid.UUID
			Name string
		}
	}
	c.must(t, "viewer", "GET", "/api/v1/endpoints", "", &page)
	for _, ep := range page.Endpoints {
		ids[ep.Name] = ep.ID
	}
	var foreign []string // of what a path may name
	for _, name := range []string{"bravo-erp", "bravo-ill", "all-bravo", "bravo-made"} {
		foreign = append(foreign, name, ids[name].String(), deliveries[name].ID.String())
	}
	bodies := map[string]string{ // of those that want one
		"post /deliveries/retry":       `{"type": "none"}`,
		"post /replays":                `{"type": "none"}`,
		"post /replays/preview":        `{"type": "none"}`,
		"post /endpoints":              `{"name": "acme-made", "url": "https://acme.example", "events": ["none"]}`,
		"post /endpoints/check":        `{"name": "acme-other", "url": "https://acme.example", "events": ["none"]}`,
		"patch /endpoints/{name}":      `{"events": ["none"]}`,
		"post /endpoints/{name}/check": `{"events": ["none"]}`,
	}
	// of an operation for people who run the relay
	notForTenants := []string{"post /portal-tokens", "get /stream"}
	d, _ := c.document(t)
	d.each(func(path, method string, o *apiOperation) {
		name := method + " " + path
		wanted := http.StatusOK
		if _, creates := o.Responses["201"]; creates {
			wanted = http.StatusCreated
		}
		paths := []string{path}
		if before, after, ok := strings.Cut(path, "{"); ok {
			wanted, paths = http.StatusNotFound, nil
			_, after, _ = strings.Cut(after, "}")
			for _, thing := range foreign {
				if _, err := uuid.Parse(thing); err == nil || strings.Contains(path, "{name}") {
					paths = append(paths, before+thing+after)
				}
			}
		}
		if slices.Contains(notForTenants, name) {
			wanted = http.StatusForbidden
		}
		if name == "get /live" {
			paths = []string{path + "?for=0s"}
		}
		for _, path := range paths {
			got := acme.ask(t, "", strings.ToUpper(method), "/api/v1"+path, bodies[name])
			if got.status != wanted {
				t.Errorf("%s %s answers a tenant %d %s, want %d", method, path, got.status, got.body, wanted)
			}
			if text := strings.ReplaceAll(string(got.body), strings.TrimPrefix(path, "/endpoints/"), ""); wanted != http.StatusNotFound && strings.Contains(text, "bravo") {
				t.Errorf("%s %s tells a tenant of another: %s", method, path, got.body)
			}
		}
	})
	for _, query := range []string{
		"/deliveries?tenant=bravo", "/deliveries?endpoint=bravo-erp", "/deliveries?endpoint=" + ids["all-bravo"].String(), "/deliveries?event=" + deliveries["bravo-erp"].Event.String(),
		"/audit?tenant=bravo", "/audit?subject=" + ids["bravo-erp"].String(), "/audit?actor=api:ops",
	} {
		var list map[string]json.RawMessage
		acme.must(t, "", "GET", "/api/v1"+query, "", &list)
		for name, items := range list {
			if string(items) != "[]" {
				t.Errorf("%s has %s %s", query, name, items)
			}
		}
	}
	for _, body := range []string{
		`{"name": "acme-new", "tenant": "bravo", "url": "https://acme.example", "events": ["none"]}`,
		`{"name": "acme-new", "tenant": null, "url": "https://acme.example", "events": ["none"]}`,
		`{"name": "acme-new", "tenant": "", "url": "https://acme.example", "events": ["none"]}`,
	} {
		if got := acme.ask(t, "", "POST", "/api/v1/endpoints", body); got.status != http.StatusUnprocessableEntity || !slices.Contains(got.fields(t), "body.tenant") {
			t.Errorf("%s answers a tenant %d %s", body, got.status, got.body)
		}
		if got := acme.ask(t, "", "PATCH", "/api/v1/endpoints/acme-made", body); got.status != http.StatusUnprocessableEntity {
			t.Errorf("its endpoint becomes another's: %s answers %d %s", body, got.status, got.body)
		}
	}
	if got := acme.ask(t, "", "POST", "/api/v1/endpoints/nope/pause", ""); !strings.Contains(string(got.body), "there are acme-erp, acme-ill") || strings.Contains(string(got.body), "bravo") {
		t.Errorf("what there is not: %s", got.body)
	}
}

func TestATenantManagesItsOwn(t *testing.T) {
	c, deliveries := tenants(t)
	acme, watcher := c.portal(t, "acme", "operator"), c.portal(t, "acme", "viewer")
	var endpoints struct{ Endpoints []struct{ Name string } }
	watcher.must(t, "", "GET", "/api/v1/endpoints", "", &endpoints)
	if got := fmt.Sprint(endpoints); got != "{[{acme-erp} {acme-ill}]}" {
		t.Errorf("the tenant's endpoints are %s", got)
	}
	for _, d := range watcher.waitDeliveries(t, "", 2) {
		if d.Tenant != "acme" {
			t.Errorf("it sees %+v", d)
		}
	}
	path := "/api/v1/deliveries/" + deliveries["acme-ill"].ID.String()
	var shown struct{ Payload string }
	watcher.must(t, "", "GET", path, "", &shown)
	if shown.Payload != "" {
		t.Errorf("the tenant's viewer sees the payload %s", shown.Payload)
	}
	acme.must(t, "", "GET", path, "", &shown)
	if shown.Payload != `{"whose": "acme"}` {
		t.Errorf("the tenant's operator sees the payload %q", shown.Payload)
	}
	for _, action := range []string{path + "/retry", "/api/v1/endpoints/acme-erp/pause", "/api/v1/endpoints/acme-erp/resume", "/api/v1/endpoints/acme-erp/test"} {
		if got := watcher.ask(t, "", "POST", action, ""); got.status != http.StatusForbidden {
			t.Errorf("the tenant's viewer: %s answers %d", action, got.status)
		}
		acme.must(t, "", "POST", action, "", &struct{}{})
	}
	c.ask(t, "operator", "POST", "/api/v1/endpoints/acme-erp/pause", "")
	var audit struct {
		Entries []struct{ Actor, Action, Tenant, From string }
	}
	acme.must(t, "", "GET", "/api/v1/audit", "", &audit)
	want := "[{operator endpoint.pause acme } {portal:jo endpoint.test acme 127.0.0.1} {portal:jo endpoint.resume acme 127.0.0.1} {portal:jo endpoint.pause acme 127.0.0.1} {portal:jo delivery.retry acme 127.0.0.1} " +
		"{operator portal.token acme } {operator portal.token acme }]"
	if got := fmt.Sprint(audit.Entries); got != want {
		t.Errorf("the tenant's audit is %s, want %s", got, want)
	}
	var tests struct {
		Entries []struct{ Detail json.RawMessage }
	}
	acme.must(t, "", "GET", "/api/v1/audit?action=endpoint.test", "", &tests)
	var detail map[string]any
	if err := json.Unmarshal(tests.Entries[0].Detail, &detail); err != nil || fmt.Sprint(detail) != "map[name:acme-erp ok:true status:200 type:pr.made]" {
		t.Errorf("of a test the audit has %v, %v", detail, err)
	}
	c.must(t, "operator", "GET", "/api/v1/audit?action=endpoint.pause&limit=1", "", &audit)
	if got := fmt.Sprint(audit.Entries); got != "[{api:ops endpoint.pause acme 127.0.0.1}]" {
		t.Errorf("an operator's audit is %s", got)
	}
}

func TestABrowserLogsInAndStaysAcrossRelays(t *testing.T) {
	db := newDatabase(t)
	hash := sha256.Sum256([]byte("hashed-0102030405060708090a"))
	more := fmt.Sprintf("    - {name: hashed, role: operator, sha256: %x}\nendpoints: [{name: erp, url: 'https://erp.example/', events: [a]}]\n", hash)
	active := db.startAPI(t, more)
	standby := start(t, db.apiConfig(t, more))
	standby.log.waitFor(t, "waiting to take over")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(address, method, path string, form url.Values, csrf string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", "http://"+address)
		}
		if csrf != "" {
			r.Header.Set("X-CSRF-Token", csrf)
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	for token, want := range map[string]int{"hashed-0102030405060708090b": 401, fmt.Sprintf("%x", hash): 401, "hashed-0102030405060708090a": 303} {
		if got := ask(active.address, "POST", "/admin/webhooks/login", url.Values{"token": {token}}, ""); got != want {
			t.Errorf("the login answers %d for %s", got, token)
		}
	}
	for _, address := range []string{active.address, standby.address} { // cookies know no ports
		if got := ask(address, "GET", "/api/v1/endpoints", nil, ""); got != http.StatusOK {
			t.Errorf("the API answers %d to the session", got)
		}
		if got := ask(address, "POST", "/api/v1/endpoints/erp/pause", nil, ""); got != http.StatusForbidden {
			t.Errorf("the API answers %d without the CSRF token", got)
		}
	}
	stays := db.text(t, `SELECT concat_ws(' ', name, role, via, expires_at - created_at) FROM posthorn.sessions`)
	if stays != "hashed operator web 12:00:00" {
		t.Errorf("the session is %s", stays)
	}
	if got := db.text(t, `SELECT string_agg(concat_ws(' ', actor, source, action), ', ') FROM posthorn.audit WHERE action = 'login'`); got != "web:hashed 127.0.0.1 login" {
		t.Errorf("the audit has %s", got)
	}
}
