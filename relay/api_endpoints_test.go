package relay

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// shownEndpoint is an endpoint as far as the tests look at the API's answer.
type shownEndpoint struct {
	ID, Name, State, Secret, Origin string
	Revision                        int64
	Document                        json.RawMessage
}

// apiKeys is a configuration whose API keeps secrets.
var apiKeys = fmt.Sprintf("egress: {allow: [127.0.0.0/8]}\nledger: {encryption_keys: ['%s']}\n", oldKey)

func TestAnEndpointOfTheAPIGetsEventsThatItsSecretsVerify(t *testing.T) {
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		header http.Header
		body   []byte
	}
	arrived := make(chan request, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- request{r.Header, body}
	}))
	defer receiver.Close()
	verifies := func(secret string, r request) error {
		key, err := signing.ParseKey("standard-webhooks", secret)
		if err != nil {
			t.Fatal(err)
		}
		return signer.Verify(r.header, r.body, []signing.Key{key}, time.Now())
	}
	db := newDatabase(t)
	c := db.runAPI(t, apiKeys)
	next := func() request {
		t.Helper()
		db.script(t, `INSERT INTO posthorn.outbox (type, payload) VALUES ('pr.made', '{}');`)
		select {
		case r := <-arrived:
			return r
		case <-time.After(30 * time.Second):
			t.Fatal("nothing arrives")
			return request{}
		}
	}
	var made, rotated, given shownEndpoint
	c.must(t, "operator", "POST", "/api/v1/endpoints", fmt.Sprintf(`{"name": "made", "url": %q, "events": ["pr.*"]}`, receiver.URL), &made)
	if err := verifies(made.Secret, next()); err != nil {
		t.Errorf("the first event: %v", err)
	}
	var test struct{ OK bool }
	c.must(t, "operator", "POST", "/api/v1/endpoints/made/test", "", &test)
	if r := <-arrived; !test.OK || verifies(made.Secret, r) != nil {
		t.Error("a test does not verify")
	}
	c.must(t, "operator", "POST", "/api/v1/endpoints/made/secret", `{"grace": "1h"}`, &rotated)
	for what, secret := range map[string]string{"new": rotated.Secret, "old": made.Secret} {
		if err := verifies(secret, next()); err != nil {
			t.Errorf("by the %s secret: %v", what, err)
		}
	}
	c.must(t, "operator", "POST", "/api/v1/endpoints/made/secret", `{"grace": "0s", "secret": "a secret of somebody's own"}`, &given)
	if r := next(); verifies("a secret of somebody's own", r) != nil || given.Secret != "" {
		t.Error("the secret that was given does not verify")
	}
}

func TestAPITellsWhyAnEndpointIsNotChanged(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, apiKeys+"endpoints: [{name: fixed, url: 'https://fixed.example', events: [a]}]\n")
	var made shownEndpoint
	c.must(t, "operator", "POST", "/api/v1/endpoints", `{"name": "made", "url": "https://made.example", "events": ["a"]}`, &made)
	for _, q := range []struct {
		method, path, body, want string
		status                   int
	}{
		{"PATCH", "/endpoints/fixed", `{}`, "stands in the configuration", http.StatusConflict},
		{"DELETE", "/endpoints/fixed", ``, "stands in the configuration", http.StatusConflict},
		{"POST", "/endpoints/fixed/secret", ``, "stands in the configuration", http.StatusConflict},
		{"PATCH", "/endpoints/made?revision=77", `{"timeout": "1s"}`, "changed meanwhile", http.StatusConflict},
		{"GET", "/endpoints/nope", ``, "no such endpoint", http.StatusNotFound},
		{"PATCH", "/endpoints/nope", `{}`, "no such endpoint", http.StatusNotFound},
		{"DELETE", "/endpoints/nope", ``, "no such endpoint", http.StatusNotFound},
		{"POST", "/endpoints/nope/secret", ``, "no such endpoint", http.StatusNotFound},
		{"POST", "/endpoints/nope/check", `{}`, "no such endpoint", http.StatusNotFound},
		{"POST", "/endpoints", `{"name": "` + strings.Repeat("x", maxDocument) + `"}`, "", http.StatusRequestEntityTooLarge},
		{"PUT", "/endpoints/made", ``, "this takes GET and PATCH and DELETE only", http.StatusMethodNotAllowed},
	} {
		a := c.ask(t, "operator", q.method, "/api/v1"+q.path, q.body)
		a.fields(t)
		if a.status != q.status || !strings.Contains(string(a.body), q.want) {
			t.Errorf("%s %s answers %d %s", q.method, q.path, a.status, a.body)
		}
	}
	var list struct{ Endpoints []shownEndpoint }
	c.must(t, "viewer", "GET", "/api/v1/endpoints", "", &list)
	if len(list.Endpoints) != 2 || list.Endpoints[0].Origin != "configuration" || list.Endpoints[1].Origin != "api" {
		t.Errorf("the list is %+v", list)
	}
	c.must(t, "operator", "PATCH", fmt.Sprintf("/api/v1/endpoints/%s?revision=%d", made.ID, made.Revision), `{"name": "other", "enabled": false}`, &made)
	if made.Name != "other" || made.State != "disabled" {
		t.Errorf("it is %+v", made)
	}
	if a := c.ask(t, "operator", "POST", "/api/v1/endpoints/other/resume", ""); a.status != http.StatusConflict || !strings.Contains(string(a.body), "it is disabled: enable it") {
		t.Errorf("resumed, it answers %d %s", a.status, a.body)
	}
}

func TestAnIdempotencyKeyCreatesOneEndpoint(t *testing.T) {
	db := newDatabase(t)
	c := db.runAPI(t, apiKeys)
	ask := func(key, body string) (status int, text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.address+"/api/v1/endpoints", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer operator-0102030405060708090a")
		r.Header.Set("Idempotency-Key", key)
		res, err := c.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(answer)
	}
	const document = `{"name": "made", "url": "https://made.example", "events": ["a"]}`
	status, first := ask("k1", document)
	if status != http.StatusCreated || !strings.Contains(first, "whsec_") {
		t.Fatalf("created: %d %s", status, first)
	}
	if status, again := ask("k1", document); status != http.StatusCreated || again != first {
		t.Errorf("again it answers %d %s", status, again)
	}
	if status, other := ask("k1", strings.Replace(document, "made", "other", 1)); status != http.StatusUnprocessableEntity || !strings.Contains(other, "header.Idempotency-Key") {
		t.Errorf("with another document it answers %d %s", status, other)
	}
	if status, taken := ask("k2", document); status != http.StatusUnprocessableEntity || !strings.Contains(taken, "body.name") {
		t.Errorf("with another key it answers %d %s", status, taken)
	}
	if status, long := ask(strings.Repeat("k", 256), document); status != http.StatusUnprocessableEntity {
		t.Errorf("with a long key it answers %d %s", status, long)
	}
	if got := db.text(t, `SELECT count(*)::text FROM posthorn.definitions`); got != "1" {
		t.Errorf("%s endpoints", got)
	}
}
