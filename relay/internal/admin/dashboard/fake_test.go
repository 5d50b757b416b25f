package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// fakeControl is a relay of four products: Byro, Danbyte, Bindbee and Offly. It
// keeps what is changed in memory, and heeds no tenant unless scoped is set.
type fakeControl struct {
	endpoints  []admin.EndpointDetail
	deliveries []ledger.Detail
	replays    []ledger.Replay
	entries    []ledger.AuditEntry
	catalogue  []admin.EventType
	result     *admin.TestResult
	now        time.Time

	mu   sync.Mutex // of once
	once map[string]onceAnswer

	asked   []string // what was asked for, as method and argument
	filters []ledger.Filter
	audits  []ledger.AuditFilter
	secret  string // that is made; "" for usual ones
	created json.RawMessage
	patched json.RawMessage
	replay  ledger.ReplayRequest
	err     error // of everything that changes something
	invalid *admin.InvalidError
}

func idOf(kind string, n int) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%d", kind, n))
}

func newFake(now time.Time) *fakeControl {
	f := &fakeControl{now: now}
	f.addCatalogue()
	f.addEndpoints()
	f.addDeliveries()
	f.addReplays()
	f.addAudit()
	f.result = &admin.TestResult{
		OK: true, Status: 200, Delivery: idOf("test", 1), Type: "pr.submitted", Method: "POST", URL: "https://erp.acme.example/hooks/byro",
		Headers: [][2]string{{"Content-Type", "application/json"}, {"Posthorn-Test", "true"}, {"X-Byro-Signature", "0f2a7c"}},
		Body:    `{"event":"pr.submitted","data":{"prId":"clx123"}}`, Response: "ok",
		DNSus: 2100, ConnectUS: 11200, TLSus: 24800, FirstByteUS: 96300, TotalUS: 97100,
	}
	return f
}

func (f *fakeControl) addCatalogue() {
	add := func(group, kind, title, example string) {
		t := admin.EventType{Group: group, Type: kind, Title: title}
		if example != "" {
			t.Example = json.RawMessage(example)
		}
		f.catalogue = append(f.catalogue, t)
	}
	add("pr", "pr.submitted", "PR submitted", `{"prId":"clx123","amount":4500,"currency":"AED","submittedBy":"ahmed@acme.com"}`)
	add("pr", "pr.approved", "PR approved", `{"prId":"clx123","amount":4500,"currency":"AED","approvedBy":"sara@acme.com"}`)
	for _, word := range []string{"rejected", "received", "closed", "cancelled"} {
		add("pr", "pr."+word, "PR "+word, "")
	}
	add("po", "po.issued", "PO issued", `{"poId":"clx456","prId":"clx123","supplier":"Apple FZE","amount":4500}`)
	add("asset", "asset.assigned", "Asset assigned", `{"assetId":"ast789","tag":"BYR-LAP-001"}`)
	add("asset", "asset.unassigned", "Asset unassigned", "")
	add("asset", "asset.created", "Asset created", "")
	add("employee", "employee.created", "Employee created", `{"employeeId":"emp123","name":"Ahmed Khan"}`)
	add("employee", "employee.offboarded", "Employee offboarded", "")
	add("inventory", "inventory.low_stock", "Inventory low stock", `{"itemId":"inv321","qty":3,"minQty":10}`)
	for _, word := range []string{"submitted", "approved", "rejected"} {
		add("leave", "leave."+word, "Leave "+word, "")
	}
	add("device", "device.create", "Device created", `{"id":7,"name":"sw-01"}`)
	add("device", "device.update", "Device updated", "")
	add("connector", "connector_sync_started", "Connector sync started", "")
	add("connector", "connector_synced", "Connector synced", "")
	add("offly", "leave_request.approved", "A leave request was approved", `{"id":"lr_8f14e45f","status":"approved"}`)
	f.catalogue[0].Schema = json.RawMessage(`{"type":"object","required":["prId","amount"],"properties":{"prId":{"type":"string"},"amount":{"type":"number","minimum":0}}}`)
}

const byroEffective = `{"events":["pr.*","po.issued"],"profile":"byro","method":"POST","content_type":"application/json","timeout":"10s",
"body":"{\"event\": {{ json .Event.Type }}, \"data\": {{ .Payload }}}","signatures":[{"scheme":"hmac","header":"X-Byro-Signature","algorithm":"sha256","encoding":"hex"}],
"retry":{"schedule":["30s","2m","10m","1h","6h","24h"],"jitter":0.1},"pause":{"on_exhausted":true},"ordering":"none","concurrency":16,"headers":{"X-Region":"eu"}}`

const danbyteEffective = `{"objects":["device","site"],"triggers":["create","delete"],"profile":"danbyte","method":"PUT","content_type":"application/json","timeout":"15s",
"signatures":[{"scheme":"hmac","header":"X-Danbyte-Signature","algorithm":"sha512","encoding":"hex","value":"sha512={signature}"}],"retry":{"schedule":[],"jitter":0}}`

const offlyEffective = `{"events":["leave_request.*","user.*"],"profile":"offly","method":"POST","timeout":"30s","json":"stringify","retry":{"schedule":["1m","5m","30m"],"jitter":0.2}}`

func (f *fakeControl) addEndpoints() {
	add := func(name, tenant, url, document, effective string, patterns ...string) *admin.EndpointDetail {
		n := len(f.endpoints)
		since, made := f.now.Add(-time.Duration(n+2)*7*time.Hour), f.now.Add(-time.Duration(n+3)*26*time.Hour)
		f.endpoints = append(f.endpoints, admin.EndpointDetail{
			EndpointStatus: ledger.EndpointStatus{ID: idOf("endpoint", n), Name: name, Tenant: tenant, URL: url, State: ledger.Enabled, By: "configuration", Since: &since, Origin: ledger.OfAPI},
			Revision:       int64(n + 4), Document: json.RawMessage(document), Effective: json.RawMessage(effective), CreatedAt: &made, CreatedBy: "web:ops",
			HasSecret: true, Patterns: patterns,
		})
		return &f.endpoints[n]
	}
	at := func(back time.Duration) *time.Time { t := f.now.Add(-back); return &t }
	add("acme-erp", "acme", "https://erp.acme.example/hooks/byro", `{"name":"acme-erp","tenant":"acme","url":"https://erp.acme.example/hooks/byro","profile":"byro","events":["pr.*","po.issued"],"headers":{"X-Region":"eu"},"secret":"***"}`, byroEffective, "pr.*", "po.issued")
	e := add("acme-payroll", "acme", "https://payroll.acme.example/in", `{"name":"acme-payroll","tenant":"acme","url":"https://payroll.acme.example/in","profile":"byro","events":["employee.*"]}`, byroEffective, "employee.*")
	e.Failing, e.Failures, e.FailingSince, e.Pending, e.OldestPending, e.NextDue = true, 7, at(43*time.Minute), 1204, at(44*time.Minute), at(-3*time.Minute)
	e = add("globex-archive", "globex", "https://hooks.globex.example/byro?token=***", `{"name":"globex-archive","tenant":"globex","url":"https://hooks.globex.example/byro?token=***","events":["*"]}`, byroEffective, "*")
	e.State, e.By, e.Reason, e.Since, e.Pending, e.OldestPending = ledger.Paused, "relay", "a delivery failed for good after its last retry", at(5*time.Hour), 318, at(11*time.Hour)
	e = add("automation", "", "https://automation.danbyte.example/webhook", `{"name":"automation","url":"https://automation.danbyte.example/webhook","profile":"danbyte","objects":["device","site"],"triggers":["create","delete"]}`, danbyteEffective, "device.create", "device.delete")
	e.PreviousSecrets = []time.Time{f.now.Add(20 * time.Hour)}
	e = add("cmdb", "", "https://cmdb.example.com/danbyte", "{}", danbyteEffective, "site.create")
	e.Origin, e.State, e.Reason = ledger.OfConfiguration, ledger.Disabled, "enabled is false in the configuration"
	add("bindbee-sync", "org-77", "https://webhook-test.example/8e771727c78e", `{"name":"bindbee-sync"}`, `{"events":["connector_synced"],"profile":"bindbee","retry":{"schedule":["5s","5m"],"jitter":0.2},"signatures":[{"scheme":"hmac","header":"X-Bindbee-Webhook-Signature","encoding":"base64url"}]}`, "connector_synced")
	e = add("offly-hr", "offly-acme", "https://abc123.ngrok.example/webhooks/offly", `{"name":"offly-hr"}`, offlyEffective, "leave_request.*")
	e.State, e.By, e.Reason, e.Since, e.Pending, e.OldestPending = ledger.Paused, "operator", "maintenance until noon", at(50*time.Minute), 12, at(40*time.Minute)
	e = add("old-crm", "globex", "https://crm.globex.example/x", `{"name":"old-crm"}`, offlyEffective, "pr.*")
	e.State, e.By, e.Reason, e.Since = ledger.Disabled, "relay", "the receiver answered 410 Gone", at(70*time.Hour)
}

func (f *fakeControl) addDeliveries() {
	r := rand.New(rand.NewPCG(7, 7))
	types := []string{"pr.submitted", "pr.approved", "po.issued", "employee.created", "asset.assigned", "device.create", "connector_synced", "leave_request.approved", "inventory.low_stock"}
	at := f.now
	for i := range 140 {
		at = at.Add(-time.Duration(1+r.IntN(40)) * time.Second)
		e := &f.endpoints[r.IntN(7)]
		finished := at.Add(time.Duration(20+r.IntN(200)) * time.Millisecond)
		d := ledger.Detail{Delivery: ledger.Delivery{
			ID: idOf("delivery", i), State: ledger.Delivered, Endpoint: e.Name, EndpointID: e.ID, Event: idOf("event", i/2), Type: types[r.IntN(len(types))], Tenant: e.Tenant,
			CreatedAt: at, Attempts: 1, Status: 200, FinishedAt: &finished,
		}}
		switch {
		case i%9 == 4 || i == 1:
			f.fail(&d, i)
		case i%13 == 6:
			due := f.now.Add(time.Duration(i) * 7 * time.Second)
			d.State, d.Status, d.Attempts, d.DueAt, d.FinishedAt, d.Reason, d.Error = ledger.Pending, 503, 2, &due, nil, "retry 2 of 6", "the receiver answered 503 Service Unavailable"
		}
		f.deliveries = append(f.deliveries, d)
	}
}

func (f *fakeControl) fail(d *ledger.Detail, n int) {
	d.State, d.Attempts, d.Status, d.Error, d.Key = ledger.Failed, 4, 500, "the receiver answered 500 Internal Server Error", "clx123"
	d.Payload = []byte(`{"prId":"clx123","amount":4500,"currency":"AED","submittedBy":"ahmed@acme.com","note":"it's \"urgent\""}`)
	d.Request = &ledger.Request{Method: "POST", Headers: [][2]string{{"Content-Type", "application/json"}, {"User-Agent", "Posthorn/1.0"}, {"X-Region", "eu"}},
		Body: []byte(`{"event":"pr.submitted","data":{"prId":"clx123","amount":4500,"currency":"AED","note":"it's \"urgent\""},"deliveredAt":"2026-05-22T09:30:00Z"}`)}
	at := d.CreatedAt.Add(34 * time.Millisecond)
	defer func() { end := at; d.FinishedAt = &end }()
	for i := range 4 {
		a := ledger.Attempt{Number: i + 1, StartedAt: at, Outcome: "rejected", Status: 500, Error: "the receiver answered 500 Internal Server Error", Response: []byte(`{"error":"database is locked","request":"req_7c1"}`),
			DNS: 2 * time.Millisecond, Connect: 14 * time.Millisecond, TLS: 31 * time.Millisecond, FirstByte: time.Duration(120+n) * time.Millisecond, Total: time.Duration(128+n) * time.Millisecond}
		if i == 1 {
			a.Outcome, a.Status, a.Error, a.Response = "failed", 0, "no answer within 10s", nil
			a.DNS, a.FirstByte, a.Total = 0, 0, 10*time.Second
		}
		if i == 2 {
			a.DNS, a.Connect, a.TLS = 0, 0, 0
		}
		d.Tries = append(d.Tries, a)
		at = at.Add([]time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, 0}[i])
	}
}

func (f *fakeControl) addReplays() {
	done := f.now.Add(-3 * time.Hour)
	f.replays = []ledger.Replay{
		{ID: idOf("replay", 0), State: "running", Total: 1204, Done: 731, Skipped: 4, CreatedAt: f.now.Add(-80 * time.Second), CreatedBy: "web:ops", Request: ledger.ReplayRequest{States: []ledger.State{ledger.Failed}, Endpoint: "acme-payroll", Rate: 100}},
		{ID: idOf("replay", 1), State: "done", Total: 88, Done: 88, CreatedAt: f.now.Add(-4 * time.Hour), CreatedBy: "api:ci", FinishedAt: &done, Request: ledger.ReplayRequest{States: []ledger.State{ledger.Delivered, ledger.Failed}, Type: "pr.submitted", From: f.now.Add(-48 * time.Hour), Until: f.now.Add(-24 * time.Hour), NewIDs: true, Rate: 10}},
		{ID: idOf("replay", 2), State: "cancelled", Total: 5400, Done: 311, CreatedAt: f.now.Add(-30 * time.Hour), CreatedBy: "web:sara", FinishedAt: &done, Request: ledger.ReplayRequest{Tenant: "globex"}},
	}
}

func (f *fakeControl) addAudit() {
	actions := []string{"endpoint.pause", "secret.rotate", "endpoint.edit", "delivery.retry", "login", "endpoint.create", "replay.start"}
	for i := range 60 {
		e := ledger.AuditEntry{
			ID: int64(900 - i), At: f.now.Add(-time.Duration(i*17) * time.Minute), Actor: []string{"web:ops", "api:ci", "portal:acme/jane"}[i%3], From: "192.0.2.17",
			Action: actions[i%len(actions)], Subject: idOf("endpoint", i%8).String(), Tenant: []string{"acme", "globex", ""}[i%3],
		}
		if e.Action == "endpoint.edit" {
			e.Before, e.After = json.RawMessage(`{"timeout":"10s","secret":"***"}`), json.RawMessage(`{"timeout":"15s","secret":"***"}`)
		} else if i%2 == 0 {
			e.Detail = json.RawMessage(`{"name":"acme-erp","reason":"maintenance","was":"enabled"}`)
		}
		f.entries = append(f.entries, e)
	}
}

func (f *fakeControl) note(method string, args ...any) {
	f.asked = append(f.asked, strings.TrimSpace(method+" "+fmt.Sprintln(args...)))
}

func (f *fakeControl) EndpointNames(ctx context.Context, who *admin.Caller) ([]ledger.Endpoint, error) {
	var list []ledger.Endpoint
	all, err := f.Endpoints(ctx, who, false)
	for _, e := range all {
		list = append(list, ledger.Endpoint{ID: e.ID, Name: e.Name})
	}
	return list, err
}

func (f *fakeControl) Endpoints(_ context.Context, who *admin.Caller, _ bool) ([]ledger.EndpointStatus, error) {
	var list []ledger.EndpointStatus
	for _, e := range f.endpoints {
		if who.Tenant == "" || who.Tenant == e.Tenant {
			list = append(list, e.EndpointStatus)
		}
	}
	return list, nil
}

func (f *fakeControl) Endpoint(_ context.Context, who *admin.Caller, name string) (*admin.EndpointDetail, error) {
	for _, e := range f.endpoints {
		if (e.Name == name || e.ID.String() == name) && (who.Tenant == "" || who.Tenant == e.Tenant) {
			return &e, nil
		}
	}
	return nil, ledger.ErrUnknownEndpoint
}

// invalid returns what is wrong with fields: names and messages in turn.
func invalid(pairs ...string) *admin.InvalidError {
	e := &admin.InvalidError{}
	for i := 0; i < len(pairs); i += 2 {
		e.Fields = append(e.Fields, admin.FieldProblem{Field: pairs[i], Message: pairs[i+1]})
	}
	return e
}

func (f *fakeControl) problem() error {
	if f.invalid != nil {
		return f.invalid
	}
	return f.err
}

func (f *fakeControl) CreateEndpoint(_ context.Context, _ *admin.Caller, document json.RawMessage) (*admin.NewSecret, error) {
	f.created = document
	if err := f.problem(); err != nil {
		return nil, err
	}
	e := f.endpoints[0]
	return &admin.NewSecret{EndpointDetail: e, Secret: cmp.Or(f.secret, "whsec_bm90IGEgc2VjcmV0IGF0IGFsbCwgYnV0IGxvbmc=")}, nil
}

func (f *fakeControl) EditEndpoint(_ context.Context, _ *admin.Caller, name string, patch json.RawMessage, revision int64) (*admin.EndpointDetail, error) {
	f.patched = patch
	f.note("edit", name, revision)
	if err := f.problem(); err != nil {
		return nil, err
	}
	return &f.endpoints[0], nil
}

func (f *fakeControl) CheckEndpoint(_ context.Context, _ *admin.Caller, name string, document json.RawMessage) error {
	f.note("check", name)
	f.created = document
	if f.invalid != nil {
		return f.invalid
	}
	var in struct{ URL, Timeout string }
	_ = json.Unmarshal(document, &in)
	var problems []admin.FieldProblem
	if name == "" && !strings.HasPrefix(in.URL, "http") {
		problems = append(problems, admin.FieldProblem{Field: "url", Message: "must be an http or https URL"})
	}
	if _, err := time.ParseDuration(cmp.Or(in.Timeout, "1s")); err != nil {
		problems = append(problems, admin.FieldProblem{Field: "timeout", Message: "must be a duration such as 15s"})
	}
	if problems != nil {
		return &admin.InvalidError{Fields: problems}
	}
	return nil
}

func (f *fakeControl) DeleteEndpoint(_ context.Context, _ *admin.Caller, name string) error {
	f.note("delete", name)
	return f.err
}

func (f *fakeControl) RotateSecret(_ context.Context, _ *admin.Caller, name string, r admin.Rotation) (*admin.NewSecret, error) {
	f.note("rotate", name, r.Grace)
	if f.err != nil {
		return nil, f.err
	}
	return &admin.NewSecret{EndpointDetail: f.endpoints[0], Secret: cmp.Or(f.secret, "whsec_cm90YXRlZCBidXQgc3RpbGwgbm8gc2VjcmV0")}, nil
}

func (f *fakeControl) Pause(_ context.Context, _ *admin.Caller, endpoint, reason string) (*ledger.Turned, error) {
	f.note("pause", endpoint, reason)
	return &ledger.Turned{}, f.err
}

func (f *fakeControl) Resume(_ context.Context, _ *admin.Caller, endpoint, _ string) (*ledger.Turned, error) {
	f.note("resume", endpoint)
	return &ledger.Turned{}, f.err
}

func (f *fakeControl) Test(_ context.Context, _ *admin.Caller, endpoint, eventType string, payload []byte) (*admin.TestResult, error) {
	f.note("test", endpoint, eventType, string(payload))
	if f.err != nil {
		return nil, f.err
	}
	result := *f.result
	return &result, nil
}

func (f *fakeControl) List(_ context.Context, who *admin.Caller, wanted ledger.Filter) ([]ledger.Delivery, error) {
	f.filters = append(f.filters, wanted)
	var list []ledger.Delivery
	for _, d := range f.deliveries {
		if (len(wanted.States) == 0 || slices.Contains(wanted.States, d.State)) && (wanted.Endpoint == "" || wanted.Endpoint == d.Endpoint || wanted.Endpoint == d.EndpointID.String()) &&
			(wanted.Type == "" || wanted.Type == d.Type) && (who.Tenant == "" || who.Tenant == d.Tenant) &&
			(wanted.After == ledger.Cursor{} || d.CreatedAt.Before(wanted.After.CreatedAt)) && len(list) < wanted.Limit {
			list = append(list, d.Delivery)
		}
	}
	return list, nil
}

func (f *fakeControl) Show(_ context.Context, who *admin.Caller, id uuid.UUID) (*ledger.Detail, error) {
	for _, d := range f.deliveries {
		if d.ID == id && (who.Tenant == "" || who.Tenant == d.Tenant) {
			return &d, nil
		}
	}
	return nil, ledger.ErrUnknownDelivery
}

func (f *fakeControl) Retry(_ context.Context, _ *admin.Caller, id uuid.UUID) (bool, error) {
	f.note("retry", id)
	return false, f.err
}

func (f *fakeControl) PreviewReplay(_ context.Context, _ *admin.Caller, r ledger.ReplayRequest) (*ledger.ReplayPreview, error) {
	f.replay = r
	return &ledger.ReplayPreview{Total: 1204, Endpoints: []ledger.EndpointCount{{Endpoint: "acme-payroll", Count: 900}, {Endpoint: "acme-erp", Count: 304}}}, f.err
}

func (f *fakeControl) StartReplay(_ context.Context, _ *admin.Caller, r ledger.ReplayRequest) (*ledger.Replay, error) {
	f.replay = r
	f.note("replay")
	return &f.replays[0], f.err
}

func (f *fakeControl) Replays(context.Context, *admin.Caller, int, ledger.Cursor) ([]ledger.Replay, error) {
	return f.replays, nil
}

func (f *fakeControl) Replay(_ context.Context, _ *admin.Caller, id uuid.UUID) (*ledger.Replay, error) {
	for i := range f.replays {
		if f.replays[i].ID == id {
			return &f.replays[i], nil
		}
	}
	return nil, ledger.ErrUnknownReplay
}

func (f *fakeControl) CancelReplay(_ context.Context, _ *admin.Caller, id uuid.UUID) (*ledger.Replay, error) {
	f.note("cancel", id)
	return &f.replays[0], f.err
}

func (f *fakeControl) Stats(_ context.Context, _ *admin.Caller, q ledger.StatsQuery) (*admin.Stats, error) {
	oldest := f.now.Add(-11 * time.Hour)
	s := &admin.Stats{Now: admin.StatsNow{EventsPerSecond: 41.37, DeliveriesPerSecond: 96.2, SuccessShare: 0.9931, P50: 18 * time.Millisecond, P95: 96 * time.Millisecond, P99: 410 * time.Millisecond,
		Pending: 1534, OldestPending: &oldest, SlotKnown: true, SlotLag: 182 << 10, SlotRetained: 48 << 20}}
	r := rand.New(rand.NewPCG(uint64(len(q.Endpoint)), 3))
	for at, i := q.From.Truncate(q.Step), 0; at.Before(q.Until); at, i = at.Add(q.Step), i+1 {
		wave := 1 + 0.5*math.Sin(float64(i)/7) + 0.2*r.Float64()
		n := int64(wave * q.Step.Seconds() * 40)
		p := ledger.Point{At: at, Events: n / 2, Delivered: n, Attempts: n, P50: time.Duration(15+8*wave) * time.Millisecond, P95: time.Duration(70+40*wave) * time.Millisecond, P99: time.Duration(250+90*r.Float64()*wave) * time.Millisecond}
		if i%11 > 8 {
			p.Failed, p.FailedAttempts = n/9, n/5
		}
		if q.Endpoint == "" {
			lag, retained := int64(wave*150000), int64(wave*30e6)
			p.Peak = &ledger.Levels{Parked: n / 40, Unsettled: time.Duration(wave*20) * time.Millisecond, SlotLag: &lag, SlotRetained: &retained}
		}
		s.Series = append(s.Series, p)
	}
	return s, nil
}

func (f *fakeControl) Audit(_ context.Context, who *admin.Caller, a ledger.AuditFilter) ([]ledger.AuditEntry, error) {
	f.audits = append(f.audits, a)
	var list []ledger.AuditEntry
	for _, e := range f.entries {
		if (a.Before == 0 || e.ID < a.Before) && len(list) < a.Limit && (who.Tenant == "" || who.Tenant == e.Tenant) && (a.Action == "" || a.Action == e.Action) {
			list = append(list, e)
		}
	}
	return list, nil
}

// Once keeps answers as the relay does. It is safe for concurrent use.
func (f *fakeControl) Once(ctx context.Context, who *admin.Caller, r admin.OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error) {
	key := who.Name + " " + r.Operation + " " + r.Key
	f.mu.Lock()
	before, came := f.once[key]
	if !came {
		if f.once == nil {
			f.once = map[string]onceAnswer{}
		}
		f.once[key] = onceAnswer{request: string(r.Request)}
	}
	f.mu.Unlock()
	switch {
	case came && before.request != string(r.Request):
		return nil, ledger.ErrOtherRequest
	case came && before.answer == nil:
		return nil, ledger.ErrRunning
	case came:
		return before.answer, nil
	}
	answer, err := do(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.once[key] = (onceAnswer{string(r.Request), answer}); err != nil {
		delete(f.once, key)
	}
	return answer, err
}

type onceAnswer struct {
	request string
	answer  []byte
}

func (f *fakeControl) Catalogue() []admin.EventType { return f.catalogue }

// fakeAccess lets in whoever is set, and takes every change for meant.
type fakeAccess struct{ who *admin.Caller }

const fakeCSRF = "csrf-of-the-session"

func (a *fakeAccess) Page(next admin.PageFunc) http.Handler {
	return a.SlowPage(time.Minute, 16, 16, next)
}

func (a *fakeAccess) SlowPage(within time.Duration, _, _ int, next admin.PageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		ctx, cancel := context.WithTimeout(r.Context(), within)
		defer cancel()
		if r.ParseForm() != nil {
			http.Error(w, "form", http.StatusBadRequest)
			return
		}
		who := *a.who
		next(w, r.WithContext(ctx), &who, fakeCSRF)
	})
}
