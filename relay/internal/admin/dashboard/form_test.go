package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// same checks that JSON says the same as want.
func same(t *testing.T, got json.RawMessage, want string) {
	t.Helper()
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		t.Fatalf("got %s, want %s", got, want)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFormBecomesTheEndpointsDocument(t *testing.T) {
	for name, test := range map[string]struct {
		form url.Values
		want string
	}{
		"by types": {
			url.Values{"name": {"acme"}, "url": {"https://a.example"}, "enabled": {"true"}, "by": {"events"}, "event": {"pr.*", "po.issued"}, "patterns": {"a.b\nc.*"}, "secret_kind": {"generate"}},
			`{"name":"acme","url":"https://a.example","enabled":true,"events":["pr.*","po.issued","a.b","c.*"]}`,
		},
		"by objects, with a secret": {
			url.Values{"name": {"d"}, "url": {"https://a.example"}, "by": {"objects"}, "objects": {"device, site"}, "trigger": {"create"}, "triggers": {"move"}, "secret_kind": {"own"}, "secret": {"s3cret-of-some-length"}, "event": {"pr.*"}},
			`{"name":"d","url":"https://a.example","enabled":false,"objects":["device","site"],"triggers":["create","move"],"secret":"s3cret-of-some-length"}`,
		},
		"all that a profile can": {
			url.Values{
				"name": {"d"}, "url": {"https://a.example"}, "enabled": {"true"}, "event": {"*"}, "secret_kind": {"none"}, "tenant": {"t"}, "profile": {"byro"}, "method": {"PUT"}, "content_type": {"text/plain"},
				"headers": {"X-A: b: c\nX-D:{{ .Event.Type }}\n\n"}, "timeout": {"5s"}, "body": {"{{ .Payload }}"}, "json": {"compact"}, "tls_verify": {"false"}, "filter": {"payload.a > 1"},
				"retry_schedule": {"1s, 2m,3h"}, "retry_stop_on": {"404, 5xx"}, "retry_jitter": {"0.5"}, "retry_max_age": {"72h"}, "pause_on_exhausted": {"true"}, "pause_failures": {"9"}, "pause_failing_for": {"0s"}, "ordering": {"key"},
				"concurrency": {"4"}, "rate_limit": {"nonsense"}, "more": {`{"signatures":[],"tls":{"min_version":"1.3"}}`},
			},
			`{"name":"d","url":"https://a.example","enabled":true,"events":["*"],"secret":"","tenant":"t","profile":"byro","method":"PUT","content_type":"text/plain","headers":{"X-A":"b: c","X-D":"{{ .Event.Type }}"},
			"timeout":"5s","body":"{{ .Payload }}","json":"compact","tls":{"verify":false,"min_version":"1.3"},"filter":"payload.a > 1","retry":{"schedule":["1s","2m","3h"],"stop_on":["404","5xx"],"jitter":0.5,"max_age":"72h"},
			"pause":{"on_exhausted":true,"consecutive_failures":9,"failing_for":"0s"},"ordering":"key","concurrency":4,"rate_limit":"nonsense","signatures":[]}`,
		},
		"authentication and TLS": {
			url.Values{
				"name": {"d"}, "auth_username": {"u"}, "auth_password": {"true"}, "auth_token_url": {"https://login.example/token"}, "auth_client_id": {"7"}, "auth_client_secret": {"s"}, "auth_scopes": {"a, b"},
				"tls_min_version": {"1.3"}, "tls_server_name": {"erp"}, "tls_ca_file": {"/ca.pem"}, "tls_cert_file": {"/c.pem"}, "tls_key_file": {"/k.pem"}, "more": {`{"auth":{"oauth2":{"scopes":[]}}}`},
			},
			`{"name":"d","enabled":false,"events":[],"auth":{"basic":{"username":"u","password":"true"},"oauth2":{"token_url":"https://login.example/token","client_id":"7","client_secret":"s","scopes":["a","b"]}},
			"tls":{"min_version":"1.3","server_name":"erp","ca_file":"/ca.pem","cert_file":"/c.pem","key_file":"/k.pem"}}`,
		},
		"no retries": {url.Values{"name": {"d"}, "retry_schedule": {"none"}}, `{"name":"d","enabled":false,"events":[],"retry":{"schedule":[]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, "admin")
			b.post("/endpoints/new", test.form, http.StatusOK)
			same(t, b.control.created, test.want)
		})
	}
}

func TestSecretIsShownOnceWhereItWasMade(t *testing.T) {
	b := newBrowser(t, "admin")
	p := b.post("/endpoints/new", url.Values{"name": {"a"}, "url": {"https://a.example"}, "event": {"*"}}, http.StatusOK)
	p.has("whsec_bm90", "shown this once")
	p.sound()
	id := b.control.endpoints[0].ID.String()
	p = b.post("/endpoints/"+id+"/secret", url.Values{"grace": {"24h"}}, http.StatusOK)
	p.has("whsec_cm90", "This is the new secret")
	b.get("/endpoints/"+id, http.StatusOK).lacks("whsec_")
	if want := "rotate " + id + " " + (24 * time.Hour).String(); b.control.asked[0] != want {
		t.Errorf("asked for %q, want %q", b.control.asked[0], want)
	}
	for _, grace := range []string{"", "soon", "-1h"} {
		b.post("/endpoints/"+id+"/secret", url.Values{"grace": {grace}}, http.StatusBadRequest)
	}
}

// fieldOf returns the value of a page's hidden field.
func (p *page) fieldOf(action, name string) string {
	p.t.Helper()
	for _, form := range p.all(func(n *html.Node) bool { return n.Data == "form" && attr(n, "action") == Base+action }) {
		for n := range form.Descendants() {
			if n.Type == html.ElementNode && attr(n, "name") == name {
				return attr(n, "value")
			}
		}
	}
	p.t.Fatalf("%s has no field %s", p.path, name)
	return ""
}

// countingControl makes another secret at each request, while hold is open.
type countingControl struct {
	*fakeControl
	made          int
	started, hold chan struct{}
}

func (c *countingControl) CreateEndpoint(context.Context, *admin.Caller, json.RawMessage) (*admin.NewSecret, error) {
	if c.hold != nil {
		close(c.started)
		<-c.hold
	}
	return c.next(), c.err
}

func (c *countingControl) RotateSecret(context.Context, *admin.Caller, string, admin.Rotation) (*admin.NewSecret, error) {
	return c.next(), c.err
}

func (c *countingControl) next() *admin.NewSecret {
	c.made++
	return &admin.NewSecret{EndpointDetail: c.endpoints[0], Secret: fmt.Sprintf("whsec_number-%d", c.made)}
}

func TestFormsThatAreSentAgainMakeNoSecondSecret(t *testing.T) {
	b := newBrowser(t, "admin")
	c := &countingControl{fakeControl: b.control}
	b.d.Control = c
	key := b.get("/endpoints/new", http.StatusOK).fieldOf("/endpoints/new", "key")
	form := url.Values{"name": {"a"}, "url": {"https://a.example"}, "event": {"*"}, "key": {key}}
	for range 3 {
		b.post("/endpoints/new", form, http.StatusOK).has("The endpoint was created", "whsec_number-1")
	}
	form.Set("name", "b")
	p := b.post("/endpoints/new", form, http.StatusUnprocessableEntity)
	p.has("Send it again to make another.")
	if form.Set("key", p.fieldOf("/endpoints/new", "key")); form.Get("key") == key {
		t.Fatal("the form that is shown again has the key that was used")
	}
	b.post("/endpoints/new", form, http.StatusOK).has("whsec_number-2")

	path := "/endpoints/" + c.endpoints[0].ID.String()
	rotate := func(p *page) url.Values {
		return url.Values{"grace": {"24h"}, "key": {p.fieldOf(path+"/secret", "key")}, "revision": {p.fieldOf(path+"/secret", "revision")}}
	}
	first, other := rotate(b.get(path, http.StatusOK)), rotate(b.get(path, http.StatusOK))
	b.post(path+"/secret", first, http.StatusOK)
	c.endpoints[0].Revision++
	b.post(path+"/secret", first, http.StatusOK).has("This is the new secret", "whsec_number-3")
	b.post(path+"/secret", other, http.StatusConflict).has("It was changed meanwhile")
	first.Set("grace", "1h")
	b.post(path+"/secret", first, http.StatusConflict).has("sent before")
	if c.made != 3 {
		t.Errorf("%d secrets were made, want 3", c.made)
	}
	b.post(path+"/secret", rotate(b.get(path, http.StatusOK)), http.StatusOK).has("whsec_number-4")
}

func TestSecondClickWaitsForTheSecretOfTheFirst(t *testing.T) {
	b := newBrowser(t, "admin")
	c := &countingControl{fakeControl: b.control, started: make(chan struct{}), hold: make(chan struct{})}
	waits := &waitingControl{countingControl: c, waited: make(chan struct{})}
	b.d.Control = waits
	form := url.Values{"name": {"a"}, "url": {"https://a.example"}, "event": {"*"}, "key": {"k"}}
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { b.send("/endpoints/new", form, false) })
	<-c.started
	all.Go(func() {
		<-waits.waited
		close(c.hold)
	})
	b.post("/endpoints/new", form, http.StatusOK).has("whsec_number-1")
}

// waitingControl tells when a form first has to wait for the one before.
type waitingControl struct {
	*countingControl
	waited chan struct{}
	once   sync.Once
}

func (c *waitingControl) Once(ctx context.Context, who *admin.Caller, r admin.OnceRequest, do func(context.Context) ([]byte, error)) ([]byte, error) {
	answer, err := c.countingControl.Once(ctx, who, r, do)
	if errors.Is(err, ledger.ErrRunning) {
		c.once.Do(func() { close(c.waited) })
	}
	return answer, err
}

func TestReceiversGetThePublicKeyWhereThatVerifies(t *testing.T) {
	const private, public = "whsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "whpk_O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="
	for signatures, shared := range map[string]bool{
		`[{"scheme":"standard-webhooks"}]`:                                  false,
		`[{"scheme":"http-message","algorithm":"ed25519"}]`:                 false,
		`[{"scheme":"standard-webhooks"},{"scheme":"hmac","header":"X"}]`:   true, // which takes the key as any text
		`[{"scheme":"http-message","algorithm":"hmac-sha256","label":"l"}]`: true,
	} {
		b := newBrowser(t, "admin")
		e := &b.control.endpoints[0]
		b.control.secret, e.PublicKey, e.Effective = private, public, json.RawMessage(`{"signatures":`+signatures+`}`)
		id := e.ID.String()
		for _, p := range []*page{
			b.post("/endpoints/new", url.Values{"name": {"a"}}, http.StatusOK), b.post("/endpoints/"+id+"/secret", url.Values{"grace": {"24h"}}, http.StatusOK),
		} {
			p.sound()
			p.has(public)
			if shown := strings.Contains(p.text, "whsk_"); shown != shared {
				t.Errorf("%s of %s: shows the private key: %v, want %v", p.path, signatures, shown, shared)
			}
			if !shared {
				p.has("public key", "Copy it to the receiver: it verifies by it.")
				p.lacks("shown this once")
			}
		}
		p := b.get("/endpoints/"+id, http.StatusOK)
		p.has("The public key, by which receivers verify:", public)
		p.lacks("whsk_", "keyed by the decoded secret")
	}
}

func TestProblemsStandNextToTheirFields(t *testing.T) {
	b := newBrowser(t, "admin")
	b.control.invalid = invalid("url", "must be https", "retry.schedule[1]", "is no duration", "headers.X-A", "is no header", "events[0]", "is no pattern", "signatures[0].scheme", "is unknown", "secret", "is too short", "tls.verify", "is not yours")
	for _, path := range []string{"/endpoints/new", "/endpoints/" + b.control.endpoints[0].ID.String() + "/edit"} {
		p := b.post(path, url.Values{"name": {"kept <here>"}, "url": {"http://a.example"}, "retry_schedule": {"1s, x"}, "headers": {"X-A: 1"}, "event": {"pr.submitted"}}, http.StatusUnprocessableEntity)
		for field, want := range map[string]string{
			"url": "must be https", "retry_schedule": "is no duration", "headers": "X-A is no header", "events": "is no pattern", "tls_verify": "is not yours", "name": "",
		} {
			if got := words(p.id("problem-" + field)); got != want {
				t.Errorf("%s: next to %s stands %q, want %q", path, field, got, want)
			}
		}
		if got := words(p.id("problem-more")); !strings.HasPrefix(got, "signatures[0].scheme is unknown") || strings.HasSuffix(got, " secret is too short") != strings.HasSuffix(path, "/edit") {
			t.Errorf("%s: next to more stands %q", path, got) // of an edit that of the secret, too: there is no field for it
		}
		p.has("Nothing was saved. Look at")
		for n := p.id("more"); n != nil; n = n.Parent {
			if n.Data == "details" && !hasAttr(n, "open") {
				t.Errorf("%s: what is wrong with more is folded away", path)
			}
		}
		for field, want := range map[string]string{"url": "true", "name": "", "retry_schedule": "true"} {
			if got := attr(p.id(field), "aria-invalid"); got != want {
				t.Errorf("%s: %s has aria-invalid %q, want %q", path, field, got, want)
			}
		}
		if got := attr(p.id("name"), "value"); got != "kept <here>" {
			t.Errorf("%s: the name that was written became %q", path, got)
		}
		p.sound()
	}
}

func TestFormIsCheckedAsItIsWritten(t *testing.T) {
	b := newBrowser(t, "admin")
	w := b.send("/endpoints/check", url.Values{"name": {"a"}, "url": {"ftp://a"}, "timeout": {"soon"}}, true)
	p := b.page(w, "check", http.StatusOK)
	if got := words(p.id("problem-url")); got != "must be an http or https URL" {
		t.Errorf("of the url it says %q", got)
	}
	if got := words(p.id("problem-timeout")); got != "must be a duration such as 15s" {
		t.Errorf("of the timeout it says %q", got)
	}
	if n := p.id("problem-name"); n == nil || words(n) != "" || attr(n, "hx-swap-oob") != "true" {
		t.Error("a field without a problem is not cleared")
	}
	if len(p.named("form", "input")) > 0 {
		t.Error("the check sends the form back, and what is being written with it")
	}
	id := b.control.endpoints[0].ID.String()
	b.send("/endpoints/"+id+"/check", url.Values{"name": {"a"}}, true)
	if want := "check " + id; b.control.asked[len(b.control.asked)-1] != want {
		t.Errorf("asked for %q, want %q", b.control.asked, want)
	}
}

// sent returns the fields of a page as a browser sends them.
func (p *page) sent() url.Values {
	form := url.Values{}
	for _, n := range p.named("input", "textarea", "select") {
		name := attr(n, "name")
		switch {
		case attr(n, "type") == "checkbox" || attr(n, "type") == "radio":
			if hasAttr(n, "checked") {
				form.Add(name, attr(n, "value"))
			}
		case n.Data == "textarea":
			text := ""
			if n.FirstChild != nil {
				text = n.FirstChild.Data
			}
			form.Set(name, strings.ReplaceAll(text, "\n", "\r\n"))
		case n.Data == "select":
			for i, o := range children(n) {
				if i == 0 || hasAttr(o, "selected") {
					form.Set(name, attr(o, "value"))
				}
			}
		default:
			form.Set(name, strings.NewReplacer("\r", "", "\n", "").Replace(attr(n, "value")))
		}
	}
	return form
}

func TestFormThatIsSavedAsItIsChangesNothing(t *testing.T) {
	for name, keys := range map[string]string{
		"a body of several lines":             `"body":"{\n\"a\": {{ .Payload }}\n}\n"`,
		"a body with the lines of Windows":    `"body":"{\r\n\"a\": {{ .Payload }}\r\n}"`,
		"a body with spaces around":           `"body":"  {{ .Payload }} "`,
		"a body that begins with a line end":  `"body":"\n{{ .Payload }}"`,
		"a body with a secret that is hidden": `"headers":{"X-Api-Key":"***"},"body":"{\n\"key\": \"***\",\n\"data\": {{ .Payload }}\n}"`,
		"an empty body":                       `"body":"","content_type":""`,
		"a filter with a comment":             `"filter":"payload.a > 10 // big ones\n&& payload.b == \"DE\""`,
		"numbers among status codes":          `"retry":{"schedule":[],"stop_on":[404,"5xx"],"jitter":0}`,
		"enabled by default":                  `"timeout":"3s"`,
		"disabled":                            `"enabled":false`,
		"a profile that is gone":              `"profile":"long-gone"`,
		"events in an order":                  `"enabled":true,"events":["posthorn.*","z.made","*","pr.*"]`,
		"authentication and TLS":              `"auth":{"oauth2":{"token_url":"https://a.example","client_id":"c","client_secret":"***","scopes":[]}},"tls":{"verify":true,"ca_file":"","min_version":"1.3"}`,
		"further keys":                        `"signatures":[{"scheme":"hmac","header":"X-S","secret":"***"}],"pause":{"failing_for":"0s"},"rate_limit":0`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, "admin")
			e := &b.control.endpoints[0]
			if e.Document = json.RawMessage(`{"name":"acme-erp","url":"https://erp.acme.example",` + keys + `}`); !strings.Contains(keys, `"events"`) {
				e.Document = json.RawMessage(`{"name":"acme-erp","url":"https://erp.acme.example","events":["pr.*"],` + keys + `}`)
			}
			path := "/endpoints/" + e.ID.String() + "/edit"
			form := b.get(path, http.StatusOK).sent()
			b.moved(path, form, "/endpoints/"+e.ID.String()+"?done=saved")
			if b.control.patched != nil {
				t.Errorf("it is changed by %s", b.control.patched)
			}
			form.Set("timeout", "7s")
			b.moved(path, form, "/endpoints/"+e.ID.String()+"?done=saved")
			same(t, b.control.patched, `{"timeout":"7s"}`)
		})
	}
}

func TestSecretOfOnesOwnIsAskedForAgain(t *testing.T) {
	b := newBrowser(t, "admin")
	form := url.Values{"name": {"a"}, "url": {"https://a.example"}, "event": {"*"}, "secret_kind": {"own"}, "secret": {""}}
	p := b.post("/endpoints/new", form, http.StatusUnprocessableEntity)
	if b.control.created != nil || !strings.Contains(words(p.id("problem-secret")), "is missing") {
		t.Errorf("it made %s and says %q", b.control.created, words(p.id("problem-secret")))
	}
}

func TestEditSendsWhatWasChangedOnly(t *testing.T) {
	b := newBrowser(t, "admin")
	e := &b.control.endpoints[0]
	e.Document = json.RawMessage(`{"name":"acme-erp","tenant":"acme","url":"https://u:***@erp.acme.example","profile":"byro","events":["pr.*","po.issued"],"headers":{"X-Region":"eu","Authorization":"***"},"secret":"***","retry":{"schedule":["1s"],"stop_on":["404"]},"signatures":[{"scheme":"github","secret":"***"}],"auth":{"bearer":{"token":"***"}}}`)
	p := b.get("/endpoints/"+e.ID.String()+"/edit", http.StatusOK)
	p.lacks("previous_secrets")
	form := p.sent()
	b.moved("/endpoints/"+e.ID.String()+"/edit", form, "/endpoints/"+e.ID.String()+"?done=saved")
	if b.control.patched != nil {
		t.Errorf("saved as it was, it is changed by %s", b.control.patched)
	}
	form.Set("headers", "X-Region: us\nAuthorization: ***")
	form.Set("profile", "")
	form.Set("retry_schedule", "")
	form.Set("auth_token", "")
	form.Set("auth_username", "posthorn")
	form.Del("event")
	form.Set("patterns", "leave.*")
	b.moved("/endpoints/"+e.ID.String()+"/edit", form, "/endpoints/"+e.ID.String()+"?done=saved")
	same(t, b.control.patched, `{"headers":{"X-Region":"us"},"profile":null,"retry":{"schedule":null},"events":["leave.*"],"auth":{"bearer":null,"basic":{"username":"posthorn"}}}`)
	if want := "edit " + e.ID.String() + " 4"; b.control.asked[0] != want {
		t.Errorf("asked for %q, want %q", b.control.asked[0], want)
	}
}

func TestEditTellsOfAnotherEditMeanwhile(t *testing.T) {
	b := newBrowser(t, "admin")
	b.control.err = ledger.ErrChanged
	p := b.post("/endpoints/"+b.control.endpoints[0].ID.String()+"/edit", url.Values{"name": {"mine"}, "revision": {"3"}}, http.StatusUnprocessableEntity)
	p.has("It was changed meanwhile", "Saving again overwrites that: what is here differs in ", "name")
	if revision := attr(p.named("input")[slices.IndexFunc(p.named("input"), func(n *html.Node) bool { return attr(n, "name") == "revision" })], "value"); revision != fmt.Sprint(b.control.endpoints[0].Revision) {
		t.Errorf("saved again, it is of revision %s", revision)
	}
	if got := attr(p.id("name"), "value"); got != "mine" {
		t.Errorf("what was written became %q", got)
	}
}

func TestPortalsEditLeavesWhatItDoesNotShow(t *testing.T) {
	b := newBrowser(t, "portal")
	e := &b.control.endpoints[0]
	e.Document = json.RawMessage(`{"name":"acme-erp","tenant":"acme","url":"https://erp.acme.example","profile":"byro","events":["pr.*"],"timeout":"3s","enabled":true,"retry":{"schedule":["1s"]}}`)
	b.moved("/endpoints/"+e.ID.String()+"/edit", url.Values{"name": {"acme-erp"}, "url": {"https://new.acme.example"}, "event": {"pr.*"}, "enabled": {"true"}, "timeout": {"99s"}, "tenant": {"globex"}, "more": {`{"auth":{}}`}}, "/endpoints/"+e.ID.String()+"?done=saved")
	same(t, b.control.patched, `{"url":"https://new.acme.example"}`)
}

func TestFormsTouchTheirOwnPartOfTLSOnly(t *testing.T) {
	const endpoint = `{"name":"acme-erp","url":"https://erp.acme.example","events":["pr.*"],"enabled":true,"tls":%s}`
	for name, test := range map[string]struct{ who, tls, verify, more, want string }{
		"verify by default again":              {"admin", `{"verify":false}`, "", "", `{"tls":{"verify":null}}`},
		"verify by default, beside a file":     {"admin", `{"verify":false,"ca_file":"/ca.pem"}`, "", `{"tls":{"ca_file":"/ca.pem"}}`, `{"tls":{"verify":null}}`},
		"a portal's verify by default":         {"portal", `{"verify":false,"ca_file":"/ca.pem"}`, "", "", `{"tls":{"verify":null}}`},
		"a portal's verify":                    {"portal", `{"verify":false,"ca_file":"/ca.pem"}`, "true", "", `{"tls":{"verify":true}}`},
		"a portal's first verify, and a file":  {"portal", `{"ca_file":"/ca.pem"}`, "false", "", `{"tls":{"verify":false}}`},
		"a portal's form as it was, of a file": {"portal", `{"ca_file":"/ca.pem"}`, "", "", `null`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, test.who)
			e := &b.control.endpoints[0]
			e.Document = json.RawMessage(fmt.Sprintf(endpoint, test.tls))
			form := url.Values{"name": {"acme-erp"}, "url": {"https://erp.acme.example"}, "event": {"pr.*"}, "enabled": {"true"}, "tls_verify": {test.verify}, "more": {test.more}}
			b.moved("/endpoints/"+e.ID.String()+"/edit", form, "/endpoints/"+e.ID.String()+"?done=saved")
			if test.want == `null` && b.control.patched == nil {
				return
			}
			same(t, b.control.patched, test.want)
		})
	}
}

func TestEndpointsOfTheConfigurationAreNotEditedHere(t *testing.T) {
	b := newBrowser(t, "admin")
	id := b.control.endpoints[4].ID.String()
	b.get("/endpoints/"+id+"/edit", http.StatusConflict).has("It stands in the configuration: change it there.")
	b.get("/endpoints/"+id, http.StatusOK).lacks("/edit", "/delete", "Rotate the secret")
}

func TestFurtherKeysAreAnObject(t *testing.T) {
	b := newBrowser(t, "admin")
	for _, more := range []string{"[1", "null", "7"} {
		p := b.post("/endpoints/new", url.Values{"name": {"a"}, "more": {more}}, http.StatusUnprocessableEntity)
		if words(p.id("problem-more")) == "" || b.control.created != nil {
			t.Errorf("%s was taken, which is no JSON object", more)
		}
	}
}
