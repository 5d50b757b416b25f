package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
)

// product is one of those whose configurations are in examples, and what its
// document promises its customers.
type product struct {
	file, script                string // the configuration and the receiver
	urlVariable, secretVariable string
	path                        string // of the receiver's URL
	secure                      bool   // https only
	signature                   string // header
	// request returns the body, without the white space between its tokens,
	// and the headers besides the signature and the HTTP client's own.
	request func(published) (body string, header http.Header)
}

// published is an event and what the ledger knows of its delivery.
type published struct {
	id, delivery       uuid.UUID
	eventType          string
	payload            string // without the white space between its tokens
	url                string
	created, committed time.Time
}

var byro = product{
	file: "byro/posthorn.yaml", script: "byro.mjs", urlVariable: "BYRO_WEBHOOK_URL", secretVariable: "BYRO_WEBHOOK_SECRET",
	path: "/webhook", signature: "X-Byro-Signature",
	request: func(e published) (string, http.Header) {
		return fmt.Sprintf(`{"event":%q,"data":%s,"deliveredAt":%q}`, e.eventType, e.payload, rfc3339(e.committed)), http.Header{}
	},
}

var danbyte = product{
	file: "danbyte/posthorn.toml", script: "danbyte.mjs", urlVariable: "DANBYTE_WEBHOOK_URL", secretVariable: "DANBYTE_WEBHOOK_SECRET",
	path: "/webhook", signature: "X-Danbyte-Signature",
	request: func(e published) (string, http.Header) {
		return danbyteBody(e), danbyteHeader(e)
	},
}

func danbyteBody(e published) string {
	object, trigger, _ := strings.Cut(e.eventType, ".")
	id, _, _ := strings.Cut(strings.TrimPrefix(e.payload, `{"id":`), ",") // every example's first key
	return fmt.Sprintf(`{"event":%q,"object":{"type":%q,"id":%s},"data":%s}`, trigger, object, id, e.payload)
}

func danbyteHeader(e published) http.Header {
	_, trigger, _ := strings.Cut(e.eventType, ".")
	return http.Header{"X-Danbyte-Event": {trigger}, "X-Danbyte-Delivery": {e.delivery.String()}}
}

var bindbee = product{
	file: "bindbee/posthorn.json", script: "bindbee.mjs", urlVariable: "BINDBEE_WEBHOOK_URL", secretVariable: "BINDBEE_SIGNATURE_KEY",
	path: "/8e771727c78e3a4017f374fb745313b6", signature: "X-Bindbee-Webhook-Signature",
	request: func(e published) (string, http.Header) {
		webhook := fmt.Sprintf(`{"webhook_id":"10c9a6b1-4ea8-476e-bdb0-193001a94a8d","url":%q,"event":%q}`, e.url, strings.ReplaceAll(e.eventType, ".", "_"))
		return `{"webhook":` + webhook + `,` + strings.TrimPrefix(e.payload, `{`), http.Header{}
	},
}

var offly = product{
	file: "offly/posthorn.yaml", script: "offly.mjs", urlVariable: "OFFLY_WEBHOOK_URL", secretVariable: "OFFLY_WEBHOOK_SECRET",
	path: "/webhooks/offly", secure: true, signature: "X-Offly-Signature",
	request: func(e published) (string, http.Header) {
		return fmt.Sprintf(`{"id":"wh_evt_%s","type":%q,"created_at":%q,"data":%s}`, ulid(e.id), e.eventType, rfc3339(e.created), e.payload), http.Header{}
	},
}

func rfc3339(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// ulid writes a UUID in Crockford's base 32, as https://github.com/ulid/spec
// does.
func ulid(id uuid.UUID) string {
	const usual, crockford = "0123456789abcdefghijklmnopqrstuv", "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	digits := new(big.Int).SetBytes(id[:]).Text(32)
	return strings.Repeat("0", 26-len(digits)) + strings.Map(func(r rune) rune { return rune(crockford[strings.IndexRune(usual, r)]) }, digits)
}

const productSecret = "a product's secret, 12/34+56 ü"

// receiver starts the product's receiver.
func (p product) receiver(t testing.TB, keys ...string) *nodeReceiver {
	t.Helper()
	if p.secure {
		return startSecureNode(t, p.script, keys...)
	}
	return startNode(t, p.script, keys...)
}

// example returns the path of the product's configuration.
func (p product) example() string { return filepath.Join("..", "examples", filepath.FromSlash(p.file)) }

// env is the environment of a relay with the product's configuration, which
// sends to n and signs with secret.
func (p product) env(db *database, n *nodeReceiver, secret string) []string {
	env := append(commonEnv(db), "DATABASE_URL="+db.url, p.urlVariable+"="+n.url+p.path, p.secretVariable+"="+secret)
	if n.caFile != "" {
		profile, _, _ := strings.Cut(p.file, "/")
		env = append(env, "POSTHORN_PROFILES__"+strings.ToUpper(profile)+"__TLS__CA_FILE="+n.caFile)
	}
	return env
}

// start runs the relay with the product's configuration as it is, and returns
// it once it delivers.
func (p product) start(t testing.TB, env []string) *relay {
	t.Helper()
	r := startProcess(t, env, "run", "--init", "--config", p.example())
	r.waitReady()
	return r
}

// load returns the product's configuration as the relay reads it.
func (p product) load(t testing.TB, env []string) *config.Config {
	t.Helper()
	cfg, err := config.Load(p.example(), env)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// publish commits an event and returns its id.
func (db *database) publish(t testing.TB, eventType, tenant, payload string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	db.exec(t, `INSERT INTO posthorn.outbox (id, type, tenant, payload) VALUES ($1, $2, nullif($3, ''), $4::text::json)`, id, eventType, tenant, payload)
	return id
}

// publishCatalogue commits an event of every type of the catalogue, with its
// example, and returns them once they are delivered to the one endpoint that
// gets them.
func (p product) publishCatalogue(t testing.TB, db *database, cfg *config.Config) []published {
	t.Helper()
	var events []published
	for _, e := range cfg.Events {
		events = append(events, published{
			id: db.publish(t, e.Type, cfg.Endpoints[0].Tenant, string(e.Example)), eventType: e.Type,
			payload: compactJSON(t, []byte(e.Example)), url: cfg.Endpoints[0].URL.Reveal(),
		})
	}
	for i := range events {
		db.waitDelivered(t, &events[i])
	}
	return events
}

// waitDelivered completes e once it is delivered to the one endpoint that gets
// it.
func (db *database) waitDelivered(t testing.TB, e *published) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		err := db.pool.QueryRow(t.Context(), `SELECT d.id, d.created_at, o.created_at FROM posthorn.deliveries d JOIN posthorn.outbox o ON o.id = d.event_id
			WHERE d.event_id = $1 AND d.state = 'delivered' AND d.attempts = 1`, e.id).Scan(&e.delivery, &e.committed, &e.created)
		if err != nil {
			return fmt.Errorf("event %s of type %s: %w", e.id, e.eventType, err)
		}
		return nil
	})
}

func compactJSON(t testing.TB, text []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out.String()
}

// ownHeaders returns the request's headers less the HTTP client's own and the
// signature, of which there must be one.
func ownHeaders(t testing.TB, q *nodeRequest, signature string) http.Header {
	t.Helper()
	h := q.header()
	if len(h[signature]) != 1 {
		t.Errorf("%s: %d headers %s, want 1", q.Type, len(h[signature]), signature)
	}
	if agent := h.Get("User-Agent"); !strings.HasPrefix(agent, "Posthorn/") {
		t.Errorf("%s: User-Agent %q", q.Type, agent)
	}
	for _, name := range []string{"Host", "Content-Length", "Accept-Encoding", "User-Agent", signature} {
		delete(h, name)
	}
	return h
}

// TestProductCatalogues sends every event type of each product's catalogue
// with the example's configuration as it is.
func TestProductCatalogues(t *testing.T) {
	tests := map[string]struct {
		product
		types int
	}{
		"Byro": {byro, 19}, "Danbyte": {danbyte, 6}, "Bindbee": {bindbee, 5}, "Offly": {offly, 8},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			db, n := newDatabase(t), tt.receiver(t, productSecret)
			env := tt.env(db, n, productSecret)
			r := tt.start(t, env)
			cfg := tt.load(t, env)
			events := tt.publishCatalogue(t, db, cfg)
			waitSettled(t, db)
			requests := n.arrived()
			if len(events) != tt.types || len(requests) != tt.types {
				t.Fatalf("%d events and %d requests, want %d each", len(events), len(requests), tt.types)
			}
			tt.check(t, events, requests)
			refused := refuseTampered(t, n, requests, tt.signature)
			if code, _ := r.stop(); code != 0 {
				t.Errorf("the relay ended with %d", code)
			}
			tt.refuseWrongSecret(t, db, n, events[0])
			t.Logf("FIGURE product %s: %d event types sent with the example's configuration, each arrived once, verified by Node.js, and had the document's method, headers and body; %d copies without their body or signature and a wrong secret were refused",
				name, len(events), refused)
		})
	}
}

// check compares what arrived with what the document promises.
func (p product) check(t testing.TB, events []published, requests []nodeRequest) {
	t.Helper()
	wanted := map[string]http.Header{}
	for _, e := range events {
		body, header := p.request(e)
		header.Set("Content-Type", "application/json")
		wanted[body] = header
	}
	got := map[string]http.Header{}
	for i := range requests {
		q := &requests[i]
		if !q.Verified || q.Status != http.StatusOK || q.Method != http.MethodPost || q.Path != p.path {
			t.Errorf("%s %s of %q: verified %t, answered %d", q.Method, q.Path, q.Type, q.Verified, q.Status)
		}
		body := string(q.Body)
		if !p.secure { // else it is compact as it comes: see the example
			body = compactJSON(t, q.Body)
		}
		got[body] = ownHeaders(t, q, p.signature)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("headers by bodies (-want +got):\n%s", diff)
	}
}

// refuseTampered sends the receiver copies of the requests, which it takes,
// and tampered ones, which it must not. It returns how many it refused.
func refuseTampered(t testing.TB, n *nodeReceiver, requests []nodeRequest, signature string) (refused int) {
	t.Helper()
	for i := range requests {
		q := &requests[i]
		header := q.header()
		if status := n.repeat(q, header, q.Body); status != http.StatusOK {
			t.Errorf("%s: a true copy was answered with %d", q.Type, status)
		}
		without, short, other := header.Clone(), header.Clone(), header.Clone()
		without.Del(signature)
		short.Set(signature, strings.TrimRight(header.Get(signature), "=")[:20])
		other.Set(signature, string(tamper([]byte(header.Get(signature)))))
		for name, copied := range map[string]struct {
			header http.Header
			body   []byte
		}{
			"a tampered body": {header, tamper(q.Body)}, "no signature": {without, q.Body},
			"half a signature": {short, q.Body}, "another signature": {other, q.Body},
		} {
			if status := n.repeat(q, copied.header, copied.body); status != http.StatusUnauthorized {
				t.Errorf("%s with %s was answered with %d", q.Type, name, status)
			}
			refused++
		}
	}
	return refused
}

// tamper returns text with its last letter or digit replaced by another.
func tamper(text []byte) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	text = slices.Clone(text)
	at := bytes.LastIndexAny(text, letters)
	if text[at]++; !strings.Contains(letters, string(text[at])) {
		text[at] -= 2
	}
	return text
}

// refuseWrongSecret runs the relay with another secret than the receiver's:
// the ledger must tell of its refusal.
func (p product) refuseWrongSecret(t testing.TB, db *database, n *nodeReceiver, e published) {
	t.Helper()
	before := len(n.arrived())
	env := p.env(db, n, "another secret")
	r := p.start(t, env)
	id := db.publish(t, e.eventType, p.load(t, env).Endpoints[0].Tenant, e.payload)
	q := n.waitArrived(before + 1)[before]
	if q.Verified || q.Status != http.StatusUnauthorized {
		t.Errorf("signed with another secret: verified %t, answered %d", q.Verified, q.Status)
	}
	var got struct {
		outcome, text, response string
		status, number          int
	}
	eventually(t, 30*time.Second, func() error {
		return db.pool.QueryRow(t.Context(), `SELECT a.outcome, a.status, a.error, convert_from(a.response, 'UTF8'), a.number FROM posthorn.attempts a
			WHERE a.delivery_id IN (SELECT id FROM posthorn.pending WHERE event_id = $1 UNION SELECT id FROM posthorn.deliveries WHERE event_id = $1)`, id).
			Scan(&got.outcome, &got.status, &got.text, &got.response, &got.number)
	})
	if got.outcome != "rejected" || got.status != http.StatusUnauthorized || got.text != "answered 401 Unauthorized" || got.response != "invalid signature" || got.number != 1 {
		t.Errorf("the ledger says %+v of the attempt with another secret", got)
	}
	if code, _ := r.stop(); code != 0 {
		t.Errorf("the relay ended with %d", code)
	}
}
