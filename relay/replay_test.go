package relay

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
)

// waitReplay returns a replay once it is over.
func (c *apiClient) waitReplay(t *testing.T, id string) (r struct {
	State         string
	Total         int
	Done, Skipped int
	Request       struct{ Until string }
}) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		c.must(t, "viewer", "GET", "/api/v1/replays/"+id, "", &r)
		if r.State != "running" {
			return r
		}
		<-ticker.C
	}
	t.Fatalf("it is not over: %+v", r)
	return r
}

func TestReplaysMakeDeliveriesAgain(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, fmt.Sprintf(apiEndpoints, echo(t)))
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) SELECT 'pr.made', json_build_object('n', n) FROM generate_series(1, 5) n;`)
	before := c.waitDeliveries(t, "state=delivered&endpoint=erp", 5)
	c.waitDeliveries(t, "state=pending&endpoint=ill", 5)

	var counted struct {
		Preview struct{ Total int }
	}
	c.must(t, "operator", "POST", "/api/v1/deliveries/retry", `{"type": "pr.made", "states": ["delivered"], "preview": true}`, &counted)
	if counted.Preview.Total != 5 {
		t.Errorf("the preview counts %d", counted.Preview.Total)
	}
	var started struct{ ID string }
	c.must(t, "operator", "POST", "/api/v1/replays", `{"type": "pr.made", "rate": 1000}`, &started)
	if r := c.waitReplay(t, started.ID); r.State != "done" || r.Total != 5 || r.Done != 5 || r.Request.Until == "" {
		t.Errorf("in the end %+v", r)
	}
	twice := func() bool {
		again := c.waitDeliveries(t, "endpoint=erp", 5)
		for i := range again {
			if again[i].ID != before[i].ID {
				t.Fatalf("%s stands where %s stood", again[i].ID, before[i].ID)
			}
			if again[i].State != "delivered" || again[i].Attempts != 2 {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(30 * time.Second); !twice(); {
		if time.Now().After(deadline) {
			t.Fatal("they are not delivered again")
		}
	}

	c.must(t, "operator", "POST", "/api/v1/replays", `{"endpoint": "erp", "new_ids": true, "rate": 1000}`, &started)
	if r := c.waitReplay(t, started.ID); r.State != "done" || r.Done != 5 {
		t.Errorf("under new ids %+v", r)
	}
	ids := make(map[uuid.UUID]bool)
	for _, d := range c.waitDeliveries(t, "endpoint=erp&state=delivered", 10) {
		ids[d.ID] = true
	}
	if len(ids) != 10 {
		t.Errorf("%d ids", len(ids))
	}

	// What was written before the endpoint had any delivery.
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) SELECT t, json_build_object('n', n) FROM generate_series(1, 3) n, unnest(ARRAY['none', 'pr.gone']) t;`)
	c.waitDeliveries(t, "endpoint=a+b%2Fc&state=delivered", 3)
	db.script(t, `DELETE FROM posthorn.deliveries WHERE endpoint_id = (SELECT id FROM posthorn.endpoints WHERE name = 'a b/c');`)
	for _, attempts := range []int{1, 2} { // of the rows of the outbox, then of the deliveries
		c.must(t, "operator", "POST", "/api/v1/replays", `{"endpoint": "a b/c", "rate": 1000}`, &started)
		if r := c.waitReplay(t, started.ID); r.State != "done" || r.Done != 3 || r.Skipped != 0 {
			t.Errorf("of what was missed %+v", r)
		}
		made := func() int {
			n := 0
			for _, d := range c.waitDeliveries(t, "endpoint=a+b%2Fc", 3) {
				if d.State == "delivered" && d.Attempts == attempts {
					n++
				}
			}
			return n
		}
		for deadline := time.Now().Add(30 * time.Second); made() < 3; {
			if time.Now().After(deadline) {
				t.Fatalf("%d of 3 were made %d times", made(), attempts)
			}
		}
	}

	c.must(t, "operator", "POST", "/api/v1/endpoints/ill/pause", "", &struct{}{})
	var retried struct{ Replay struct{ ID string } }
	c.must(t, "operator", "POST", "/api/v1/deliveries/retry", `{"endpoint": "ill", "states": ["pending"]}`, &retried)
	if r := c.waitReplay(t, retried.Replay.ID); r.State != "done" || r.Done != 0 || r.Skipped != 5 {
		t.Errorf("to a paused endpoint %+v", r)
	}
}

func TestATenantReplaysItsOwnOnly(t *testing.T) {
	c, _ := tenants(t)
	acme := c.portal(t, "acme", "operator")
	var others, own struct{ ID string }
	c.must(t, "operator", "POST", "/api/v1/replays", `{"type": "pr.made", "states": ["skipped"]}`, &others)
	for path, method := range map[string]string{"/replays/" + others.ID: "GET", "/replays/" + others.ID + "/cancel": "POST", "/stats?endpoint=bravo-erp": "GET"} {
		if got := acme.ask(t, "", method, "/api/v1"+path, ""); got.status != http.StatusNotFound {
			t.Errorf("%s answers a tenant %d %s", path, got.status, got.body)
		}
	}
	for _, endpoint := range []string{"bravo-erp", "all-bravo", "nobody"} {
		if got := acme.ask(t, "", "POST", "/api/v1/replays", `{"endpoint": "`+endpoint+`"}`); got.status != http.StatusNotFound {
			t.Errorf("to %s: %d %s", endpoint, got.status, got.body)
		}
	}
	var counted struct {
		Total     int
		Endpoints []struct{ Endpoint string }
	}
	for body, want := range map[string]string{
		`{"type": "pr.made", "states": ["delivered", "pending", "failed"]}`: "2 [{acme-erp} {acme-ill}]", `{"tenant": "bravo"}`: "0 []", `{"endpoint": "bravo-erp"}`: "0 []",
	} {
		acme.must(t, "", "POST", "/api/v1/replays/preview", body, &counted)
		if got := fmt.Sprint(counted.Total, counted.Endpoints); got != want {
			t.Errorf("%s counts %s, not %s", body, got, want)
		}
	}
	acme.must(t, "", "POST", "/api/v1/replays", `{"type": "pr.made", "states": ["delivered"]}`, &own)
	if r := c.waitReplay(t, own.ID); r.State != "done" || r.Done != 1 {
		t.Errorf("in the end %+v", r)
	}
	var list struct{ Replays []struct{ ID string } }
	acme.must(t, "", "GET", "/api/v1/replays", "", &list)
	if len(list.Replays) != 1 || list.Replays[0].ID != own.ID {
		t.Errorf("its replays are %v", list.Replays)
	}
	var figures struct{ Now map[string]any }
	acme.must(t, "", "GET", "/api/v1/stats", "", &figures)
	if _, told := figures.Now["slot_lag_bytes"]; told || figures.Now["events_per_second"] != 0.0 {
		t.Errorf("it is told %v", figures.Now)
	}
}

// withKey adds an idempotency key to requests.
type withKey struct {
	key  string
	next http.RoundTripper
}

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Idempotency-Key", k.key)
	return k.next.RoundTrip(r)
}

func TestAnIdempotencyKeyStartsOneReplay(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, "")
	keyed := newAPIClient(c.address)
	keyed.http.Transport = withKey{"k1", keyed.http.Transport}
	for path, body := range map[string]string{"/api/v1/replays": `{"type": "none"}`, "/api/v1/deliveries/retry": `{"type": "none"}`} {
		first, again := keyed.ask(t, "operator", "POST", path, body), keyed.ask(t, "operator", "POST", path, body)
		if first.status/100 != 2 || again.status != first.status || string(first.body) != string(again.body) {
			t.Errorf("%s answers %d %s, and again %d %s", path, first.status, first.body, again.status, again.body)
		}
		if other := keyed.ask(t, "operator", "POST", path, `{"type": "other"}`); other.status != http.StatusUnprocessableEntity {
			t.Errorf("%s answers another request %d %s", path, other.status, other.body)
		}
	}
	if n := db.text(t, `SELECT count(*)::text FROM posthorn.replays`); n != "2" {
		t.Errorf("%s replays", n)
	}
}

func TestRowsThatNothingIsMadeOfAreRecordedSeldom(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, `endpoints: [{name: a, url: "https://a.example", events: [none]}]`)
	const pages = 2*idlePages + 3
	db.script(t, fmt.Sprintf(`INSERT INTO posthorn.outbox (type, payload) SELECT 'nobodys', '{}' FROM generate_series(1, %d);
CREATE TABLE written (n integer);
CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.written VALUES (1); RETURN NULL; END';
CREATE TRIGGER written AFTER UPDATE ON posthorn.replays EXECUTE FUNCTION written();`, pages*256))
	var started struct{ ID string }
	c.must(t, "operator", "POST", "/api/v1/replays", `{"endpoint": "a"}`, &started)
	if r := c.waitReplay(t, started.ID); r.State != "done" || r.Done+r.Skipped != 0 {
		t.Errorf("in the end %+v", r)
	}
	// That there are no deliveries, twice idlePages, and the end.
	if n := db.text(t, `SELECT count(*)::text FROM written`); n != "4" {
		t.Errorf("it was recorded %s times", n)
	}
}

func TestAReplayKnowsItsEndpointWhenThatIsRenamed(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	made := c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`)
	started, err := c.StartReplay(t.Context(), operatorCaller, ReplayRequest{Endpoint: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.EditEndpoint(t.Context(), operatorCaller, "a", []byte(`{"name": "b"}`), 0); err != nil {
		t.Fatal(err)
	}
	c.create(t, operatorCaller, `{"name": "a", "url": "https://other.example", "events": ["a"]}`)
	ep, wants, err := (&replayer{operator: o}).wanting(started)
	if err != nil || wants == nil || ep.ID != made.ID || ep.Name != "b" {
		t.Errorf("it is about %+v, %v", ep, err)
	}
}

// TestReplayLeavesToTheStreamWhatIsInFlight: an endpoint that has no delivery yet
// is being sent its first.
func TestReplayLeavesToTheStreamWhatIsInFlight(t *testing.T) {
	db := newDatabase(t)
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-answer
	}))
	defer slow.Close()
	c := db.runAPI(t, "egress: {allow: [127.0.0.0/8]}\nendpoints: [{name: slow, url: "+slow.URL+", events: ['pr.*']}]\n")
	db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('pr.made', '{}');`)
	<-asked
	var started struct{ ID string }
	c.must(t, "operator", "POST", "/api/v1/replays", `{"endpoint": "slow"}`, &started)
	time.Sleep(2 * time.Second) // it could look at the row now
	close(answer)
	if r := c.waitReplay(t, started.ID); r.State != "done" || r.Done != 0 {
		t.Errorf("the replay: %+v", r)
	}
	c.waitDeliveries(t, "state=delivered&endpoint=slow", 1)
	if len(asked) > 0 {
		t.Error("it was sent twice")
	}
}
