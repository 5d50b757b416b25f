package admin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// fakeControl answers with nothing, or err.
type fakeControl struct {
	err     error
	waits   bool // Test returns only once its context ends
	started chan struct{}
	takes   time.Duration // that Test takes
}

func (f *fakeControl) Endpoints(context.Context, *Caller, bool) ([]ledger.EndpointStatus, error) {
	return nil, f.err
}

func (f *fakeControl) EndpointNames(context.Context, *Caller) ([]ledger.Endpoint, error) {
	return nil, f.err
}

func (f *fakeControl) Pause(context.Context, *Caller, string, string) (*ledger.Turned, error) {
	return &ledger.Turned{State: ledger.Paused, Was: ledger.Enabled, By: "operator"}, f.err
}

func (f *fakeControl) Resume(ctx context.Context, who *Caller, endpoint, reason string) (*ledger.Turned, error) {
	return f.Pause(ctx, who, endpoint, reason)
}

func (f *fakeControl) List(context.Context, *Caller, ledger.Filter) ([]ledger.Delivery, error) {
	return nil, f.err
}

func (f *fakeControl) Show(context.Context, *Caller, uuid.UUID) (*ledger.Detail, error) {
	return &ledger.Detail{Payload: []byte(strings.Repeat("ä", maxText))}, f.err
}

func (f *fakeControl) Retry(context.Context, *Caller, uuid.UUID) (bool, error) { return false, f.err }

func (f *fakeControl) Test(ctx context.Context, _ *Caller, _, _ string, _ []byte) (*TestResult, error) {
	if f.waits {
		f.started <- struct{}{}
		<-ctx.Done()
	}
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &TestResult{}, f.err
}

func (f *fakeControl) Audit(context.Context, *Caller, ledger.AuditFilter) ([]ledger.AuditEntry, error) {
	return nil, f.err
}

func (f *fakeControl) Endpoint(context.Context, *Caller, string) (*EndpointDetail, error) {
	return &EndpointDetail{Document: []byte("{}"), Effective: []byte("{}")}, f.err
}

func (f *fakeControl) CreateEndpoint(context.Context, *Caller, json.RawMessage) (*NewSecret, error) {
	return &NewSecret{EndpointDetail: EndpointDetail{Document: []byte("{}"), Effective: []byte("{}")}, Secret: "made"}, f.err
}

func (f *fakeControl) EditEndpoint(ctx context.Context, who *Caller, name string, _ json.RawMessage, _ int64) (*EndpointDetail, error) {
	return f.Endpoint(ctx, who, name)
}

func (f *fakeControl) DeleteEndpoint(context.Context, *Caller, string) error { return f.err }

func (f *fakeControl) RotateSecret(ctx context.Context, who *Caller, _ string, _ Rotation) (*NewSecret, error) {
	return f.CreateEndpoint(ctx, who, nil)
}

func (f *fakeControl) CheckEndpoint(context.Context, *Caller, string, json.RawMessage) error {
	return f.err
}

func (f *fakeControl) Once(ctx context.Context, _ *Caller, _ OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error) {
	return do(ctx)
}

func (f *fakeControl) PreviewReplay(context.Context, *Caller, ledger.ReplayRequest) (*ledger.ReplayPreview, error) {
	return &ledger.ReplayPreview{}, f.err
}

func (f *fakeControl) StartReplay(context.Context, *Caller, ledger.ReplayRequest) (*ledger.Replay, error) {
	return &ledger.Replay{}, f.err
}

func (f *fakeControl) Replays(context.Context, *Caller, int, ledger.Cursor) ([]ledger.Replay, error) {
	return nil, f.err
}

func (f *fakeControl) Replay(context.Context, *Caller, uuid.UUID) (*ledger.Replay, error) {
	return &ledger.Replay{}, f.err
}

func (f *fakeControl) CancelReplay(context.Context, *Caller, uuid.UUID) (*ledger.Replay, error) {
	return &ledger.Replay{}, f.err
}

func (f *fakeControl) Stats(context.Context, *Caller, ledger.StatsQuery) (*Stats, error) {
	return &Stats{}, f.err
}

func (f *fakeControl) Catalogue() []EventType { return nil }

const (
	viewerToken = "viewer-0102030405060708090a"
	adminToken  = "admin-0102030405060708090a"
)

// newTestAPI returns an API that speaks to control and logs to log.
func testOptions(control Control, log *bytes.Buffer) APIOptions {
	return APIOptions{
		Control: control, Snapshot: func() Snapshot { return Snapshot{Role: RoleStandby} }, Version: "test", Access: NewAccess(accessOptions(log)),
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
}

func newTestAPI(t *testing.T, control Control, log *bytes.Buffer) *API {
	t.Helper()
	a, err := NewAPI(testOptions(control, log))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// request returns a request of root's; change may alter it.
func request(method, target, body string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, "http://localhost:8080"+target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header.Set("Authorization", "Bearer "+adminToken)
	if change != nil {
		change(r)
	}
	return r
}

func answerOf(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

func TestAPIRefusesWhatIsNotForIt(t *testing.T) {
	cases := []struct {
		name         string
		method, path string
		change       func(*http.Request)
		want         int
	}{
		{"localhost", "GET", "/api/v1/events", nil, 200},
		{"loopback", "GET", "/api/v1/events", host("127.8.9.1:1"), 200},
		{"loopback of IPv6", "GET", "/api/v1/events", host("[::1]:8080"), 200},
		{"loopback of IPv6 without a port", "GET", "/api/v1/events", host("[::1]"), 200},
		{"the address that is listened on", "GET", "/api/v1/events", host("192.0.2.1:8080"), 200},
		{"a host of the configuration", "GET", "/api/v1/events", host("posthorn.EXAMPLE"), 200},
		{"an address of the configuration", "GET", "/api/v1/events", host("[2001:db8:0::1]:80"), 200},
		{"another address", "GET", "/api/v1/events", host("192.0.2.2:8080"), 421},
		{"another host", "GET", "/api/v1/events", host("evil.example"), 421},
		{"a host that begins like one", "GET", "/api/v1/events", host("posthorn.example.evil.example"), 421},
		{"a host below one", "GET", "/api/v1/events", host("evil.localhost"), 421},
		{"no host", "GET", "/api/v1/events", host(""), 421},
		{"another host for the document", "GET", "/api/openapi.json", host("evil.example"), 421},
		{"a forwarded host", "GET", "/api/v1/events", func(r *http.Request) {
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "localhost")
		}, 421},

		{"no origin", "POST", "/api/v1/endpoints/e/pause", nil, 200},
		{"the same origin", "POST", "/api/v1/endpoints/e/pause", header("Origin", "http://localhost:8080"), 200},
		{"the same origin behind a proxy with TLS", "POST", "/api/v1/endpoints/e/pause", header("Origin", "https://LOCALHOST:8080"), 200},
		{"another origin", "POST", "/api/v1/endpoints/e/pause", header("Origin", "http://evil.example"), 403},
		{"another port", "POST", "/api/v1/endpoints/e/pause", header("Origin", "http://localhost:9090"), 403},
		{"no known origin", "POST", "/api/v1/endpoints/e/pause", header("Origin", "null"), 403},
		{"an empty origin", "POST", "/api/v1/endpoints/e/pause", header("Origin", ""), 403},
		{"another scheme", "POST", "/api/v1/endpoints/e/pause", header("Origin", "chrome-extension://localhost:8080"), 403},
		{"two origins", "POST", "/api/v1/endpoints/e/pause", header("Origin", "http://localhost:8080", "http://evil.example"), 403},
		{"a page of another site, by its browser", "POST", "/api/v1/endpoints/e/pause", header("Sec-Fetch-Site", "cross-site"), 403},
		{"a page of the same site, by its browser", "POST", "/api/v1/endpoints/e/pause", header("Sec-Fetch-Site", "same-site"), 403},
		{"a page of ours, by its browser", "POST", "/api/v1/endpoints/e/pause", header("Sec-Fetch-Site", "same-origin"), 200},
		{"another origin that reads", "GET", "/api/v1/events", header("Origin", "http://evil.example"), 200},

		{"no token", "GET", "/api/v1/events", header("Authorization"), 401},
		{"an empty token", "GET", "/api/v1/events", header("Authorization", "Bearer "), 401},
		{"another scheme of authorization", "GET", "/api/v1/events", header("Authorization", "Basic "+adminToken), 401},
		{"the beginning of a token", "GET", "/api/v1/events", header("Authorization", "Bearer "+adminToken[:24]), 401},
		{"a token and more", "GET", "/api/v1/events", header("Authorization", "Bearer "+adminToken+" "), 401},
		{"two tokens", "GET", "/api/v1/events", header("Authorization", "Bearer "+adminToken, "Bearer "+viewerToken), 401},
		{"a token in the query", "GET", "/api/v1/events?token=" + adminToken, header("Authorization"), 401},
		{"a cookie", "GET", "/api/v1/events", func(r *http.Request) {
			r.Header.Set("Cookie", "token="+adminToken)
			r.Header.Del("Authorization")
		}, 401},
		{"a scheme in lower case", "GET", "/api/v1/events", header("Authorization", "bearer "+adminToken), 200},
		{"no token for what there is not", "GET", "/api/v1/nothing", header("Authorization"), 401},
		{"a role that is too low", "POST", "/api/v1/endpoints/e/pause", header("Authorization", "Bearer "+viewerToken), 403},
		{"no token for the document", "GET", "/api/openapi.json", header("Authorization"), 200},

		{"what there is not", "GET", "/api/v1/nothing", nil, 404},
		{"huma's page of documents", "GET", "/api/v1/docs", nil, 404},
		{"huma's schemas", "GET", "/api/v1/schemas/Delivery.json", nil, 404},
		{"another method", "DELETE", "/api/v1/events", nil, 405},
		{"a path that is too long", "GET", "/api/v1/events?cursor=" + strings.Repeat("x", maxURI), nil, 414},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := answerOf(newTestAPI(t, &fakeControl{}, &bytes.Buffer{}), request(c.method, c.path, "", c.change))
			if w.Code != c.want {
				t.Fatalf("answers %d %s, want %d", w.Code, w.Body, c.want)
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			var problem struct{ Status int }
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || c.want != 200 && (problem.Status != c.want || w.Header().Get("Content-Type") != "application/problem+json") {
				t.Errorf("it is no problem: %s %s", w.Header().Get("Content-Type"), w.Body)
			}
			if strings.Contains(w.Body.String(), "-010203") {
				t.Errorf("a token stands in %s", w.Body)
			}
		})
	}
}

func TestAPIIsOffWithoutTokens(t *testing.T) {
	a, err := NewAPI(APIOptions{Access: NewAccess(AccessOptions{Listen: "127.0.0.1:8080"}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/events", "/api/v1/endpoints", "/api/openapi.json", "/api/"} {
		if w := answerOf(a, request("GET", path, "", nil)); w.Code != 404 || !strings.Contains(w.Body.String(), "http.tokens") {
			t.Errorf("%s answers %d %s", path, w.Code, w.Body)
		}
	}
}

func TestAPIBoundsBodiesAndAnswers(t *testing.T) {
	a := newTestAPI(t, &fakeControl{}, &bytes.Buffer{})
	for path, size := range map[string]int{"/api/v1/endpoints/e/pause": smallBody, "/api/v1/endpoints/e/test": maxPayload} {
		if w := answerOf(a, request("POST", path, `{"x": "`+strings.Repeat("x", size)+`"}`, nil)); w.Code != 413 {
			t.Errorf("%s answers %d %s", path, w.Code, w.Body)
		}
	}
	if w := answerOf(a, request("POST", "/api/v1/endpoints/e/test", `{"payload": "`+strings.Repeat("x", maxPayload/2)+`"}`, nil)); w.Code != 200 {
		t.Errorf("a large payload answers %d %s", w.Code, w.Body)
	}
	if w := answerOf(a, request("POST", "/api/v1/endpoints/e/pause", `reason`, header("Content-Type", "text/plain"))); w.Code != 415 {
		t.Errorf("a text answers %d %s", w.Code, w.Body)
	}
	w := answerOf(a, request("GET", "/api/v1/deliveries/"+uuid.NewString(), "", nil))
	var d struct{ Payload string }
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || !strings.HasSuffix(d.Payload, fmt.Sprintf("ä… (%d bytes)", 2*maxText)) {
		t.Errorf("a large payload is shown with %d bytes, %v", len(d.Payload), err)
	}
}

func TestAPIKeepsFaultsToTheLog(t *testing.T) {
	cases := []struct {
		err    error
		want   int
		secret bool
	}{
		{fmt.Errorf("delivery 1: %w", ledger.ErrUnknownDelivery), 404, false},
		{fmt.Errorf("pause endpoint e: %w", ledger.ErrConfigured), 409, false},
		{fmt.Errorf("retry delivery 1: %w", ledger.Refused("it is being sent")), 409, false},
		{errors.New("failed to connect to host=hidden user=hidden"), 503, true},
	}
	for _, c := range cases {
		var log bytes.Buffer
		w := answerOf(newTestAPI(t, &fakeControl{err: c.err}, &log), request("POST", "/api/v1/deliveries/"+uuid.NewString()+"/retry", "", nil))
		if w.Code != c.want || strings.Contains(w.Body.String(), c.err.Error()) == c.secret || strings.Contains(log.String(), "hidden") != c.secret {
			t.Errorf("%v: answers %d %s and logs %q", c.err, w.Code, w.Body, &log)
		}
	}
}

func TestGuessingTokensIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := newTestAPI(t, &fakeControl{}, &log)
		guess := func(from, token string) *httptest.ResponseRecorder {
			return answerOf(a, request("GET", "/api/v1/events", "", func(r *http.Request) {
				r.RemoteAddr = from
				r.Header.Set("Authorization", "Bearer "+token)
			}))
		}
		for i := range 100 { // who was not told of a new token
			if w := guess("192.0.2.7:1", "the-old-token-of-this-program"); w.Code != 401 || !strings.Contains(w.Header().Get("WWW-Authenticate"), "invalid_token") {
				t.Fatalf("the same wrong token for the %dth time answers %d", i+1, w.Code)
			}
		}
		if w := guess("192.0.2.7:1", viewerToken); w.Code != 200 {
			t.Errorf("a right token is answered %d", w.Code)
		}
		for i := range guessBurst - 1 {
			if w := guess("192.0.2.7:2", fmt.Sprintf("guess-%d", i)); w.Code != 401 {
				t.Fatalf("guess %d answers %d", i+1, w.Code)
			}
		}
		if w := guess("192.0.2.7:3", "guess"); w.Code != 429 || w.Header().Get("Retry-After") != "10" {
			t.Errorf("one guess more answers %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		if w := guess("192.0.2.7:3", viewerToken); w.Code != 200 {
			t.Errorf("a token that was right before is answered %d", w.Code)
		}
		if w := guess("192.0.2.7:3", adminToken); w.Code != 429 {
			t.Errorf("a right guess too many is answered %d", w.Code)
		}
		if w := guess("192.0.2.8:3", adminToken); w.Code != 200 {
			t.Errorf("another address is answered %d", w.Code)
		}
		time.Sleep(guessEvery)
		if w := guess("192.0.2.7:4", "the-old-token-of-this-program"); w.Code != 401 {
			t.Errorf("after a while a guess is answered %d", w.Code)
		}
		if text := log.String(); strings.Contains(text, "guess-") || strings.Contains(text, "old-token") || strings.Count(text, "wrong token") != 10 {
			t.Errorf("logged: %s", text)
		}
		for i := range 3 * maxGuessers {
			guess(fmt.Sprintf("10.%d.%d.1:1", i/256, i%256), "guess")
		}
		if n := len(a.Access.guesses.by); n != maxGuessers {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

func TestGuessersShareANetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7/32", "[::ffff:192.0.2.7]:1": "192.0.2.7/32", "[2001:db8::1]:1": "2001:db8::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "invalid Prefix",
	} {
		if got := guesserOf(remote).String(); got != want {
			t.Errorf("%s is remembered as %s, not %s", remote, got, want)
		}
	}
}

func TestOnlySomeTestsAreSentAtOnce(t *testing.T) {
	control := &fakeControl{waits: true, started: make(chan struct{})}
	a := newTestAPI(t, control, &bytes.Buffer{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, maxTests)
	for range maxTests {
		go func() {
			ended <- answerOf(a, request("POST", "/api/v1/endpoints/e/test", "", nil).WithContext(ctx)).Code
		}()
		<-control.started
	}
	if w := answerOf(a, request("POST", "/api/v1/endpoints/e/test", "", nil)); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more answers %d", w.Code)
	}
	cancel()
	for range maxTests {
		<-ended
	}
}

func TestATestMayTakeLongerThanTheServerWaitsForRequests(t *testing.T) {
	o := testOptions(&fakeControl{takes: 300 * time.Millisecond}, &bytes.Buffer{})
	o.bodyWithin = 100 * time.Millisecond
	a, err := NewAPI(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(a)
	s.Config.WriteTimeout = 100 * time.Millisecond
	s.Start()
	defer s.Close()
	for _, body := range []string{"", "{}"} {
		r := request("POST", "/api/v1/endpoints/e/test", body, nil)
		r.RequestURI, r.URL.Host = "", s.Listener.Addr().String()
		res, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("with the body %q it answers %d", body, res.StatusCode)
		}
	}
}

func TestMoreRequestsThanAreWorkedOnWaitForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAPI(t, &fakeControl{}, &bytes.Buffer{})
		var leave func()
		for range maxBusy {
			leave, _ = a.busy.enter(&Caller{}, nil)
		}
		began := time.Now()
		if w := answerOf(a, request("GET", "/api/v1/events", "", nil)); w.Code != 503 || time.Since(began) != answerWithin {
			t.Errorf("answers %d after %s", w.Code, time.Since(began))
		}
		go func() { time.Sleep(time.Second); leave() }()
		if w := answerOf(a, request("GET", "/api/v1/events", "", nil)); w.Code != 200 {
			t.Errorf("answers %d once there is room", w.Code)
		}
	})
}

func TestWhoSendsABodySlowlyKeepsNobodyFromAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAPI(t, &fakeControl{}, &bytes.Buffer{})
		body, send := io.Pipe()
		var slow sync.WaitGroup
		for range 2 * maxBusy {
			r := request("POST", "/api/v1/endpoints/e/pause", "", nil)
			r.Body, r.ContentLength = body, 2
			slow.Go(func() { answerOf(a, r) })
		}
		synctest.Wait()
		began := time.Now()
		if w := answerOf(a, request("GET", "/api/v1/events", "", nil)); w.Code != 200 || time.Since(began) > 0 {
			t.Errorf("beside bodies that do not come it answers %d after %s", w.Code, time.Since(began))
		}
		_ = send.Close()
		slow.Wait()
	})
}

func TestATenantTakesItsShareOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rooms := newRooms(3, 2)
		acme, bravo, staff := &Caller{Tenant: "acme"}, &Caller{Tenant: "bravo"}, &Caller{}
		enter := func(who *Caller, want bool) (leave func()) {
			t.Helper()
			leave, ok := rooms.enter(who, nil)
			if ok != want {
				t.Errorf("%q is let in: %t", who.Tenant, ok)
			}
			return leave
		}
		out := enter(acme, true)
		enter(acme, true)
		enter(acme, false)
		outer := enter(bravo, true)
		enter(bravo, false)
		enter(staff, false)
		until, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, out)
		waited, ok := rooms.enter(acme, until.Done())
		if !ok {
			t.Error("who waits is not let in")
		}
		cancel()
		if _, ok := rooms.enter(acme, until.Done()); ok {
			t.Error("who waits no longer is let in")
		}
		outer()
		waited()
		enter(staff, true)
		if len(rooms.by) != 1 || len(rooms.all) != 2 {
			t.Errorf("%d are in, of %d tenants", len(rooms.all), len(rooms.by))
		}
	})
}

func TestATenantSendsOneTestAtATime(t *testing.T) {
	control := &fakeControl{waits: true, started: make(chan struct{})}
	a := newTestAPI(t, control, &bytes.Buffer{})
	token := func(tenant string) func(*http.Request) {
		return bearer(a.Access.sealPortalToken(portalClaims{Tenant: tenant, Subject: "jo", Role: "operator", Expires: time.Now().Add(time.Hour).Unix()}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, tenant := range []string{"acme", "bravo"} {
		all.Go(func() { answerOf(a, request("POST", "/api/v1/endpoints/e/test", "", token(tenant)).WithContext(ctx)) })
		<-control.started
	}
	if w := answerOf(a, request("POST", "/api/v1/endpoints/e/test", "", token("acme"))); w.Code != 429 {
		t.Errorf("a second one of a tenant's answers %d", w.Code)
	}
	cancel()
	all.Wait()
}

// TestTextsThatPostgresDoesNotTakeAreTheCallersFault asks with a NUL in each text
// of a path and a query.
func TestTextsThatPostgresDoesNotTakeAreTheCallersFault(t *testing.T) {
	var log bytes.Buffer
	a := newTestAPI(t, &fakeControl{err: errors.New("invalid byte sequence")}, &log)
	asked := 0
	ask := func(method, path string) {
		if w := answerOf(a, request(method, apiPrefix+path, "", nil)); w.Code < 400 || w.Code > 422 {
			t.Errorf("%s %s answers %d %s", method, path, w.Code, w.Body)
		}
		asked++
	}
	for path, item := range a.huma.OpenAPI().Paths {
		named := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "a%00b")
		for method, o := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
			if o != nil && named != path {
				ask(method, named)
			}
			if o == nil || named != path {
				continue
			}
			for _, p := range o.Parameters {
				if p.In == "query" && p.Schema.Type != "boolean" && p.Name != "cursor" { // a cursor is read here
					ask(method, path+"?"+p.Name+"=a%00b")
				}
			}
		}
	}
	if asked < 30 || strings.Contains(log.String(), "request failed") {
		t.Errorf("%d requests; logged: %s", asked, &log)
	}
}

func TestPagesOfANamedListAreTheWholeList(t *testing.T) {
	items := []string{"b", "a", "c", "a b", "ä", "d"}
	for _, limit := range []int{1, 2, 5, 6, 7} {
		in := &PageInput{Limit: limit}
		var all []string
		for {
			part, next, err := page(in, eventList, items, func(s *string) string { return *s })
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, part...)
			if in.Cursor = next; next == "" {
				break
			}
		}
		if got := strings.Join(all, ","); got != "a,a b,b,c,d,ä" {
			t.Errorf("pages of %d: %s", limit, got)
		}
	}
}

func FuzzDeliveryCursor(f *testing.F) {
	f.Add(writePlaceCursor(deliveryList, ledger.Cursor{CreatedAt: time.Unix(1, 0), ID: uuid.New()}))
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte("d")))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := readPlaceCursor(deliveryList, text)
		if err != nil || text == "" {
			return
		}
		if year := c.CreatedAt.UTC().Year(); year < 1970 || year > 9999 {
			t.Errorf("%q is of %s", text, c.CreatedAt)
		}
		if again := writePlaceCursor(deliveryList, ledger.Cursor{CreatedAt: c.CreatedAt, ID: c.ID}); again != text {
			t.Errorf("%q is written as %q", text, again)
		}
	})
}

func TestOnlyRefusalsDoNothing(t *testing.T) {
	for _, err := range []error{
		ledger.ErrUnknownEndpoint, fmt.Errorf("a: %w", ledger.ErrChanged), ledger.Refused("no"), &InvalidError{}, invalid("body.until", "no"),
	} {
		if !Refuses(err) {
			t.Errorf("%v is none", err)
		}
	}
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, errors.New("lost"), huma.Error503ServiceUnavailable("no")} {
		if Refuses(err) {
			t.Errorf("%v is one", err)
		}
	}
}
