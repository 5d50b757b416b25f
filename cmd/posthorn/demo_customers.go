package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// customer is somebody's endpoint beside those that the tracker knows: the demo
// makes it through the relay's API, and how it receives makes the dashboard's
// pages worth a look.
type customer struct {
	name     string
	document map[string]any // without name and url
	answer   func(at time.Duration, n int64, random *rand.Rand) reply
}

// reply is what a customer's receiver answers with; no status is none at all.
type reply struct {
	after  time.Duration
	status int
	body   string
}

var accepted = reply{status: http.StatusOK, body: `{"received": true}`}

// demoCustomers are made in this order.
var demoCustomers = []customer{
	{"acme-payroll", map[string]any{
		"tenant": "acme", "profile": "byro", "events": []string{"expense.*", "leave.*"},
		"retry": map[string]any{"stop_on": []string{"4xx"}}, "pause": map[string]any{"on_exhausted": false},
	}, func(_ time.Duration, _ int64, random *rand.Rand) reply {
		if random.Float64() < 0.02 {
			return reply{status: http.StatusUnprocessableEntity, body: `{"error": "unknown cost centre", "field": "data.category"}`}
		}
		return accepted
	}},
	{"acme-warehouse", map[string]any{ // slow
		"tenant": "acme", "events": []string{"asset.assigned", "asset.unassigned", "inventory.*"}, "ordering": "key", "timeout": "5s",
	}, func(_ time.Duration, _ int64, random *rand.Rand) reply {
		slow := accepted
		slow.after = 200*time.Millisecond + time.Duration(random.Int64N(int64(800*time.Millisecond)))
		return slow
	}},
	{"northwind-calendar", map[string]any{ // fails most of the time
		"tenant": "northwind", "profile": "offly", "events": []string{"leave_request.approved"},
		"retry": map[string]any{"schedule": []string{"1s", "3s"}},
	}, func(at time.Duration, _ int64, random *rand.Rand) reply {
		if at%(2*time.Minute) < 80*time.Second && random.Float64() < 0.95 {
			return reply{status: http.StatusServiceUnavailable, body: "upstream connect error or disconnect/reset before headers"}
		}
		return accepted
	}},
	{"hris-sync", map[string]any{ // is paused by its rule, and resumed by support
		"tenant": "test-org", "profile": "bindbee", "events": []string{"connector.synced", "employee.data_changed"}, "filter": "payload.data.initial_sync",
		"retry": map[string]any{"schedule": []string{"2s", "5s", "10s"}}, "pause": map[string]any{"consecutive_failures": 25},
	}, func(at time.Duration, _ int64, _ *rand.Rand) reply {
		if (at+70*time.Second)%(100*time.Second) < 25*time.Second {
			return reply{}
		}
		return accepted
	}},
	{"northwind-legacy-crm", map[string]any{ // was switched off by its owner
		"tenant": "northwind", "events": []string{"user.*"},
	}, func(_ time.Duration, n int64, _ *rand.Rand) reply {
		if n > 100 {
			return reply{status: http.StatusGone, body: "this integration was removed"}
		}
		return accepted
	}},
	{"on-call", map[string]any{"events": []string{"posthorn.*"}}, func(time.Duration, int64, *rand.Rand) reply { return accepted }},
}

// demoSandbox is the endpoint that a customer makes in the portal, and deletes
// again.
const demoSandbox = "acme-sandbox"

// path returns where a customer's requests go, of that name.
func customerPath(name string) string { return "/customers/" + name }

// serveCustomer answers a request for a customer's endpoint, or reports that it
// is for none.
func (d *demoReceiver) serveCustomer(w http.ResponseWriter, r *http.Request) bool {
	name, ok := strings.CutPrefix(r.URL.Path, customerPath(""))
	if !ok {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDemoBody)) // what it holds is the relay's tests' business
	switch answer := d.reply(name); {
	case !waited(r, answer.after):
	case answer.status == 0:
		panic(http.ErrAbortHandler) // closes the connection without a word
	default:
		contentType := "text/plain; charset=utf-8"
		if json.Valid([]byte(answer.body)) {
			contentType = "application/json"
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	}
	return true
}

// reply returns what a customer of that name answers now.
func (d *demoReceiver) reply(name string) reply {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range demoCustomers {
		if c := &demoCustomers[i]; c.name == name {
			d.customers[i]++
			return c.answer(time.Since(d.started), d.customers[i], d.random)
		}
	}
	if name == demoSandbox {
		return accepted
	}
	return reply{status: http.StatusNotFound, body: fmt.Sprintf("no route for %q", name)}
}

// waited waits, and returns false when the request was given up meanwhile.
func waited(r *http.Request, d time.Duration) bool {
	select {
	case <-r.Context().Done():
		return false
	case <-time.After(d):
		return true
	}
}
