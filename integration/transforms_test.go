package integration

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const hashSecret = "sixteen bytes, or more"

// kindsConfig has every kind of transform, each for a type of its own.
const kindsConfig = `
plugins: {marker: %s}
transforms:
  - {match: [jq.made], jq: '.payload | {id, total: (.net + .tax), precise}'}
  - {match: [jq.dropped], jq: 'empty'}
  - {match: [template.made], template: '{"data": {{ .Payload }}, "type": {{ json .Event.Type }}}'}
  - {match: ["filter.*"], filter: payload.amount > 10}
  - {match: [set.made], set: {source: hr, meta.version: 2}}
  - {match: [remove.made], remove: [internal, "lines.*.cost"]}
  - {match: [rename.made], rename: {employee.ssn: nationalId}}
  - {match: [mask.made], redact: {paths: [iban]}}
  - {match: [hash.made], redact: {paths: [iban], mode: hash, secret: "` + hashSecret + `"}}
  - {match: [strict.*], schema: reject}
  - {match: [lenient.*], schema: warn}
  - {match: [type.*], type: 'v2.{{ .Event.Type }}'}
  - {match: [headers.*], headers: {X-Source: 'hr {{ .Event.Action }}', X-Gone: ""}}
  - {match: ["plugin.*"], plugin: marker}
  - {match: ["chain.*"], rename: {a: b}}
  - {match: ["chain.*"], set: {c: 2}}
  - {match: ["chain.*"], type: chained.first}
  - {match: ["chained.*"], set: {wrong: "routing and match keep to the type as committed"}}
  - {match: ["chain.*"], type: '{{ .Event.Type }}.second'}
events:
  - type: strict.made
    schema: {type: object, required: [name], properties: {name: {type: string, maxLength: 5}}}
  - {type: lenient.made, schema: {type: object, required: [name]}}
endpoints:
  - name: a
    url: "${RECEIVER}/a"
    events: ["*"]
    filter: 'type != "chained.first"'
    secret: "${SECRET}"
    retry: {schedule: [1h]}
    headers: {X-Type: "{{ .Event.Type }}", X-Source: '{{ index .Event.Headers "X-Source" }}', X-Gone: '{{ index .Event.Headers "X-Gone" }}'}
`

// transformed is an event and what should become of it: its body, or why it is
// skipped or failed.
type transformed struct {
	eventType, payload string
	body               string
	newType            string // "" for as committed
	source             string // header X-Source
	state              string // "" for delivered
	reason             string
	random             bool // the body is another one each time
}

func hashOf(value string) string {
	mac := hmac.New(sha256.New, []byte(hashSecret))
	mac.Write([]byte(value))
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil))
}

const unusual = `{"z":1.0,  "a":"\u00e9<&>","big":12345678901234567890.10 }`

var everyKind = []transformed{
	{eventType: "none.made", payload: unusual, body: unusual},
	{eventType: "jq.made", payload: `{"id":7,"net":2,"tax":1,"precise":12345678901234567890}`, body: `{"id":7,"precise":12345678901234567890,"total":3}`},
	{eventType: "jq.dropped", payload: `{"id":7}`, state: "skipped", reason: "transforms[1] (jq): "},
	{eventType: "template.made", payload: unusual, body: `{"data": ` + unusual + `, "type": "template.made"}`},
	{eventType: "filter.made", payload: `{"amount":  10.5, "z":1}`, body: `{"amount":  10.5, "z":1}`},
	{eventType: "filter.made", payload: `{"amount":  10}`, state: "skipped", reason: "transforms[3] (filter): filter is false"},
	{eventType: "filter.made", payload: `{"private":"4711"}`, state: "skipped", reason: "transforms[3] (filter): filter is false"},
	{eventType: "filter.made", payload: `{"amount":"4711"}`, state: "failed", reason: "transforms[3] (filter): "},
	{eventType: "set.made", payload: unusual, body: `{"z":1.0,  "a":"\u00e9<&>","big":12345678901234567890.10,"meta":{"version":2},"source":"hr" }`},
	{eventType: "remove.made", payload: `{"internal": {"x": [1]}, "id": 1.50, "lines": [{"cost": 1, "n" :2}, {"n": 3}]}`, body: `{"id": 1.50, "lines": [{"n" :2}, {"n": 3}]}`},
	{eventType: "rename.made", payload: `{"employee" : {"name": "A", "ssn" : "1 2"}}`, body: `{"employee" : {"name": "A", "nationalId" : "1 2"}}`},
	{eventType: "mask.made", payload: `{"iban": "DE02", "n": 1e2}`, body: `{"iban": "***", "n": 1e2}`},
	{eventType: "hash.made", payload: `{"iban": "DE02", "n": 1e2}`, body: `{"iban": "` + hashOf("DE02") + `", "n": 1e2}`},
	{eventType: "strict.made", payload: `{"name" : "short"}`, body: `{"name" : "short"}`},
	{eventType: "strict.made", payload: `{"name" : "a name that is private"}`, state: "failed", reason: "transforms[9] (schema): "},
	{eventType: "lenient.made", payload: `{"nome" :1}`, body: `{"nome" :1}`},
	{eventType: "type.made", payload: unusual, body: unusual, newType: "v2.type.made"},
	{eventType: "headers.made", payload: unusual, body: unusual, source: "hr made"},
	{eventType: "plugin.made", payload: `{"n":0}`, random: true},
	{eventType: "plugin.made", payload: `{"do":"skip"}`, state: "skipped", reason: "transforms[13] (plugin marker): not wanted"},
	{eventType: "plugin.made", payload: `{"do":"reject"}`, state: "failed", reason: "transforms[13] (plugin marker): never"},
	{eventType: "chain.made", payload: `{"a" :1}`, body: `{"b" :1,"c":2}`, newType: "chained.first.second"},
}

func TestEveryKindOfTransform(t *testing.T) {
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	got := keep(rcv.endpoints["/a"])
	config := fmt.Sprintf(kindsConfig, pluginOf("marker", variables{labelVariable: "plugin"}))
	r := startRelay(t, db, rcv, config)
	r.waitReady()
	ids := make([]uuid.UUID, len(everyKind))
	for i, e := range everyKind {
		ids[i] = db.publish(t, e.eventType, "", e.payload)
	}
	byKind := map[string]int{}
	for i, e := range everyKind {
		t.Run(fmt.Sprintf("%d %s", i, e.eventType), func(t *testing.T) {
			final := db.waitFinal(t, ids[i])
			byKind[final.State]++
			if e.state == "" {
				q := got.of(t, db, ids[i], 1)[0]
				e.check(t, "delivery", q.Body, q.Header)
			} else if reason := strings.TrimPrefix(final.Error, "transform: "); final.State != e.state || !strings.HasPrefix(reason, e.reason) || leaks(final.Error, e.payload) {
				t.Errorf("the delivery is %s: %q; want it %s: %q", final.State, final.Error, e.state, e.reason)
			}
			e.checkTransform(t, db, rcv, config, ids[i], final.Error)
			e.checkSendTest(t, db, rcv, config, got)
		})
	}
	if n := len(r.logged("payload does not fit its schema")); n != 1 {
		t.Errorf("the log has %d warnings of schemas, not 1", n)
	}
	for _, private := range []string{"private", "4711", "DE02", hashSecret} {
		if strings.Contains(r.tail(1<<20), private) {
			t.Errorf("%q is in the log", private)
		}
	}
	t.Logf("FIGURE transforms of every kind: %v, by relay, send-test and transform alike", byKind)
}

// leaks reports whether a text holds a value of a payload.
func leaks(text, payload string) bool {
	for _, value := range []string{"4711", "a name that is private"} {
		if strings.Contains(payload, value) && strings.Contains(text, value) {
			return true
		}
	}
	return false
}

// check holds that a request is as the event should yield it.
func (e *transformed) check(t *testing.T, whose string, body []byte, header http.Header) {
	t.Helper()
	wantType := e.newType
	if wantType == "" {
		wantType = e.eventType
	}
	if e.random {
		if by := marksOf(body).By; by != "plugin" {
			t.Errorf("%s: the body is not the plugin's: %s", whose, body)
		}
	} else if string(body) != e.body {
		t.Errorf("%s: the body differs:\n%s\nwant\n%s", whose, body, e.body)
	}
	if got := header.Get("X-Type"); got != wantType {
		t.Errorf("%s: X-Type is %q, not %q", whose, got, wantType)
	}
	if got := header.Get("X-Source"); got != e.source {
		t.Errorf("%s: X-Source is %q, not %q", whose, got, e.source)
	}
}

// checkTransform holds that posthorn transform shows what became of the event.
func (e *transformed) checkTransform(t *testing.T, db *database, rcv *receiver, config string, id uuid.UUID, reason string) {
	t.Helper()
	env := []string{"RECEIVER=" + rcv.url(), "SECRET=" + secret, `POSTHORN_EGRESS__ALLOW=["127.0.0.0/8"]`, "POSTHORN_LOG__LEVEL=error"}
	code, output := runToEnd(t, db, config, env, "transform", "--event", id.String(), "--endpoint", "a", "--output", "json")
	var shown struct {
		Skipped, Error string
		Request        *struct {
			Headers [][2]string
			Body    string
		}
	}
	if err := json.NewDecoder(strings.NewReader(output)).Decode(&shown); err != nil {
		t.Fatalf("posthorn transform printed %s: %v", output, err)
	}
	if wantCode := map[string]int{"failed": 1}[e.state]; code != wantCode {
		t.Errorf("posthorn transform ended with %d, not %d:\n%s", code, wantCode, output)
	}
	if leaks(shown.Error, e.payload) {
		t.Errorf("posthorn transform shows a value: %s", shown.Error)
	}
	if e.state != "" {
		if shown.Request != nil || shown.Skipped+shown.Error != strings.TrimPrefix(reason, "transform: ") {
			t.Errorf("posthorn transform says %q; the ledger %q", shown.Skipped+shown.Error, reason)
		}
		return
	}
	if shown.Request == nil {
		t.Fatalf("posthorn transform shows no request:\n%s", output)
	}
	header := http.Header{}
	for _, field := range shown.Request.Headers {
		header.Add(field[0], field[1])
	}
	e.check(t, "posthorn transform", []byte(shown.Request.Body), header)
}

// checkSendTest holds that posthorn send-test sends what the event yields.
func (e *transformed) checkSendTest(t *testing.T, db *database, rcv *receiver, config string, got *kept) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(file, []byte(e.payload), 0o600); err != nil {
		t.Fatal(err)
	}
	before := got.tests()
	r := startCommand(t, db, rcv, config, "send-test", "a", "--type", e.eventType, "--payload", "@"+file)
	code, sent := r.wait(time.Minute), got.tests()[len(before):]
	if e.state != "" {
		if code != 1 || len(sent) > 0 || !strings.Contains(r.tail(100), e.reason) || leaks(r.tail(100), e.payload) {
			t.Errorf("posthorn send-test ended with %d after %d requests, and does not say %q alone:\n%s", code, len(sent), e.reason, r.tail(10))
		}
		return
	}
	if code != 0 || len(sent) != 1 {
		t.Fatalf("posthorn send-test ended with %d after %d requests:\n%s", code, len(sent), r.tail(10))
	}
	e.check(t, "posthorn send-test", sent[0].Body, sent[0].Header)
}

// tests returns the requests that send-test made.
func (k *kept) tests() (found []*request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.all {
		if q.Header.Get("Posthorn-Test") != "" {
			found = append(found, q)
		}
	}
	return found
}
