package relay

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
)

// apiRoles are tokens of each role, in a configuration's http.
const apiRoles = `
  tokens:
    - {name: watcher, role: viewer, token: viewer-0102030405060708090a}
    - {name: ops, role: operator, token: operator-0102030405060708090a}
    - {name: root, role: admin, token: admin-0102030405060708090a}
`

// apiClient asks a running relay's API.
type apiClient struct {
	address string
	http    *http.Client
}

// answer is what the API answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// fields returns what a problem names.
func (a answer) fields(t *testing.T) []string {
	t.Helper()
	var problem struct {
		Status int
		Errors []struct{ Location, Message string }
	}
	if err := json.Unmarshal(a.body, &problem); err != nil || problem.Status != a.status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("it is no problem: %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	var all []string
	for _, e := range problem.Errors {
		all = append(all, e.Location)
	}
	return all
}

// ask makes a request as somebody with a role; "" has no token.
func (c *apiClient) ask(t *testing.T, role, method, path, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+role+"-0102030405060708090a")
	}
	res, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hunter2") {
		t.Errorf("%s %s answers with a secret: %s", method, path, text)
	}
	return answer{res.StatusCode, res.Header, bytes.TrimSpace(text)}
}

// must is ask for what succeeds, and decodes the answer into v.
func (c *apiClient) must(t *testing.T, role, method, path, body string, v any) {
	t.Helper()
	a := c.ask(t, role, method, path, body)
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		t.Fatalf("%s %s answers %d %s", method, path, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatal(err)
	}
}

func newAPIClient(address string) *apiClient {
	return &apiClient{address: address, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}}
}

// apiConfig returns a configuration with the API's tokens, and more of it.
func (db *database) apiConfig(t *testing.T, more string) *config.Config {
	t.Helper()
	return db.config(t, "http:\n  listen: 127.0.0.1:0"+apiRoles+more)
}

// startAPI returns a relay with the API that delivers.
func (db *database) startAPI(t *testing.T, more string) *running {
	t.Helper()
	cfg := db.apiConfig(t, more)
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	r.log.waitFor(t, "slot acquired, delivering")
	return r
}

// runAPI is startAPI, and returns a client of it.
func (db *database) runAPI(t *testing.T, more string) *apiClient {
	t.Helper()
	return newAPIClient(db.startAPI(t, more).address)
}

// echo is a receiver that answers with the request's header and body, and with
// 500 below /ill.
func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ill") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = fmt.Fprintln(w, r.URL, r.Header)
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// apiEndpoints is a configuration with secrets in all places; hunter2 is in
// each of them.
const apiEndpoints = `
egress: {allow: [127.0.0.0/8]}
ledger: {bodies: all}
events:
  - {type: pr.made, group: pr, title: PR made, example: {n: 1}, schema: {type: object}}
  - {type: pr.gone}
endpoints:
  - name: erp
    url: %[1]s/well?token=hunter2-query
    events: ["*"]
    secret: hunter2-endpoint
    previous_secrets: [{secret: hunter2-previous, expires: 2099-01-01T00:00:00Z}]
    auth: {basic: {username: posthorn, password: hunter2-basic}}
    headers: {X-Api-Key: hunter2-key}
    body: '{"payload": {{ .Payload }}, "secret": "hunter2-endpoint"}'
  - {name: ill, url: "%[1]s/ill", events: [pr.made], retry: {schedule: [1h]}, auth: {bearer: {token: hunter2-bearer}}}
  - {name: "off", url: "%[1]s/off", events: ["*"], enabled: false}
  - {name: "a b/c", url: "%[1]s/odd", events: [none]}
`

// waitDeliveries returns the deliveries that a query finds, once there are n.
func (c *apiClient) waitDeliveries(t *testing.T, query string, n int) []Delivery {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var page struct{ Deliveries []Delivery }
		c.must(t, "viewer", "GET", "/api/v1/deliveries?"+query, "", &page)
		if len(page.Deliveries) == n {
			return page.Deliveries
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries, not %d: %+v", len(page.Deliveries), n, page)
		}
		<-ticker.C
	}
}

func TestAPIShowsDeliveriesByPagesWithoutSecrets(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(apiEndpoints, echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, tenant, payload) SELECT 'pr.made', 't' || n % 2, json_build_object('n', n) FROM generate_series(1, 5) n;`)
	c.waitDeliveries(t, "state=delivered&endpoint=erp", 5)
	ill := c.waitDeliveries(t, "state=pending&endpoint=ill", 5)
	c.waitDeliveries(t, "tenant=t0", 4)
	c.waitDeliveries(t, "type=pr.gone", 0)
	c.waitDeliveries(t, "since=1h&event="+ill[0].Event.String(), 2)

	seen := make(map[uuid.UUID]bool)
	cursor, pages := "", 0
	for {
		var page struct {
			Deliveries []Delivery
			Next       string
		}
		c.must(t, "viewer", "GET", "/api/v1/deliveries?limit=3&cursor="+cursor, "", &page)
		pages++
		for _, d := range page.Deliveries {
			if seen[d.ID] {
				t.Errorf("%s stands on two pages", d.ID)
			}
			seen[d.ID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 10 || pages != 4 {
		t.Errorf("%d deliveries on %d pages", len(seen), pages)
	}

	type detail struct {
		Delivery
		Tries   []struct{ Response, Outcome string }
		Request *struct {
			Headers [][2]string
			Body    string
		}
		Payload string
	}
	var forViewer, forOperator, well detail
	c.must(t, "viewer", "GET", "/api/v1/deliveries/"+ill[0].ID.String(), "", &forViewer)
	c.must(t, "operator", "GET", "/api/v1/deliveries/"+ill[0].ID.String(), "", &forOperator)
	if len(forViewer.Tries) != 1 || forViewer.Tries[0].Response != "" || forViewer.Request != nil || forViewer.Payload != "" || forViewer.Status != 500 {
		t.Errorf("a viewer sees %+v", forViewer)
	}
	if len(forOperator.Tries) != 1 || !strings.Contains(forOperator.Tries[0].Response, "Bearer ***") || forOperator.Request == nil || !strings.Contains(forOperator.Payload, `"n"`) {
		t.Errorf("an operator sees %+v", forOperator)
	}
	delivered := c.waitDeliveries(t, "state=delivered&limit=1", 1)
	c.must(t, "operator", "GET", "/api/v1/deliveries/"+delivered[0].ID.String(), "", &well)
	if well.Request == nil || !strings.HasSuffix(well.Request.Body, `"secret": "***"}`) || fmt.Sprint(well.Request.Headers) != "[[Content-Type application/json] [X-Api-Key ***] [User-Agent Posthorn/test]]" {
		t.Errorf("the request is shown as %+v", well.Request)
	}
}

func TestAPIActsAsTheTokensOwnerAndTellsWhatItCannotDo(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(apiEndpoints, echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('pr.made', '{}');`)
	d := c.waitDeliveries(t, "state=pending&endpoint=ill", 1)[0]

	var turned TurnedEndpoint
	c.must(t, "operator", "POST", "/api/v1/endpoints/ill/pause", `{"reason": "maintenance"}`, &turned)
	if turned.State != EndpointPaused || turned.Was != EndpointEnabled || turned.Reason != "maintenance" || !turned.Changed {
		t.Errorf("paused: %+v", turned)
	}
	retry := "/api/v1/deliveries/" + d.ID.String() + "/retry"
	for _, q := range []struct {
		path, want string
		status     int
	}{
		{retry, "resume it first", http.StatusConflict},
		{"/api/v1/deliveries/" + uuid.NewString() + "/retry", "no such delivery", http.StatusNotFound},
		{"/api/v1/endpoints/off/pause", "disabled in the configuration", http.StatusConflict},
		{"/api/v1/endpoints/nope/resume", "there are a b/c, erp, ill, off", http.StatusNotFound},
		{"/api/v1/endpoints/nope/test", "no such endpoint", http.StatusNotFound},
	} {
		a := c.ask(t, "operator", "POST", q.path, "")
		a.fields(t)
		if a.status != q.status || !strings.Contains(string(a.body), q.want) {
			t.Errorf("%s answers %d %s", q.path, a.status, a.body)
		}
	}
	c.must(t, "admin", "POST", "/api/v1/endpoints/"+turned.ID.String()+"/resume", "", &turned)
	var retried struct {
		Again bool `json:"rendered_again"`
	}
	c.must(t, "operator", "POST", retry, "", &retried)
	if retried.Again {
		t.Error("it is rendered again")
	}
	got := db.text(t, `SELECT string_agg(actor || ' ' || action, ', ' ORDER BY id) FROM posthorn.audit WHERE actor LIKE 'api:%'`)
	if want := "api:ops endpoint.pause, api:root endpoint.resume, api:ops delivery.retry"; got != want {
		t.Errorf("the audit has %s, want %s", got, want)
	}
	odd := "/api/v1/endpoints/" + url.PathEscape("a b/c")
	c.must(t, "operator", "POST", odd+"/pause", "{}", &turned)
	if turned.Name != "a b/c" || turned.State != EndpointPaused {
		t.Errorf("paused: %+v", turned)
	}
}

func TestAPISendsTestsThroughTheGuard(t *testing.T) {
	db := newDatabase(t)
	receiver := echo(t)
	c := db.runAPI(t, fmt.Sprintf(apiEndpoints, receiver)+`
  - {name: local, url: "http://169.254.169.254/latest", events: ["*"]}
transforms: [{match: [dropped], filter: "false"}]
`)
	var result struct {
		OK              bool
		Status          int
		Error, Response string
		Type, Body      string
	}
	c.must(t, "operator", "POST", "/api/v1/endpoints/erp/test", `{"payload": {"amount": 1.50}}`, &result)
	if !result.OK || result.Status != 200 || result.Type != "pr.made" || result.Body != `{"payload": {"amount": 1.50}, "secret": "***"}` || !strings.Contains(result.Response, "***") {
		t.Errorf("sent: %+v", result)
	}
	if basic := base64.StdEncoding.EncodeToString([]byte("posthorn:hunter2-basic")); strings.Contains(result.Response, basic) {
		t.Errorf("the receiver's answer shows the password in %s", result.Response)
	}
	if a := c.ask(t, "operator", "POST", "/api/v1/endpoints/erp/test", `{"type": "dropped"}`); a.status != http.StatusConflict || !strings.Contains(string(a.body), "nothing was sent: the event is not sent") {
		t.Errorf("a test that a transform drops answers %d %s", a.status, a.body)
	}
	result.OK = true
	c.must(t, "operator", "POST", "/api/v1/endpoints/local/test", "", &result)
	if result.OK || !strings.Contains(result.Error, "169.254.169.254") {
		t.Errorf("sent to the metadata of a cloud: %+v", result)
	}
}

func TestAPIGoesByTheConfigurationThatRuns(t *testing.T) {
	db := newDatabase(t)
	r := db.startAPI(t, "endpoints: [{name: one, url: 'https://one.example/', events: [a]}]\n")
	c := newAPIClient(r.address)
	names := func(path, list string) string {
		var all map[string]any
		c.must(t, "viewer", "GET", path, "", &all)
		return fmt.Sprint(all[list])
	}
	if got := names("/api/v1/endpoints", "endpoints"); !strings.Contains(got, "name:one") || strings.Contains(got, "name:two") {
		t.Errorf("endpoints: %s", got)
	}
	r.Reload(db.apiConfig(t, "endpoints: [{name: two, url: 'https://two.example/', events: [a]}]\nevents: [{type: new.type}]\n"))
	r.log.waitFor(t, "configuration reloaded")
	r.log.waitFor(t, "slot acquired, delivering")
	if got := names("/api/v1/endpoints", "endpoints"); !strings.Contains(got, "name:two") || strings.Contains(got, "name:one") {
		t.Errorf("endpoints after a reload: %s", got)
	}
	if got := names("/api/v1/endpoints?all=true", "endpoints"); !strings.Contains(got, "name:one") {
		t.Errorf("all endpoints after a reload: %s", got)
	}
	if got := names("/api/v1/events", "events"); !strings.Contains(got, "type:new.type") {
		t.Errorf("events after a reload: %s", got)
	}
}

func TestStandbyServesTheAPI(t *testing.T) {
	db := newDatabase(t)
	const endpoints = "endpoints: [{name: erp, url: 'https://erp.example/', events: [a]}]\n"
	active := db.runAPI(t, endpoints)
	r := start(t, db.apiConfig(t, endpoints))
	standby := newAPIClient(r.address)
	r.log.waitFor(t, "waiting to take over")
	var stream struct {
		Role   string
		Active *struct{ Flushed string }
	}
	standby.must(t, "viewer", "GET", "/api/v1/stream", "", &stream)
	if stream.Role != "standby" || stream.Active != nil {
		t.Errorf("the standby's stream: %+v", stream)
	}
	active.must(t, "viewer", "GET", "/api/v1/stream", "", &stream)
	if stream.Role != "active" || stream.Active == nil || !strings.Contains(stream.Active.Flushed, "/") {
		t.Errorf("the active one's stream: %+v", stream)
	}
	var turned TurnedEndpoint
	standby.must(t, "operator", "POST", "/api/v1/endpoints/erp/pause", "", &turned)
	if turned.State != EndpointPaused {
		t.Errorf("paused at the standby: %+v", turned)
	}
}

func TestStopEndsATestThatIsBeingSent(t *testing.T) {
	db := newDatabase(t)
	arrived, leave := make(chan struct{}, 1), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-leave
	}))
	defer receiver.Close()
	defer close(leave)
	r := db.startAPI(t, fmt.Sprintf("egress: {allow: [127.0.0.0/8]}\nendpoints: [{name: slow, url: %q, events: [a], timeout: 5m}]\n", receiver.URL))
	c := newAPIClient(r.address)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(ended)
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.address+"/api/v1/endpoints/slow/test", nil)
		if err != nil {
			return
		}
		q.Header.Set("Authorization", "Bearer operator-0102030405060708090a")
		if res, err := c.http.Do(q); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-arrived
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	<-ended
}
