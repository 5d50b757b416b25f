package relay

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// apiDocument is the OpenAPI document, as far as the tests look at it.
type apiDocument struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Servers    []struct{ URL string }
	Paths      map[string]map[string]*apiOperation
	Components struct {
		Schemas         map[string]any
		SecuritySchemes map[string]struct{ Type, Scheme string }
	}
}

type apiOperation struct {
	OperationID string
	Summary     string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   any
	}
	RequestBody *struct {
		Content map[string]struct{ Schema any }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema any }
	}
	Security []map[string][]string
}

// document returns the OpenAPI document, read without a token, and what
// compiles its schemas.
func (c *apiClient) document(t *testing.T) (*apiDocument, *jsonschema.Compiler) {
	t.Helper()
	a := c.ask(t, "", "GET", "/api/openapi.json", "")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("the document: %d %s", a.status, a.header.Get("Content-Type"))
	}
	var d apiDocument
	if err := json.Unmarshal(a.body, &d); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(string(a.body)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return &d, compiler
}

// pointer returns the JSON pointer to what the names lead to.
func pointer(names ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	for i := range names {
		names[i] = escape.Replace(names[i])
	}
	return "openapi.json#/" + strings.Join(names, "/")
}

// each calls do for every operation, in the order of their paths.
func (d *apiDocument) each(do func(path, method string, o *apiOperation)) {
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			do(path, method, d.Paths[path][method])
		}
	}
}

func TestAPIDocumentIsSound(t *testing.T) {
	d, compiler := newDatabase(t).runAPI(t, "").document(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version != "test" || len(d.Servers) != 1 || d.Servers[0].URL != "/api/v1" {
		t.Errorf("it begins with %s, %+v, %+v", d.OpenAPI, d.Info, d.Servers)
	}
	if s := d.Components.SecuritySchemes["token"]; s.Type != "http" || s.Scheme != "bearer" {
		t.Errorf("security: %+v", s)
	}
	compile := func(names ...string) {
		if _, err := compiler.Compile(pointer(names...)); err != nil { // it follows references, too
			t.Error(err)
		}
	}
	for name := range d.Components.Schemas {
		compile("components", "schemas", name)
	}
	ids := make(map[string]bool)
	d.each(func(path, method string, o *apiOperation) {
		where := method + " " + path
		if o.OperationID == "" || ids[o.OperationID] || o.Summary == "" {
			t.Errorf("%s has no id and summary of its own", where)
		}
		ids[o.OperationID] = true
		if len(o.Security) != 1 || len(o.Security[0]["token"]) != 1 {
			t.Errorf("%s asks for %v", where, o.Security)
		}
		for i, p := range o.Parameters {
			if (p.In == "path") != strings.Contains(path, "{"+p.Name+"}") || p.In == "path" && !p.Required {
				t.Errorf("%s has the parameter %+v", where, p)
			}
			compile("paths", path, method, "parameters", fmt.Sprint(i), "schema")
		}
		if n := strings.Count(path, "{"); n > len(o.Parameters) {
			t.Errorf("%s has parameters that it does not list", where)
		}
		if o.RequestBody != nil {
			compile("paths", path, method, "requestBody", "content", "application/json", "schema")
		}
		for status, r := range o.Responses {
			if r.Description == "" || len(r.Content) != 1 {
				t.Errorf("%s lists %s without description or content", where, status)
			}
			for kind := range r.Content {
				compile("paths", path, method, "responses", status, "content", kind, "schema")
			}
		}
	})
}

// apiCase drives one operation.
type apiCase struct {
	role string // the least that it takes
	good []apiRequest
	bad  []apiRequest // with the field that the problem names
}

// apiRequest is a request whose path and body have another number in the place
// of {n} each time.
type apiRequest struct{ path, body, field string }

// TestEveryOperationOfTheAPIDocument fails for an operation that it does not
// drive, with and without what it takes.
func TestEveryOperationOfTheAPIDocument(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(strings.Replace(apiEndpoints, "bodies: all", "bodies: all, encryption_keys: ['"+oldKey+"']", 1), echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('pr.made', '{"n": 1}');`)
	c.waitDeliveries(t, "state=delivered&endpoint=erp", 1)
	c.must(t, "operator", "POST", "/api/v1/endpoints", `{"name": "made", "url": "https://made.example/", "events": ["none"]}`, &struct{}{})
	id := c.waitDeliveries(t, "state=pending&endpoint=ill", 1)[0].ID.String()
	unknown := uuid.NewString()
	pages := func(path string) []apiRequest {
		return []apiRequest{
			{path + "?limit=0", "", "query.limit"},
			{path + "?limit=501", "", "query.limit"},
			{path + "?limit=x", "", "query.limit"},
			{path + "?cursor=nonsense", "", "query.cursor"},
			{path + "?cursor=ZGRlZg", "", "query.cursor"}, // of another list, or of a wrong length
			{path + "?what=1", "", "query.what"},
		}
	}
	ids := func(before, after string) []apiRequest {
		return []apiRequest{{before + "7" + after, "", "path.id"}, {before + strings.ReplaceAll(unknown, "-", "") + after, "", "path.id"}}
	}
	reasons := func(path string) []apiRequest {
		return []apiRequest{
			{path, `{"reason": 7}`, "body.reason"},
			{path, `{"reason": "two\nlines"}`, "body.reason"},
			{path, `{"reason": "` + strings.Repeat("x", 501) + `"}`, "body.reason"},
			{path, `{"reason": "` + strings.Repeat("ä", 251) + `"}`, "body.reason"},
			{path, `{"why": "x"}`, "body.why"},
			{path, `{`, "body"},
			{strings.Replace(path, "/erp/", "/%00/", 1), `{}`, "path.name"},
		}
	}
	documents := func(path string) []apiRequest {
		return []apiRequest{
			{path, `{"url": "ftp://a.example"}`, "body.url"},
			{path, `{"retry": {"schedule": ["1h", "x"]}}`, "body.retry.schedule[1]"},
			{path, `{"headers": {"X-A": "{{"}}`, "body.headers.X-A"},
			{path, `{"wat": 1}`, "body.wat"},
			{path, `{"auth": {"bearer": {"token": "x"}}}`, "body.auth"},
			{path, `{"tls": {"ca_file": "/etc/passwd"}}`, "body.tls"},
			{path, `{"name": "erp"}`, "body.name"},
			{path, `7`, "body"},
			{path, `{`, "body"},
		}
	}
	creates := func(path string) []apiRequest {
		wrong := documents(path)
		wrong[6].body = `{"name": "erp", "url": "https://a.example", "events": ["a"]}`
		return append(wrong, apiRequest{path, `{}`, "body.name"}, apiRequest{path, `{"name": "a"}`, "body.url"}, apiRequest{path, `{}`, "body.events"})
	}
	befores := map[string]func(n string){
		"delete /endpoints/{name}": func(n string) {
			c.must(t, "operator", "POST", "/api/v1/endpoints", `{"name": "gone`+n+`", "url": "https://a.example", "events": ["none"]}`, &struct{}{})
		},
	}
	var started struct{ ID string }
	c.must(t, "operator", "POST", "/api/v1/replays", `{"type": "none"}`, &started)
	job := started.ID
	replays := func(path string) []apiRequest {
		return []apiRequest{
			{path, `{"states": ["sending"]}`, "body.states[0]"},
			{path, `{"endpoint": 7}`, "body.endpoint"},
			{path, `{"endpoint": "a\u0000"}`, "body.endpoint"},
			{path, `{"type": "a\nb"}`, "body.type"},
			{path, `{"event": "1"}`, "body.event"},
			{path, `{"from": "yesterday"}`, "body.from"},
			{path, `{"from": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}`, "body.until"},
			{path, `{"rate": 0, "type": "a"}`, "body.rate"},
			{path, `{"rate": 1001, "type": "a"}`, "body.rate"},
			{path, `{}`, "body.from"},
			{path, `{"x": 1}`, "body.x"},
			{path, `{`, "body"},
		}
	}
	cases := map[string]apiCase{
		"get /endpoints/{name}": {"viewer", []apiRequest{{path: "/endpoints/made"}, {path: "/endpoints/erp"}, {path: "/endpoints/off"}}, []apiRequest{{"/endpoints/%00", "", "path.name"}, {"/endpoints/made?x=1", "", "query.x"}}},
		"post /endpoints": {
			"operator", []apiRequest{{path: "/endpoints", body: `{"name": "new{n}", "url": "https://u:hunter2@a.example", "events": ["none"], "headers": {"X-Api-Key": "hunter2"}}`}},
			creates("/endpoints"),
		},
		"patch /endpoints/{name}": {
			"operator", []apiRequest{{path: "/endpoints/made", body: `{"timeout": "{n}s", "headers": {"X-A": "b"}}`}, {path: "/endpoints/made", body: `{}`}},
			append(documents("/endpoints/made"), apiRequest{"/endpoints/made?revision=0", `{}`, "query.revision"}, apiRequest{"/endpoints/%00", `{}`, "path.name"}),
		},
		"delete /endpoints/{name}": {"operator", []apiRequest{{path: "/endpoints/gone{n}"}}, []apiRequest{{"/endpoints/%00", "", "path.name"}}},
		"post /endpoints/{name}/secret": {
			"operator", []apiRequest{{path: "/endpoints/made/secret"}, {path: "/endpoints/made/secret", body: `{"grace": "0s", "secret": "a secret of somebody's own"}`}},
			[]apiRequest{
				{"/endpoints/made/secret", `{"grace": "721h"}`, "body.grace"}, {"/endpoints/made/secret", `{"grace": "-1s"}`, "body.grace"}, {"/endpoints/made/secret", `{"grace": "soon"}`, "body.grace"},
				{"/endpoints/made/secret", `{"secret": "whsec_short"}`, "body.secret"}, {"/endpoints/made/secret", `{"secret": 7}`, "body.secret"}, {"/endpoints/%00/secret", "", "path.name"},
			},
		},
		"post /endpoints/check":        {"operator", []apiRequest{{path: "/endpoints/check", body: `{"name": "new", "url": "https://a.example", "events": ["none"]}`}}, creates("/endpoints/check")},
		"post /endpoints/{name}/check": {"operator", []apiRequest{{path: "/endpoints/made/check", body: `{"timeout": "1s"}`}}, append(documents("/endpoints/made/check"), apiRequest{"/endpoints/%00/check", `{}`, "path.name"})},
		"get /endpoints":               {"viewer", []apiRequest{{path: "/endpoints"}, {path: "/endpoints?all=true&limit=1"}}, append(pages("/endpoints"), apiRequest{"/endpoints?all=x", "", "query.all"})},
		"post /endpoints/{name}/pause": {
			"operator", []apiRequest{{path: "/endpoints/erp/pause"}, {path: "/endpoints/erp/pause", body: `{"reason": "maintenance"}`}}, reasons("/endpoints/erp/pause"),
		},
		"post /endpoints/{name}/resume": {
			"operator", []apiRequest{{path: "/endpoints/erp/resume", body: `{"reason": "mended"}`}, {path: "/endpoints/erp/resume"}}, reasons("/endpoints/erp/resume"),
		},
		"post /endpoints/{name}/test": {
			"operator", []apiRequest{{path: "/endpoints/erp/test"}, {path: "/endpoints/ill/test", body: `{"type": "pr.gone", "payload": [1, null]}`}},
			[]apiRequest{{"/endpoints/erp/test", `{"type": 1}`, "body.type"}, {"/endpoints/erp/test", `{"type": "a\u0000"}`, "body.type"}, {"/endpoints/erp/test", `{"x": 1}`, "body.x"}, {"/endpoints/%00/test", "", "path.name"}},
		},
		"get /deliveries": {
			"viewer", []apiRequest{{path: "/deliveries"}, {path: "/deliveries?state=delivered&endpoint=erp&tenant=a&type=b&since=1h&limit=1&event=" + unknown}, {path: "/deliveries?state=failed&state=skipped&from=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00.5%2B01:00"}},
			append(pages("/deliveries"),
				apiRequest{"/deliveries?state=lost", "", "query.state[0]"},
				apiRequest{"/deliveries?state=failed&state=lost", "", "query.state[1]"},
				apiRequest{"/deliveries?event=1", "", "query.event"},
				apiRequest{"/deliveries?from=yesterday", "", "query.from"},
				apiRequest{"/deliveries?until=2026-13-01T00:00:00Z", "", "query.until"},
				apiRequest{"/deliveries?since=yesterday", "", "query.since"},
				apiRequest{"/deliveries?since=-1h", "", "query.since"},
				apiRequest{"/deliveries?type=%00", "", "query.type"},
				apiRequest{"/deliveries?tenant=%ff", "", "query.tenant"},
				apiRequest{"/deliveries?endpoint=" + strings.Repeat("x", 300), "", "query.endpoint"},
				apiRequest{"/deliveries?cursor=ZP__________AAAAAAAAAAAAAAAAAAAAAAA", "", "query.cursor"}, // beyond the year 9999
			),
		},
		"get /deliveries/{id}":        {"viewer", []apiRequest{{path: "/deliveries/" + id}}, ids("/deliveries/", "")},
		"post /deliveries/{id}/retry": {"operator", []apiRequest{{path: "/deliveries/" + id + "/retry"}}, ids("/deliveries/", "/retry")},
		"get /audit": {
			"operator", []apiRequest{{path: "/audit"}, {path: "/audit?actor=api:ops&action=a&subject=s&tenant=t&from=2026-01-01T00:00:00Z&until=2099-01-01T00:00:00Z&limit=1"}},
			append(pages("/audit"),
				apiRequest{"/audit?from=yesterday", "", "query.from"},
				apiRequest{"/audit?until=2026-01-01", "", "query.until"},
				apiRequest{"/audit?actor=%00", "", "query.actor"},
				apiRequest{"/audit?subject=" + strings.Repeat("x", 300), "", "query.subject"},
			),
		},
		"post /portal-tokens": {
			"admin", []apiRequest{{path: "/portal-tokens", body: `{"tenant": "acme", "subject": "jo"}`}, {path: "/portal-tokens", body: `{"tenant": "acme", "subject": "jo", "role": "viewer", "expires_in": "24h"}`}},
			[]apiRequest{
				{"/portal-tokens", `{"tenant": "acme", "subject": "jo", "role": "admin"}`, "body.role"},
				{"/portal-tokens", `{"tenant": "", "subject": "jo"}`, "body.tenant"},
				{"/portal-tokens", `{"tenant": "acme", "subject": "jo", "expires_in": "25h"}`, "body.expires_in"},
				{"/portal-tokens", `{"tenant": "acme", "subject": "jo", "profile": "none"}`, "body.profile"},
				{"/portal-tokens", `{`, "body"},
			},
		},
		"get /events": {"viewer", []apiRequest{{path: "/events"}, {path: "/events?limit=1"}}, pages("/events")},
		"get /live": {
			"viewer", []apiRequest{{path: "/live?for=0s"}, {path: "/live?for=1s&limit=1&state=delivered&endpoint=erp&tenant=a&type=b&event=" + unknown}},
			[]apiRequest{
				{"/live?for=1h", "", "query.for"}, {"/live?limit=101", "", "query.limit"}, {"/live?state=lost", "", "query.state[0]"}, {"/live?event=1", "", "query.event"},
				{"/live?type=%00", "", "query.type"}, {"/live?cursor=x", "", "query.cursor"},
			},
		},
		"post /deliveries/retry": {
			"operator", []apiRequest{{path: "/deliveries/retry", body: `{"endpoint": "erp", "preview": true}`}, {path: "/deliveries/retry", body: `{"endpoint": "erp", "type": "none"}`}},
			replays("/deliveries/retry"),
		},
		"post /replays/preview": {
			"operator", []apiRequest{{path: "/replays/preview", body: `{"states": ["failed", "pending"], "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}`}}, replays("/replays/preview"),
		},
		"post /replays": {
			"operator", []apiRequest{{path: "/replays", body: `{"endpoint": "erp", "tenant": "a", "type": "b", "event": "` + unknown + `", "rate": 10, "new_ids": true}`}}, replays("/replays"),
		},
		"get /replays":              {"viewer", []apiRequest{{path: "/replays"}, {path: "/replays?limit=1"}}, pages("/replays")},
		"get /replays/{id}":         {"viewer", []apiRequest{{path: "/replays/" + job}}, ids("/replays/", "")},
		"post /replays/{id}/cancel": {"operator", []apiRequest{{path: "/replays/" + job + "/cancel"}}, ids("/replays/", "/cancel")},
		"get /stats": {"viewer", []apiRequest{{path: "/stats"}, {path: "/stats?endpoint=erp&from=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&step=1h"}}, []apiRequest{
			{"/stats?endpoint=%00", "", "query.endpoint"},
			{"/stats?from=x", "", "query.from"},
			{"/stats?until=x", "", "query.until"},
			{"/stats?from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "", "query.from"},
			{"/stats?step=1s", "", "query.step"},
			{"/stats?step=x", "", "query.step"},
			{"/stats?step=10s&endpoint=erp", "", "query.step"},
			{"/stats?from=2020-01-01T00:00:00Z&step=1h", "", "query.step"},
			{"/stats?x=1", "", "query.x"},
		}},
		"get /stream": {"viewer", []apiRequest{{path: "/stream"}}, []apiRequest{{"/stream?x=1", "", "query.x"}}},
	}
	d, compiler := c.document(t)
	d.each(func(path, method string, o *apiOperation) {
		name := method + " " + path
		t.Run(name, func(t *testing.T) {
			driven, ok := cases[name]
			if !ok {
				t.Fatal("no case drives it")
			}
			delete(cases, name)
			if got := o.Security[0]["token"][0]; got != driven.role {
				t.Errorf("the document has the role %s, not %s", got, driven.role)
			}
			driven.drive(t, c, strings.ToUpper(method), befores[name], func(status string, kind string) *jsonschema.Schema {
				schema, err := compiler.Compile(pointer("paths", path, method, "responses", status, "content", kind, "schema"))
				if err != nil {
					t.Fatal(err)
				}
				return schema
			})
		})
	})
	for name := range cases {
		t.Errorf("%s is not in the document", name)
	}
}

// drive makes the case's requests. schemaOf returns the document's schema of
// an answer; before, if it is not nil, is called before each that is to succeed,
// with its number.
func (a *apiCase) drive(t *testing.T, c *apiClient, method string, before func(n string), schemaOf func(status, kind string) *jsonschema.Schema) {
	t.Helper()
	valid := func(got answer, path string) {
		text := string(got.body)
		kind := got.header.Get("Content-Type")
		if kind == "text/event-stream" {
			text = sentEvents(text)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err == nil {
			err = schemaOf(fmt.Sprint(got.status), kind).Validate(v)
		}
		if err != nil {
			t.Errorf("%s %s answers %d %s: %v", method, path, got.status, got.body, err)
		}
	}
	roles := []string{"", "viewer", "operator", "admin"}
	number := 0
	for _, q := range a.good {
		for _, role := range roles[:slices.Index(roles, a.role)] {
			want := http.StatusForbidden
			if role == "" {
				want = http.StatusUnauthorized
			}
			got := c.ask(t, role, method, "/api/v1"+q.path, q.body)
			if got.status != want || (role == "") != (got.header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("%s %s answers %d to the role %q", method, q.path, got.status, role)
			}
			got.fields(t)
			valid(got, q.path)
		}
		for _, role := range roles[slices.Index(roles, a.role):] {
			number++
			n := fmt.Sprint(number)
			if before != nil {
				before(n)
			}
			got := c.ask(t, role, method, "/api/v1"+strings.ReplaceAll(q.path, "{n}", n), strings.ReplaceAll(q.body, "{n}", n))
			if got.status/100 != 2 { // that the document has the very status is looked at below
				t.Errorf("%s %s answers %d %s to the role %s", method, q.path, got.status, got.body, role)
				continue
			}
			valid(got, q.path)
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Link") != "" {
				t.Errorf("%s %s has the header %v", method, q.path, got.header)
			}
		}
	}
	for _, q := range a.bad {
		got := c.ask(t, a.role, method, "/api/v1"+q.path, q.body)
		if got.status != http.StatusUnprocessableEntity && (got.status != http.StatusBadRequest || q.field != "body") || !slices.Contains(got.fields(t), q.field) {
			t.Errorf("%s %s with %q answers %d %s, which does not name %s", method, q.path, q.body, got.status, got.body, q.field)
			continue
		}
		valid(got, q.path)
	}
}

// sentEvents returns server-sent events as the document describes them: a list
// of objects.
func sentEvents(text string) string {
	var all []string
	for block := range strings.SplitSeq(text, "\n\n") {
		if event, data, ok := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: "); ok {
			all = append(all, fmt.Sprintf(`{"event": %q, "data": %s}`, event, data))
		}
	}
	return "[" + strings.Join(all, ",") + "]"
}
