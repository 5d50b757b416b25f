package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const apiToken = "0123456789abcdef-of-the-test"

const withAPI = `
http:
  tokens: [{name: ops, role: operator, token: "${TOKEN}"}]
endpoints:
  - {name: well, url: "${RECEIVER}/well", events: ["*"], secret: "${SECRET}"}
  - {name: held, url: "${RECEIVER}/held", events: ["*"], secret: "${SECRET}", retry: {schedule: []}}
`

// api asks the relay's API and decodes the answer into v. It returns the
// answer's status.
func (r *relay) api(t *testing.T, token, method, path string, v any) int {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.waitLog("posthorn starts", 1).Listen+"/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s %s answers %d %s: %v", method, path, res.StatusCode, text, err)
	}
	return res.StatusCode
}

// TestAPIOperatesTheRelay goes the way of a delivery that failed: seen, its
// endpoint paused and tested, resumed, and retried, by nothing but the API.
func TestAPIOperatesTheRelay(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/well", "/held")
	held := rcv.endpoints["/held"]
	held.answers(func(*request) int { return http.StatusInternalServerError })
	config := strings.Replace(withAPI, "${TOKEN}", apiToken, 1)
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	db.mustWrite(t, bulk{From: 1, To: 3}, 3)

	var list struct {
		Deliveries []struct{ ID, State, Error string }
		Next       string
	}
	eventually(t, time.Minute, func() error {
		if status := r.api(t, apiToken, "GET", "/deliveries?state=failed&endpoint=held&limit=2", &list); status != 200 || len(list.Deliveries) != 2 || list.Next == "" {
			return fmt.Errorf("failed deliveries: %d %+v", status, list)
		}
		return nil
	})
	var turned struct{ State string }
	if status := r.api(t, apiToken, "POST", "/endpoints/held/pause", &turned); status != 200 || turned.State != "paused" {
		t.Errorf("paused: %d %+v", status, turned)
	}
	waitState(t, db, r, "held", "paused")
	if text := command(t, db, rcv, config, "endpoints", "list", "--output", "json"); !strings.Contains(text, `"paused"`) {
		t.Errorf("the command line says %s", text)
	}
	held.answers(func(*request) int { return http.StatusOK })
	var test struct {
		OK      bool
		Headers [][2]string
	}
	if status := r.api(t, apiToken, "POST", "/endpoints/held/test", &test); status != 200 || !test.OK || len(test.Headers) == 0 {
		t.Errorf("tested: %d %+v", status, test)
	}
	var problem struct {
		Status int
		Detail string
	}
	retry := "/deliveries/" + list.Deliveries[0].ID + "/retry"
	if status := r.api(t, apiToken, "POST", retry, &problem); status != 409 || !strings.Contains(problem.Detail, "resume it first") {
		t.Errorf("retried while it is paused: %d %+v", status, problem)
	}
	if status := r.api(t, apiToken, "POST", "/endpoints/held/resume", &turned); status != 200 || turned.State != "enabled" {
		t.Errorf("resumed: %d %+v", status, turned)
	}
	waitState(t, db, r, "held", "enabled")
	if status := r.api(t, apiToken, "POST", retry, &problem); status != 200 {
		t.Errorf("retried: %d %+v", status, problem)
	}
	var delivery struct {
		State string
		Tries []struct{ Outcome string }
	}
	eventually(t, time.Minute, func() error {
		if r.api(t, apiToken, "GET", "/deliveries/"+list.Deliveries[0].ID, &delivery); delivery.State != "delivered" || len(delivery.Tries) != 2 {
			return fmt.Errorf("the delivery is %+v", delivery)
		}
		return nil
	})
	if n := db.count(t, `SELECT count(*) FROM posthorn.audit WHERE actor = 'api:ops'`); n != 4 { // pause, test, resume, retry
		t.Errorf("the audit has %d entries of the token's owner", n)
	}
	if status := r.api(t, "another-token-of-some-length", "GET", "/stream", &problem); status != 401 {
		t.Errorf("a wrong token is answered %d", status)
	}
	if shown := command(t, db, rcv, config, "config", "show"); strings.Contains(shown, apiToken) || !strings.Contains(shown, "***") {
		t.Errorf("config show prints\n%s", shown)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ends with %d", code)
	}
	if strings.Contains(r.tail(1_000_000), apiToken) {
		t.Error("the token is logged")
	}
}
