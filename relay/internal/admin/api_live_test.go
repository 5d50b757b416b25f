package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// looks is a control whose list is another one at each look.
type looks struct {
	fakeControl
	mu    sync.Mutex
	lists []func() ([]ledger.Delivery, error) // the last one stays
	asked []ledger.Filter
}

func (l *looks) List(_ context.Context, _ *Caller, f ledger.Filter) ([]ledger.Delivery, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, f)
	answer := l.lists[min(len(l.asked), len(l.lists))-1]
	return answer()
}

func shows(list ...ledger.Delivery) func() ([]ledger.Delivery, error) {
	return func() ([]ledger.Delivery, error) { return list, nil }
}

// liveEvents returns the events of an answer as "kind type/state type/state".
func liveEvents(t *testing.T, body string) []string {
	t.Helper()
	var all []string
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		if !strings.HasPrefix(block, "event: ") {
			all = append(all, block)
			continue
		}
		kind, data, _ := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: ")
		var e struct {
			Role       string
			Status     int
			Deliveries []struct{ Type, State string }
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Errorf("%s: %v", block, err)
		}
		for _, d := range e.Deliveries {
			kind += " " + d.Type + "/" + d.State
		}
		if e.Status != 0 {
			kind += " " + http.StatusText(e.Status)
		}
		all = append(all, kind)
	}
	return all
}

func TestListenerGetsWhatIsNewOrChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := ledger.Delivery{ID: uuid.New(), Type: "a", State: ledger.Pending}
		b := ledger.Delivery{ID: uuid.New(), Type: "b", State: ledger.Delivered}
		later := a
		later.State, later.Attempts = ledger.Delivered, 1
		down := func() ([]ledger.Delivery, error) { return nil, errors.New("postgres://user:hunter2@host is away") }
		c := &looks{lists: []func() ([]ledger.Delivery, error){shows(a), shows(a), shows(b, a), down, down, shows(b, later)}}
		var log bytes.Buffer
		w := answerOf(newTestAPI(t, c, &log), request("GET", "/api/v1/live?for=6s&limit=7&endpoint=erp&state=failed", "", nil))
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		want := []string{
			"retry: 2000", "stream", "deliveries a/pending", "stream", "stream", "deliveries b/delivered",
			"problem Service Unavailable", "stream", "stream", "stream", "deliveries a/delivered", "stream",
		}
		if diff := cmp.Diff(want, liveEvents(t, w.Body.String())); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if n := strings.Count(log.String(), "API request failed"); n != 1 || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("logged %d times: %s", n, log.String())
		}
		for _, f := range c.asked {
			if f.Limit != 7 || f.Endpoint != "erp" || !slices.Equal(f.States, []ledger.State{ledger.Failed}) {
				t.Errorf("asked for %+v", f)
			}
		}
	})
}

func TestListenerIsRefusedBeforeItListens(t *testing.T) {
	c := &looks{lists: []func() ([]ledger.Delivery, error){func() ([]ledger.Delivery, error) { return nil, errors.New("away") }}}
	var log bytes.Buffer
	a := newTestAPI(t, c, &log)
	for query, want := range map[string]int{"?for=0s": 503, "?for=11m": 422, "?for=-1s": 422, "?for=x": 422, "?limit=101": 422, "?since=1h": 422} {
		if w := answerOf(a, request("GET", "/api/v1/live"+query, "", nil)); w.Code != want || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s answers %d %s", query, w.Code, w.Body)
		}
	}
	if a.listeners.all != 0 || len(a.listeners.by) != 0 {
		t.Errorf("who was refused counts as a listener: %+v", a.listeners.by)
	}
}

// TestListenersAreBoundedAndLeaveTheAPIAlone has more of them than the API
// works on requests, and they go when they are cut off.
func TestListenersAreBoundedAndLeaveTheAPIAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &looks{lists: []func() ([]ledger.Delivery, error){shows()}}
		var log bytes.Buffer
		a := newTestAPI(t, c, &log)
		watcher := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+viewerToken) }
		ctx, cutOff := context.WithCancel(t.Context())
		var listening sync.WaitGroup
		for i := range 2 * maxOfOne {
			listening.Go(func() {
				change := watcher
				if i%2 == 0 {
					change = nil
				}
				if w := answerOf(a, request("GET", "/api/v1/live", "", change).WithContext(ctx)); w.Code != 200 {
					t.Errorf("a listener got %d %s", w.Code, w.Body)
				}
			})
		}
		synctest.Wait()
		for _, change := range []func(*http.Request){nil, watcher} {
			if w := answerOf(a, request("GET", "/api/v1/live?for=0s", "", change)); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
				t.Errorf("one more listener got %d %s", w.Code, w.Body)
			}
		}
		if w := answerOf(a, request("GET", "/api/v1/stream", "", nil)); w.Code != 200 {
			t.Errorf("beside %d listeners the API answers %d %s", 2*maxOfOne, w.Code, w.Body)
		}
		<-time.After(time.Minute)
		cutOff()
		listening.Wait()
		if w := answerOf(a, request("GET", "/api/v1/live?for=0s", "", nil)); w.Code != 200 {
			t.Errorf("after all left, a listener got %d %s", w.Code, w.Body)
		}
	})
}

func TestListenerStopsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		begin := time.Now()
		answerOf(newTestAPI(t, &looks{lists: []func() ([]ledger.Delivery, error){shows()}}, &log), request("GET", "/api/v1/live", "", nil))
		if took := time.Since(begin); took != liveFor {
			t.Errorf("it listened for %s", took)
		}
	})
}

func TestListenerStopsWhenWhatItCameInByEnds(t *testing.T) {
	listens := func(a *API, change func(*http.Request)) time.Duration {
		begin := time.Now()
		answerOf(a, request("GET", "/api/v1/live", "", change))
		return time.Since(begin)
	}
	synctest.Test(t, func(t *testing.T) {
		a := newTestAPI(t, &looks{lists: []func() ([]ledger.Delivery, error){shows()}}, &bytes.Buffer{})
		token := a.Access.sealPortalToken(portalClaims{Tenant: "t", Subject: "s", Role: "viewer", Expires: time.Now().Add(90 * time.Second).Unix()})
		if took := listens(a, bearer(token)); took < 89*time.Second || took > 91*time.Second {
			t.Errorf("with a portal token of 90s it listened for %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := newTestAPI(t, &looks{lists: []func() ([]ledger.Delivery, error){shows()}}, &bytes.Buffer{})
		b := newBrowser(t, a.Access)
		b.login(adminToken)
		sessions := a.Access.Sessions.(*fakeSessions)
		time.AfterFunc(150*time.Second, func() {
			sessions.mu.Lock()
			defer sessions.mu.Unlock()
			clear(sessions.open)
		})
		took := listens(a, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: b.cookies[sessionCookie]})
		})
		if took < 150*time.Second || took > 150*time.Second+lookEvery {
			t.Errorf("with a session that ends after 150s it listened for %s", took)
		}
	})
}

// deaf is a connection that nobody reads from.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) Write([]byte) (int, error)       { return 0, errors.New("timeout") }
func (deaf) WriteString(string) (int, error) { return 0, errors.New("timeout") }

func TestListenerThatDoesNotReadIsLetGo(t *testing.T) {
	var log bytes.Buffer
	a := newTestAPI(t, &looks{lists: []func() ([]ledger.Delivery, error){shows()}}, &log)
	a.ServeHTTP(deaf{httptest.NewRecorder()}, request("GET", "/api/v1/live", "", nil))
	if a.listeners.all != 0 {
		t.Error("it counts as a listener still")
	}
}

func TestTenantHearsNothingOfTheStream(t *testing.T) {
	var log bytes.Buffer
	a := newTestAPI(t, &looks{lists: []func() ([]ledger.Delivery, error){shows()}}, &log)
	w := httptest.NewRecorder()
	r := request("GET", "/api/v1/live?for=0s", "", nil)
	who := &Caller{Name: "somebody", Role: Viewer, Tenant: "acme", conn: http.NewResponseController(w)}
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	if diff := cmp.Diff([]string{"retry: 2000", ":", "deliveries"}, liveEvents(t, w.Body.String())); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
