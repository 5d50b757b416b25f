package integration

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// deliveredTo returns what the ledger knows of an endpoint's deliveries that
// were delivered, by their ids, once there are count of them.
func (db *database) deliveredTo(t testing.TB, endpoint string, count int) map[uuid.UUID]published {
	t.Helper()
	var events map[uuid.UUID]published
	eventually(t, time.Minute, func() error {
		rows, err := db.pool.Query(t.Context(), `SELECT d.id, d.event_id, d.type, o.payload::text FROM posthorn.deliveries d JOIN posthorn.endpoints e ON e.id = d.endpoint_id
			JOIN posthorn.outbox o ON o.id = d.event_id WHERE e.name = $1 AND d.state = 'delivered'`, endpoint)
		if err != nil {
			return err
		}
		defer rows.Close()
		events = map[uuid.UUID]published{}
		for rows.Next() {
			var e published
			if err := rows.Scan(&e.delivery, &e.id, &e.eventType, &e.payload); err != nil {
				return err
			}
			events[e.delivery] = e
		}
		if len(events) != count {
			return fmt.Errorf("%d deliveries to %s, want %d", len(events), endpoint, count)
		}
		return rows.Err()
	})
	return events
}

// TestProductDanbyteWebhooksOfEveryForm switches on the webhooks that the
// example has besides the first.
func TestProductDanbyteWebhooksOfEveryForm(t *testing.T) {
	db := newDatabase(t)
	signed, unsigned, lab := startNode(t, "danbyte.mjs", productSecret), startNode(t, "danbyte.mjs"), startSecureNode(t, "danbyte.mjs", productSecret)
	text, err := os.ReadFile(danbyte.example())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "posthorn.toml")
	text = []byte(strings.NewReplacer("enabled = false", "enabled = true", "https://cmdb.example.com", unsigned.url,
		"https://tickets.example.com", signed.url, "https://erp.example.com", signed.url, "https://lab.example.com", lab.url).Replace(string(text)))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// The first webhook goes to the lab's server too, but verifies TLS.
	env := append(commonEnv(db), "DATABASE_URL="+db.url, "DANBYTE_WEBHOOK_URL="+lab.url+"/verified", "DANBYTE_WEBHOOK_SECRET="+productSecret)
	r := startProcess(t, env, "run", "--init", "--config", file)
	r.waitReady()
	if warned := r.logged("configuration warning"); len(warned) != 1 || !strings.Contains(warned[0].Text, "tls.verify") {
		t.Errorf("%d warnings, want one of TLS that is not verified: %+v", len(warned), warned)
	}
	for _, object := range []string{"device", "site", "vlan"} {
		for _, trigger := range []string{"create", "update", "delete"} {
			db.publish(t, object+"."+trigger, "", `{"id":412,"name":"<b>\u0041é]]>&amp;+%20","n":1.0}`)
		}
	}

	tickets, erp := db.deliveredTo(t, "tickets", 6), db.deliveredTo(t, "erp", 2)
	for _, q := range signed.waitArrived(len(tickets) + len(erp)) {
		header := ownHeaders(t, &q, danbyte.signature)
		id := uuid.MustParse(header.Get("X-Danbyte-Delivery"))
		e, isTicket := tickets[id]
		want, contentType, method := danbyteBody(e), "application/x-www-form-urlencoded", http.MethodPost
		body := formPayload(t, q.Body)
		if !isTicket {
			e = erp[id]
			want, contentType, method = e.eventType+" "+e.payload, "application/xml; charset=utf-8", http.MethodPatch
			body = xmlChange(t, q.Body)
		}
		wantHeader := danbyteHeader(e)
		wantHeader.Set("Content-Type", contentType)
		if diff := cmp.Diff(wantHeader, header); diff != "" || body != want || q.Method != method || !q.Verified {
			t.Errorf("%s of %s, verified %t: body %s, want %s; headers (-want +got):\n%s", q.Method, e.eventType, q.Verified, body, want, diff)
		}
	}
	checkUnsigned(t, unsigned, db.deliveredTo(t, "cmdb", 4))
	// The lab's certificate is nobody's: one webhook minds, the other does not.
	inLab := db.deliveredTo(t, "lab", 3)
	for _, q := range lab.waitArrived(len(inLab)) {
		if e, ok := inLab[uuid.MustParse(q.header().Get("X-Danbyte-Delivery"))]; !ok || !q.Verified || compactJSON(t, q.Body) != danbyteBody(e) {
			t.Errorf("%s of %s, verified %t: %s", q.Method, q.Path, q.Verified, q.Body)
		}
	}
	eventually(t, 30*time.Second, func() error {
		return atLeast(db.count(t, `SELECT count(*) FROM posthorn.deliveries d JOIN posthorn.endpoints e ON e.id = d.endpoint_id
			WHERE e.name = 'automation' AND d.state = 'failed' AND d.status IS NULL AND d.error LIKE '%certificate%'`), 1)
	})
	t.Logf("FIGURE product Danbyte: %d form-encoded, %d XML by PATCH, 4 unsigned by PUT, %d over TLS that is not verified; the webhook that verifies it failed", len(tickets), len(erp), len(inLab))
}

// formPayload returns the field payload of a form, "" when it is none.
func formPayload(t testing.TB, body []byte) string {
	t.Helper()
	values, err := url.ParseQuery(string(body))
	if err != nil || len(values) != 1 {
		return ""
	}
	return values.Get("payload")
}

// xmlChange returns type and data of the example's XML, "" when it is none.
func xmlChange(t testing.TB, body []byte) string {
	t.Helper()
	var change struct {
		XMLName xml.Name `xml:"change"`
		Event   string   `xml:"event,attr"`
		Type    string   `xml:"type,attr"`
		Data    string   `xml:"data"`
	}
	if err := xml.Unmarshal(body, &change); err != nil {
		return ""
	}
	return change.Type + "." + change.Event + " " + change.Data
}

// checkUnsigned checks what came to the webhook without a secret.
func checkUnsigned(t testing.TB, n *nodeReceiver, events map[uuid.UUID]published) {
	t.Helper()
	for _, q := range n.waitArrived(len(events)) {
		e := events[uuid.MustParse(q.header().Get("X-Danbyte-Delivery"))]
		want := danbyteHeader(e)
		for name, value := range map[string]string{"Content-Type": "application/json", "X-Source": "danbyte", "X-Environment": "production"} {
			want.Set(name, value)
		}
		got := q.header()
		for _, name := range []string{"Host", "Content-Length", "Accept-Encoding", "User-Agent"} {
			got.Del(name)
		}
		if diff := cmp.Diff(want, got); diff != "" || q.Method != http.MethodPut || !q.Verified || compactJSON(t, q.Body) != danbyteBody(e) {
			t.Errorf("%s of %s, verified %t: %s; headers (-want +got):\n%s", q.Method, e.eventType, q.Verified, q.Body, diff)
		}
	}
}

// organisations is an environment with endpoints like the example's one, each
// of a tenant and at a receiver.
func organisations(t testing.TB, db *database, tenants string, endpoints [][2]string) []string {
	t.Helper()
	text, err := os.ReadFile(bindbee.example())
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ Endpoints []map[string]any }
	if err := json.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	list := []map[string]any{}
	for i, to := range endpoints {
		endpoint := map[string]any{}
		for key, value := range example.Endpoints[0] {
			endpoint[key] = value
		}
		delete(endpoint, "id")
		endpoint["name"], endpoint["tenant"], endpoint["url"] = fmt.Sprintf("webhook %d", i), to[0], to[1]
		list = append(list, endpoint)
	}
	text, err = json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return append(commonEnv(db), "DATABASE_URL="+db.url, "BINDBEE_WEBHOOK_URL="+endpoints[0][1], "BINDBEE_SIGNATURE_KEY="+productSecret,
		"POSTHORN_TENANTS="+tenants, "POSTHORN_ENDPOINTS="+string(text))
}

const employeeChanged = `{"connector":{"id":"018f99e2"},"data":{"id":"018f99ea"}}`

func TestProductBindbeeOrganisationsSignWithTheirOwnKeys(t *testing.T) {
	db := newDatabase(t)
	testOrg, globex := startNode(t, "bindbee.mjs", productSecret), startNode(t, "bindbee.mjs", "the key of globex")
	env := organisations(t, db, `{"globex": {"secret": "the key of globex"}}`, [][2]string{{"test-org", testOrg.url}, {"globex", globex.url}})
	r := bindbee.start(t, env)
	types := bindbee.load(t, env).Events
	for _, e := range types {
		db.publish(t, e.Type, "test-org", employeeChanged)
		db.publish(t, e.Type, "globex", employeeChanged)
	}
	testOrg.waitArrived(len(types))
	globex.waitArrived(len(types))
	waitSettled(t, db)
	arrived := map[*nodeReceiver][]nodeRequest{testOrg: testOrg.arrived(), globex: globex.arrived()}
	for n, other := range map[*nodeReceiver]*nodeReceiver{testOrg: globex, globex: testOrg} {
		if got := len(arrived[n]); got != len(types) {
			t.Errorf("%d requests for one organisation, want %d", got, len(types))
		}
		for _, q := range arrived[n] {
			if status := other.repeat(&q, q.header(), q.Body); !q.Verified || status != http.StatusUnauthorized {
				t.Errorf("%s: verified %t; the other organisation's receiver answered a copy with %d", q.Type, q.Verified, status)
			}
		}
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
	t.Logf("FIGURE product Bindbee: 2 organisations × %d events, each signed with its organisation's key, none accepted by the other's receiver", len(types))
}

// The header is compared as a whole, so that it carries one signature: that of
// the new key. Receivers that take both keys for a while miss nothing.
func TestProductBindbeeKeyIsRegenerated(t *testing.T) {
	db := newDatabase(t)
	const regenerated = "the regenerated key"
	before, both, after := startNode(t, "bindbee.mjs", productSecret), startNode(t, "bindbee.mjs", regenerated, productSecret), startNode(t, "bindbee.mjs", regenerated)
	endpoints := [][2]string{{"test-org", before.url}, {"test-org", both.url}, {"test-org", after.url}}
	statuses := func() (list []int) {
		for _, n := range []*nodeReceiver{before, both, after} {
			requests := n.arrived()
			list = append(list, requests[len(requests)-1].Status)
		}
		return list
	}
	tests := []struct {
		tenants string
		want    []int
	}{
		{`{}`, []int{http.StatusOK, http.StatusOK, http.StatusUnauthorized}},
		{
			fmt.Sprintf(`{"test-org": {"secret": %q, "previous_secrets": [{"secret": %q, "expires": %q}]}}`, regenerated, productSecret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
			[]int{http.StatusUnauthorized, http.StatusOK, http.StatusOK},
		},
	}
	for i, tt := range tests {
		r := bindbee.start(t, organisations(t, db, tt.tenants, endpoints))
		db.publish(t, "employee.data_changed", "test-org", employeeChanged)
		for _, n := range []*nodeReceiver{before, both, after} {
			n.waitArrived(i + 1)
		}
		if diff := cmp.Diff(tt.want, statuses()); diff != "" {
			t.Errorf("receivers with the key before, both and the one after answered, with tenants %s (-want +got):\n%s", tt.tenants, diff)
		}
		if code, _ := r.stop(); code != 0 {
			t.Errorf("the relay ended with %d", code)
		}
	}
	t.Logf("FIGURE product Bindbee: after the key was regenerated a receiver that takes both keys verified all, one with the old key alone refused")
}

// TestProductTestRequests sends what the buttons Send test and Test URL do: an
// example of each type, through the receiver's own check.
func TestProductTestRequests(t *testing.T) {
	for name, p := range map[string]product{"Byro": byro, "Danbyte": danbyte, "Bindbee": bindbee, "Offly": offly} {
		t.Run(name, func(t *testing.T) {
			n := p.receiver(t, productSecret)
			env := p.env(&database{url: "postgres://127.0.0.1:1/none", slot: "none"}, n, productSecret)
			cfg := p.load(t, env)
			for i, e := range cfg.Events {
				p.command(t, env, "send-test", cfg.Endpoints[0].Name, "--type", e.Type)
				q := n.waitArrived(i + 1)[i]
				marked, data := q.header().Get("Posthorn-Test"), strings.TrimSuffix(compactJSON(t, []byte(e.Example)), "}")
				if name == "Bindbee" {
					data = strings.TrimPrefix(data, "{") // its two keys stand beside the third
				}
				if !q.Verified || marked == "" || !strings.Contains(compactJSON(t, q.Body), data) {
					t.Errorf("%s: verified %t, marked %q: %s", e.Type, q.Verified, marked, q.Body)
				}
			}
			t.Logf("FIGURE product %s: send-test sent the examples of %d types, all verified", name, len(cfg.Events))
		})
	}
}
