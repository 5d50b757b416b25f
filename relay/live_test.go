package relay

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestDeliveriesAreWatchedAsTheyHappen listens until the relay stops, which a
// listener does not keep it from.
func TestDeliveriesAreWatchedAsTheyHappen(t *testing.T) {
	db := newDatabase(t)
	r := db.startAPI(t, fmt.Sprintf(apiEndpoints, echo(t)))
	c := newAPIClient(r.address)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/api/v1/live?endpoint=erp", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer viewer-0102030405060708090a")
	res, err := c.http.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	await := func(texts ...string) {
		t.Helper()
		for lines.Scan() { // the client's timeout bounds it
			found := true
			for _, text := range texts {
				found = found && strings.Contains(lines.Text(), text)
			}
			if found {
				return
			}
		}
		t.Fatalf("no line has %q: %v", texts, lines.Err())
	}
	await(`"role":"active"`, `"flushed"`)
	await(`{"deliveries":[]}`)
	db.publish(t, "pr.made", `{"n": 1}`)
	await(`"state":"delivered"`, `"endpoint":"erp"`)
	r.stop()
	for lines.Scan() {
	}
}
