package examples_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/examples"
	"github.com/posthorn/posthorn/relay/signing"
	"github.com/posthorn/posthorn/transforms"
)

const (
	secret     = "a secret"
	eventID    = "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e"
	deliveryID = "3f1c6a52-0b7e-5d2f-8a14-6f0d8f3f9c11"
	url        = "https://receiver.example/hooks"
)

var committed = time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC)

// load reads an example with an environment that names only what it needs.
func load(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.Load(file, []string{
		"DATABASE_URL=postgres://relay@db.example/app",
		"BYRO_WEBHOOK_URL=" + url, "BYRO_WEBHOOK_SECRET=" + secret,
		"DANBYTE_WEBHOOK_URL=" + url, "DANBYTE_WEBHOOK_SECRET=" + secret,
		"BINDBEE_WEBHOOK_URL=" + url, "BINDBEE_SIGNATURE_KEY=" + secret,
		"OFFLY_WEBHOOK_URL=" + url, "OFFLY_WEBHOOK_SECRET=" + secret,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestCatalogues(t *testing.T) {
	tests := []struct {
		file          string
		types, groups int
	}{
		{"byro/posthorn.yaml", 19, 7},
		{"danbyte/posthorn.toml", 6, 2},
		{"bindbee/posthorn.json", 5, 2},
		{"offly/posthorn.yaml", 8, 4},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			cfg := load(t, tt.file)
			groups, types := map[string]bool{}, map[string]bool{}
			for _, e := range cfg.Events {
				groups[e.Group], types[e.Type] = true, true
				if e.Title == "" || e.Example == "" || !strings.HasPrefix(e.Type, e.Group+".") {
					t.Errorf("%s has the title %q, the group %q and the example %s", e.Type, e.Title, e.Group, e.Example)
				}
			}
			if len(cfg.Events) != tt.types || len(types) != tt.types || len(groups) != tt.groups {
				t.Errorf("got %d entries of %d types in %d groups, want %d in %d", len(cfg.Events), len(types), len(groups), tt.types, tt.groups)
			}
		})
	}
}

func TestEveryTypeOfTheCatalogueIsSent(t *testing.T) {
	for _, file := range []string{"byro/posthorn.yaml", "bindbee/posthorn.json", "offly/posthorn.yaml"} {
		cfg := load(t, file)
		for _, e := range cfg.Events {
			group, _, _ := strings.Cut(e.Type, ".")
			patterns := cfg.Endpoints[0].Events
			if !slices.Contains(patterns, e.Type) && !slices.Contains(patterns, group+".*") {
				t.Errorf("%s: %s is not sent", file, e.Type)
			}
		}
	}
}

func TestEndpointsKeepToTheDocuments(t *testing.T) {
	posthorn := config.DefaultProfile() // where the document says nothing
	tests := []struct {
		file     string
		timeout  time.Duration
		schedule []time.Duration
		jitter   float64
		pause    config.Pause
	}{
		{"byro/posthorn.yaml", 10 * time.Second, []time.Duration{
			30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour,
		}, 0, config.Pause{OnExhausted: true, FailingFor: posthorn.Pause.FailingFor}},
		{"danbyte/posthorn.toml", posthorn.Timeout, []time.Duration{}, posthorn.Retry.Jitter, config.Pause{}},
		{"bindbee/posthorn.json", posthorn.Timeout, posthorn.Retry.Schedule, posthorn.Retry.Jitter, posthorn.Pause},
		{"offly/posthorn.yaml", 30 * time.Second, []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}, 0, config.Pause{}},
	}
	for _, tt := range tests {
		ep := load(t, tt.file).Endpoints[0]
		if ep.Method != http.MethodPost || ep.ContentType != "application/json" || ep.Timeout != tt.timeout || !ep.TLS.Verify {
			t.Errorf("%s: got %s of %s in %v, TLS verified: %t", tt.file, ep.Method, ep.ContentType, ep.Timeout, ep.TLS.Verify)
		}
		if diff := cmp.Diff(tt.schedule, ep.Retry.Schedule); diff != "" || ep.Retry.Jitter != tt.jitter || ep.Pause != tt.pause {
			t.Errorf("%s: jitter %v, pause %+v, schedule (-want +got):\n%s", tt.file, ep.Retry.Jitter, ep.Pause, diff)
		}
	}
	if cfg := load(t, "offly/posthorn.yaml"); !cfg.Egress.RequireHTTPS || len(cfg.Egress.Allow) != 0 || cfg.Endpoints[0].JSON != "stringify" {
		t.Errorf("offly: got %+v and json: %s, want https and public addresses only, and stringify", cfg.Egress, cfg.Endpoints[0].JSON)
	}
}

func TestOfflyRefusesURLsWithoutHTTPS(t *testing.T) {
	_, err := config.Load("offly/posthorn.yaml", []string{"DATABASE_URL=postgres://relay@db.example/app", "OFFLY_WEBHOOK_URL=http://receiver.example/", "OFFLY_WEBHOOK_SECRET=" + secret})
	if err == nil || !strings.Contains(err.Error(), "egress.require_https") {
		t.Errorf("got %v, want what names egress.require_https", err)
	}
}

// Danbyte's further webhooks show the rest of its form.
func TestDanbytesFurtherWebhooks(t *testing.T) {
	tests := map[string]struct {
		method, contentType string
		objects, triggers   []string
		signed, verify      bool
	}{
		"cmdb":    {"PUT", "application/json", []string{"device", "site"}, []string{"create", "delete"}, false, true},
		"tickets": {"POST", "application/x-www-form-urlencoded", []string{"device", "site"}, []string{"create", "update", "delete"}, true, true},
		"erp":     {"PATCH", "application/xml; charset=utf-8", []string{"device", "site"}, []string{"update"}, true, true},
		"lab":     {"POST", "application/json", []string{"*"}, []string{"create"}, true, false},
	}
	endpoints := load(t, "danbyte/posthorn.toml").Endpoints[1:]
	if len(endpoints) != len(tests) {
		t.Errorf("got %d further webhooks, want %d", len(endpoints), len(tests))
	}
	for _, ep := range endpoints {
		want := tests[ep.Name]
		if ep.Method != want.method || ep.ContentType != want.contentType || ep.TLS.Verify != want.verify || len(ep.Signatures) > 0 != want.signed ||
			!slices.Equal(ep.Objects, want.objects) || !slices.Equal(ep.Triggers, want.triggers) {
			t.Errorf("%s: got %+v", ep.Name, ep)
		}
		if ep.Enabled || len(ep.Retry.Schedule) != 0 || ep.Headers["X-Danbyte-Event"] == "" || ep.Headers["X-Danbyte-Delivery"] == "" {
			t.Errorf("%s: enabled %t, retries %v, headers %v", ep.Name, ep.Enabled, ep.Retry.Schedule, ep.Headers)
		}
		if ep.Name == "cmdb" && (ep.Headers["X-Source"] != "danbyte" || ep.Headers["X-Environment"] != "production") {
			t.Errorf("cmdb: additional headers are missing in %v", ep.Headers)
		}
	}
}

// render returns the body and headers of the request that tells the first
// endpoint of an event, as the relay makes them.
func render(t *testing.T, cfg *config.Config, eventType string, payload config.JSON) ([]byte, http.Header) {
	t.Helper()
	ep := cfg.Endpoints[0]
	object, action := transforms.SplitType(eventType)
	view := &transforms.View{
		Event:    transforms.Event{ID: eventID, Type: eventType, Object: object, Action: action, Tenant: ep.Tenant, CreatedAt: committed},
		Payload:  transforms.JSON(payload),
		Delivery: transforms.Delivery{ID: deliveryID, CreatedAt: committed},
		Endpoint: transforms.Endpoint{ID: ep.ID, Name: ep.Name, URL: ep.URL.Reveal(), Tenant: ep.Tenant},
	}
	execute := func(text string) []byte {
		parsed, err := transforms.ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := parsed.Execute(&out, view); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	body := execute(ep.Body)
	if ep.JSON == "stringify" {
		var err error
		if body, err = transforms.Stringify(nil, body); err != nil {
			t.Fatal(err)
		}
	}
	header := http.Header{}
	for name, value := range ep.Headers {
		header.Set(name, string(execute(value)))
	}
	for _, s := range ep.Signatures {
		signer, err := signing.New(signing.Options{
			Scheme: s.Scheme, Header: s.Header, Algorithm: s.Algorithm, Encoding: s.Encoding, Content: s.Content, Value: s.Value,
		})
		if err != nil {
			t.Fatal(err)
		}
		key, err := signing.ParseKey(s.Scheme, ep.Secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(signing.Message{ID: deliveryID, Timestamp: committed, Body: body}, []signing.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range signed {
			header.Set(h.Name, h.Value)
		}
		if err := signer.Verify(header, body, []signing.Key{key}, committed); err != nil {
			t.Error(err)
		}
	}
	return body, header
}

// The bodies are the documents' samples; Danbyte's document has none.
func TestRequestsAreTheDocuments(t *testing.T) {
	hmac256 := func(body []byte) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return mac.Sum(nil)
	}
	tests := []struct {
		file, event, body string
		header            func(body []byte) http.Header
	}{
		{
			"byro/posthorn.yaml", "asset.assigned",
			`{"event": "asset.assigned", "data": {"assetId": "ast789", "tag": "BYR-LAP-001", "employeeId": "emp123", "assignedAt": "2026-05-22T09:30:00Z"},
			"deliveredAt": "2026-05-22T09:30:00Z"}`,
			func(body []byte) http.Header {
				return http.Header{"X-Byro-Signature": {hex.EncodeToString(hmac256(body))}}
			},
		},
		{
			"danbyte/posthorn.toml", "device.update",
			`{"event": "update", "object": {"type": "device", "id": 412},
			"data": {"id": 412, "name": "edge-ams-01", "site": "AMS1", "role": "edge-router", "status": "active"}}`,
			func(body []byte) http.Header {
				mac := hmac.New(sha512.New, []byte(secret))
				mac.Write(body)
				return http.Header{
					"X-Danbyte-Signature": {"sha512=" + hex.EncodeToString(mac.Sum(nil))},
					"X-Danbyte-Event":     {"update"}, "X-Danbyte-Delivery": {deliveryID},
				}
			},
		},
		{
			"bindbee/posthorn.json", "connector.sync_started",
			`{"webhook": {"webhook_id": "10c9a6b1-4ea8-476e-bdb0-193001a94a8d", "url": "https://receiver.example/hooks", "event": "connector_sync_started"},
			"connector": {"id": "018f99e2-ed3a-7f4c-ae97-83d619bdf95c", "display_name": "BreatheHR", "categories": ["HRIS"], "org_name": "Test Org",
			"connector_status": "COMPLETE", "end_user_name": "John Doe", "end_user_email": "abc@xyz.com"},
			"data": {"id": "018f99e7-886b-7c9f-a63a-f6fbc9da1f83", "integration_name": "breathehr", "initial_sync": true, "category": "HRIS",
			"display_status": "Syncing", "last_sync_start_time": "2024-07-22T09:49:30.478384+00:00"}}`,
			func(body []byte) http.Header {
				return http.Header{"X-Bindbee-Webhook-Signature": {base64.URLEncoding.EncodeToString(hmac256(body))}}
			},
		},
		{
			"offly/posthorn.yaml", "leave_request.approved",
			`{"id": "wh_evt_01J1ZKWPRWF8PSRKHZB9NQS3CY", "type": "leave_request.approved", "created_at": "2026-05-22T09:30:00Z",
			"data": {"id": "lr_8f14e45f-ceea-467f", "user_id": "usr_a1b2c3d4", "leave_type": "annual_leave", "start_date": "2026-07-01",
			"end_date": "2026-07-05", "status": "approved", "approved_by": "usr_e5f6g7h8"}}`,
			func(body []byte) http.Header {
				return http.Header{"X-Offly-Signature": {hex.EncodeToString(hmac256(body))}}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			cfg := load(t, tt.file)
			i := slices.IndexFunc(cfg.Events, func(e config.EventType) bool { return e.Type == tt.event })
			body, header := render(t, cfg, tt.event, cfg.Events[i].Example)
			// Compact keeps the order of keys, which the documents' samples fix.
			if diff := cmp.Diff(compact(t, []byte(tt.body)), compact(t, body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.header(body), header); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

// byroSamples are the bodies that Byro's reference shows.
var byroSamples = []string{
	`{"event": "pr.submitted", "data": {"prId": "clx123", "amount": 4500, "currency": "AED", "submittedBy": "ahmed@acme.com"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "pr.approved", "data": {"prId": "clx123", "amount": 4500, "currency": "AED", "approvedBy": "sara@acme.com"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "po.issued", "data": {"poId": "clx456", "prId": "clx123", "supplier": "Apple FZE", "amount": 4500}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "asset.assigned", "data": {"assetId": "ast789", "tag": "BYR-LAP-001", "employeeId": "emp123", "assignedAt": "2026-05-22T09:30:00Z"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "asset.created", "data": {"assetId": "ast789", "tag": "BYR-LAP-001", "category": "Laptop", "purchaseCost": 4500}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "employee.created", "data": {"employeeId": "emp123", "code": "ACM-001", "name": "Ahmed Khan", "department": "Engineering"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "inventory.low_stock", "data": {"itemId": "inv321", "sku": "USB-C-1M", "qty": 3, "minQty": 10}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "expense.approved", "data": {"claimId": "exp654", "amount": 230, "currency": "AED", "category": "TRAVEL"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
	`{"event": "leave.approved", "data": {"requestId": "lvr987", "employeeId": "emp123", "days": 5, "startDate": "2026-06-01"}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
}

func TestByrosExamplesAreItsSamples(t *testing.T) {
	cfg := load(t, "byro/posthorn.yaml")
	for _, sample := range byroSamples {
		var head struct{ Event string }
		if err := json.Unmarshal([]byte(sample), &head); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(cfg.Events, func(e config.EventType) bool { return e.Type == head.Event })
		body, _ := render(t, cfg, head.Event, cfg.Events[i].Example)
		if diff := cmp.Diff(compact(t, []byte(sample)), compact(t, body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", head.Event, diff)
		}
	}
}

func TestEveryExamplePayloadRenders(t *testing.T) {
	for _, file := range []string{"byro/posthorn.yaml", "danbyte/posthorn.toml", "bindbee/posthorn.json", "offly/posthorn.yaml"} {
		cfg := load(t, file)
		for _, e := range cfg.Events {
			body, _ := render(t, cfg, e.Type, e.Example)
			if err := transforms.Valid(body); err != nil {
				t.Errorf("%s: %s: %v", file, e.Type, err)
			}
			if file == "offly/posthorn.yaml" && !bytes.Equal(body, []byte(compact(t, body))) {
				t.Errorf("%s: %s: the body has white space that JSON.stringify does not write", file, e.Type)
			}
		}
	}
}

func compact(t *testing.T, body []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, body); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The demo puts all of them into one relay.
func TestEndpointNamesDiffer(t *testing.T) {
	seen, files := map[string]bool{}, 0
	err := fs.WalkDir(examples.Configurations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		for _, ep := range load(t, filepath.FromSlash(path)).Endpoints {
			if seen[ep.Name] {
				t.Errorf("%s: endpoint %s is in another example too", path, ep.Name)
			}
			seen[ep.Name] = true
		}
		return nil
	})
	if err != nil || files != 4 {
		t.Fatalf("got %d files, %v; want 4", files, err)
	}
}

var exported = regexp.MustCompile(`(?m)^export ([A-Z_]+)=(?:'([^']*)'|(\S*))$`)

func TestReadmesExportWhatTheirConfigurationsNeed(t *testing.T) {
	for _, file := range []string{"byro/posthorn.yaml", "danbyte/posthorn.toml", "bindbee/posthorn.json", "offly/posthorn.yaml"} {
		readme, err := os.ReadFile(filepath.Join(filepath.Dir(file), "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		var environ []string
		for _, m := range exported.FindAllStringSubmatch(string(readme), -1) {
			environ = append(environ, m[1]+"="+m[2]+m[3])
		}
		if _, err := config.Load(file, environ); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if !bytes.Contains(readme, []byte("--config examples/"+file+"\n")) {
			t.Errorf("%s: the README does not run it", file)
		}
	}
}
