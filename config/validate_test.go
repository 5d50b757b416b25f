package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarningsNameFileLineAndKey(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles:
  a: {tls: {verify: false}}
  b: {tls: {verify: true}}
endpoints:
  - {name: a, url: "https://a.example", events: [a], profile: a}
  - {name: b, url: "https://a.example", events: [a], profile: a, tls: {verify: true}}
  - {name: c, url: "https://a.example", events: [a], tls: {verify: false}}
`)
	var got []string
	for _, w := range cfg.Warnings() {
		text, _, _ := strings.Cut(w.String(), ": servers are not authenticated")
		got = append(got, text)
	}
	want := []string{"a.yaml:3: profiles.a.tls.verify", "a.yaml:8: endpoints[2].tls.verify"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got := mustParse(t, "a.yaml", "").Warnings(); got != nil {
		t.Errorf("of nothing: got %v", got)
	}
}

// warnings returns the warnings of text, one a line.
func warnings(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for _, w := range mustParse(t, "a.yaml", text).Warnings() {
		fmt.Fprintln(&b, w)
	}
	return b.String()
}

func TestCredentialsSentInClearAreWarnedOf(t *testing.T) {
	const clear = ": is not https: whoever is on the way reads the credentials\n"
	tests := map[string]struct{ text, want string }{
		"basic":               {`{name: a, url: "http://a.example", events: [a], auth: {basic: {username: u, password: p}}}`, "a.yaml:6: endpoints[0].url" + clear},
		"bearer":              {`{name: a, url: "http://10.0.0.1:8000/a", events: [a], auth: {bearer: {token: t}}}`, "a.yaml:6: endpoints[0].url" + clear},
		"inherited":           {`{name: a, url: "http://localhost.example", events: [a], profile: bearer}`, "a.yaml:6: endpoints[0].url" + clear},
		"a user in the URL":   {`{name: a, url: "http://u:p@a.example", events: [a]}`, "a.yaml:6: endpoints[0].url" + clear},
		"oauth2's token":      {`{name: a, url: "http://a.example", events: [a], auth: {oauth2: {token_url: "https://a.example", client_id: i, client_secret: s}}}`, "a.yaml:6: endpoints[0].url" + clear},
		"oauth2's own secret": {`{name: a, url: "https://a.example", events: [a], auth: {oauth2: {token_url: "http://a.example", client_id: i, client_secret: s}}}`, "a.yaml:6: endpoints[0].auth.oauth2.token_url" + clear},
		"https":               {`{name: a, url: "https://a.example", events: [a], profile: bearer}`, ""},
		"nothing to read":     {`{name: a, url: "http://a.example", events: [a]}`, ""},
		"this machine":        {`{name: a, url: "http://LocalHost:8000", events: [a], profile: bearer}`, ""},
		"this machine's IPv4": {`{name: a, url: "http://127.8.0.1", events: [a], profile: bearer}`, ""},
		"this machine's IPv6": {`{name: a, url: "http://[::1]:80", events: [a], auth: {oauth2: {token_url: "http://a.localhost", client_id: i, client_secret: s}}}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := warnings(t, "\n\nprofiles:\n  bearer: {auth: {bearer: {token: t}}}\nendpoints:\n  - "+tt.text+"\n")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := warnings(t, `profiles: {p: {auth: {oauth2: {token_url: "http://a.example"}}}}`); got != "a.yaml:1: profiles.p.auth.oauth2.token_url"+clear {
		t.Errorf("a profile's: got %q", got)
	}
}

func TestTracesSentInClearAreWarnedOf(t *testing.T) {
	const clear = "a.yaml:1: traces.url: is not https: whoever is on the way reads the credentials\n"
	for text, want := range map[string]string{
		`traces: {url: "http://collector:4318", headers: {X-Key: s}}`:  clear,
		`traces: {url: "http://u:p@collector:4318"}`:                   clear,
		`traces: {url: "http://collector:4318"}`:                       "",
		`traces: {url: "https://collector:4318", headers: {X-Key: s}}`: "",
		`traces: {url: "http://127.0.0.1:4318", headers: {X-Key: s}}`:  "",
	} {
		if got := warnings(t, text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestSecretsThatAreNeverUsedAreWarnedOf(t *testing.T) {
	got := warnings(t, `
profiles: {p: {signatures: []}}
tenants: {t: {secret: sixteen bytes are enough}}
endpoints:
  - {name: a, url: "https://a.example", events: [a], secret: short, signatures: []}
  - {name: b, url: "https://a.example", events: [a], secret: short, profile: p}
  - {name: c, url: "https://a.example", events: [a], tenant: t, profile: p}
`)
	want := "a.yaml:5: endpoints[0].secret: is never used: signatures is []\na.yaml:6: endpoints[1].secret: is never used: signatures is []\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShortSecretsAreWarnedOf(t *testing.T) {
	tests := map[string]struct {
		signature, secret string
		short             bool
	}{
		"hmac":                    {"scheme: hmac, header: X-A", "0123456789abcde", true},
		"hmac, 16 bytes":          {"scheme: hmac, header: X-A", "0123456789abcdef", false},
		"hmac decodes nothing":    {"scheme: hmac, header: X-A", "whsec_AAAAAAAAAA", false},
		"stripe":                  {"scheme: stripe", "whsec_hunter2", true},
		"github":                  {"scheme: github", "hunter2", true},
		"standard-webhooks":       {"scheme: standard-webhooks", "hunter2", true},
		"standard-webhooks, v1a":  {"scheme: standard-webhooks", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", false},
		"http-message":            {"scheme: http-message, algorithm: hmac-sha256", "hunter2", true},
		"http-message, base64":    {"scheme: http-message, algorithm: hmac-sha256", "whsec_AAAAAAAAAAAAAAAAAAAA", true},
		"http-message, 16 bytes":  {"scheme: http-message, algorithm: hmac-sha256", "whsec_AAAAAAAAAAAAAAAAAAAAAA==", false},
		"http-message by ed25519": {"scheme: http-message, algorithm: ed25519", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := warnings(t, fmt.Sprintf("profiles: {p: {signatures: [{%s, secret: %q}]}}", tt.signature, tt.secret))
			if short := strings.HasPrefix(got, "a.yaml:1: profiles.p.signatures[0].secret: is short: "); short != tt.short || !short && got != "" {
				t.Errorf("got %q", got)
			}
			if strings.Contains(got, tt.secret) {
				t.Errorf("quotes the secret: %s", got)
			}
		})
	}
	got := warnings(t, `
tenants: {t: {secret: hunter2, previous_secrets: [{secret: hunter1, expires: 2027-01-01T00:00:00Z}]}}
endpoints:
  - {name: a, url: "https://a.example", events: [a], tenant: t}
  - {name: b, url: "https://a.example", events: [a], secret: hunter2, signatures: [{scheme: github}, {scheme: stripe}]}
`)
	for _, key := range []string{":2: tenants.t.secret", ":2: tenants.t.previous_secrets[0].secret", ":5: endpoints[1].secret"} {
		if strings.Count(got, key+": is short: ") != 1 {
			t.Errorf("%s: got %q", key, got)
		}
	}
}

func TestHTTPMessageSignaturesOfDifferentLabelsGoTogether(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
endpoints:
  - name: a
    url: https://a.example
    events: [a]
    secret: sixteen bytes are enough
    previous_secrets: [{secret: sixteen bytes are more, expires: 2027-01-01T00:00:00Z, key_id: old}]
    signatures:
      - {scheme: http-message, algorithm: hmac-sha256, key_id: new}
      - {scheme: http-message, algorithm: ed25519, label: curve, secret: whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=}
      - {scheme: github}
`)
	ep := cfg.Endpoints[0]
	if len(ep.Signatures) != 3 || ep.Signatures[1].Label != "curve" || ep.PreviousSecrets[0].KeyID != "old" {
		t.Errorf("got %+v and %+v", ep.Signatures, ep.PreviousSecrets)
	}
}

func TestAuthOfEndpointsLiesOverThatOfTheirProfile(t *testing.T) {
	const endpoint = `
profiles:
  basic: {auth: {basic: {username: u, password: p}}}
  oauth2: {auth: {oauth2: {token_url: "https://a.example", client_id: i, client_secret: s, scopes: [a, b]}}}
endpoints: [{name: a, url: "https://a.example", events: [a], %s}]
`
	tests := map[string]struct {
		keys string
		want Auth
	}{
		"none":                {"enabled: true", Auth{}},
		"inherited":           {"profile: basic", Auth{Basic: BasicAuth{"u", "p"}}},
		"nothing of its own":  {"profile: basic, auth: {}", Auth{Basic: BasicAuth{"u", "p"}}},
		"same kind":           {"profile: basic, auth: {basic: {password: q}}", Auth{Basic: BasicAuth{"u", "q"}}},
		"lists replace":       {"profile: oauth2, auth: {oauth2: {scopes: [c]}}", Auth{OAuth2: OAuth2{"https://a.example", "i", "s", []string{"c"}}}},
		"other kind":          {"profile: oauth2, auth: {bearer: {token: t}}", Auth{Bearer: BearerAuth{"t"}}},
		"other kind of basic": {"profile: basic, auth: {bearer: {token: t}}", Auth{Bearer: BearerAuth{"t"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := mustParse(t, "a.yaml", fmt.Sprintf(endpoint, tt.keys))
			if diff := cmp.Diff(tt.want, cfg.Endpoints[0].Auth); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if text := string(cfg.Masked()); strings.Contains(text, "basic: {}") || strings.Contains(text, "bearer: {}") {
				t.Errorf("shows a kind that is not given:\n%s", text)
			}
		})
	}
}

func TestKeysInTheEnvironmentCompleteAuth(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles: {p: {auth: {basic: {username: u}}}}
endpoints: [{name: a, url: "https://a.example", events: [a], profile: p}]
`, "POSTHORN_PROFILES__P__AUTH__BASIC__PASSWORD=hunter2", "POSTHORN_PROFILES__P__RETRY__STOP_ON=[404,\"5xx\"]")
	if got := cfg.Endpoints[0].Auth.Basic; got != (BasicAuth{"u", "hunter2"}) {
		t.Errorf("got %s %s", got.Username, got.Password.Reveal())
	}
	if diff := cmp.Diff([]StatusRange{{404, 404}, {500, 599}}, cfg.Endpoints[0].Retry.StopOn); diff != "" {
		t.Errorf("stop_on, want -, got +:\n%s", diff)
	}
}

func TestTLSOfEndpointsLiesOverThatOfTheirProfile(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles: {p: {tls: {verify: false, ca_file: testdata/tls/ca.pem}, pause: {failing_for: 0}}}
endpoints: [{name: a, url: "https://a.example", events: [a], profile: p, tls: {server_name: b.example}, pause: {on_exhausted: true}}]
`)
	want := TLS{CAFile: "testdata/tls/ca.pem", ServerName: "b.example", MinVersion: "1.2"}
	if diff := cmp.Diff(want, cfg.Endpoints[0].TLS); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got := cfg.Endpoints[0].Pause; got != (Pause{OnExhausted: true}) {
		t.Errorf("pause: got %+v", got)
	}
	if !strings.Contains(string(cfg.Masked()), "failing_for: 0s") {
		t.Error("a failing_for of 0 is not shown")
	}
}

func TestSignaturesWithTheirOwnSecretNeedNoOther(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
tenants: {t: {secret: "whsec_"}}
endpoints:
  - {name: a, url: "https://a.example", events: [a], signatures: [{scheme: stripe, secret: s}, {scheme: github, secret: g}]}
  - name: b
    url: https://a.example
    events: [a]
    tenant: t
    signatures: [{scheme: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}]
`)
	if got := cfg.Endpoints[0]; got.Secret != "" || got.Signatures[1].Secret != "g" {
		t.Errorf("got the secret %q and %q", got.Secret.Reveal(), got.Signatures[1].Secret.Reveal())
	}
}

func TestTemplatesThatNoExampleRefutesAreAccepted(t *testing.T) {
	tests := map[string]string{
		"no examples":                 `{events: [none], headers: {X-A: '{{ ulid (get .Payload "id") }}'}}`,
		"another type's example":      `{events: [b], headers: {X-A: '{{ ulid (get .Payload "id") }}'}}`,
		"what the filter leaves out":  `{events: [a], filter: 'type == "b"', headers: {X-A: '{{ ulid (get .Payload "id") }}'}}`,
		"an event's header":           `{events: [a], headers: {X-A: '{{ .Event.Headers.locale }}'}}`,
		"a header in a variable":      `{events: [a], body: '{{ $h := .Event.Headers }}{"n": {{ $h.count }}}'}`,
		"a header that is a UUID":     `{events: [a], headers: {X-A: '{{ ulid .Event.Headers.request }}'}}`,
		"a header that may be absent": `{events: [a], body: '{"n": {{ json (index .Event.Headers "n") }}}'}`,
		"a key and a tenant":          `{events: [a], headers: {X-A: '{{ ulid .Event.Key }}{{ ulid .Event.Tenant }}'}}`,
		"a form":                      `{events: [a], content_type: application/x-www-form-urlencoded, body: 'payload={{ urlquery .Payload }}'}`,
		"a tab":                       `{events: [a], headers: {X-A: '{{ "a\tb" }}'}}`,
		"an id of the endpoint's":     `{events: [a], headers: {X-A: '{{ ulid .Endpoint.ID }}'}}`,
	}
	for name, keys := range tests {
		t.Run(name, func(t *testing.T) {
			text := "events: [{type: a, example: {id: clx123}}]\nendpoints:\n  - " +
				strings.Replace(keys, "{", `{name: a, url: "https://a.example", `, 1) + "\n"
			if got := problemsOf(t, "a.yaml", text); got != "" {
				t.Error(got)
			}
		})
	}
}

func TestATemplateOfAProfileIsRenderedAsEachEndpointSendsIt(t *testing.T) {
	got := problemsOf(t, "a.yaml", `
profiles: {p: {body: 'id={{ get .Payload "id" | print }}'}}
events: [{type: a, example: {id: 1}}]
endpoints:
  - {name: form, url: "https://a.example", events: [a], profile: p, content_type: application/x-www-form-urlencoded}
  - {name: json, url: "https://a.example", events: [a], profile: p}
`)
	if want := `a.yaml:2: profiles.p.body: fails for the example of "a": the body is not JSON`; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("events:\n")
	for i := range 500 {
		fmt.Fprintf(&text, "  - {type: a%d, example: {}}\n", i)
	}
	text.WriteString("profiles: {p: {body: '{{ .Payload }}'}}\nendpoints:\n")
	for i := range 200 {
		fmt.Fprintf(&text, "  - {name: a%d, url: \"https://a.example\", events: ['*'], headers: {X-A: '%d'}, profile: p}\n", i, i)
	}
	root := (&builder{file: "a.yaml"}).parseYAML([]byte(text.String()))
	v := newValidator(mustParse(t, "a.yaml", text.String()), &problems{}, false)
	v.validate(top(root))
	if v.samples.left > 0 {
		t.Errorf("%d of a hundred thousand pairs of endpoint and example are left over", v.samples.left/pairCost)
	}
}

func TestEndpointsWantWhatTheyWouldGet(t *testing.T) {
	events := func(patterns ...string) Endpoint { return Endpoint{Events: patterns} }
	tests := []struct {
		endpoint  Endpoint
		eventType string
		want      bool
	}{
		{events("pr.submitted"), "pr.submitted", true},
		{events("pr.submitted"), "pr.submitted.again", false},
		{events("po.issued", "pr.*"), "pr.submitted", true},
		{events("pr.*"), "pr.a.b", true},
		{events("pr.*"), "pr", false},
		{events("pr.*"), "pr.", false},
		{events("pr.*"), "prs.a", false},
		{events("*"), "pr", true},
		{events("*"), "posthorn.test", false},
		{events("posthorn.*"), "posthorn.test", true},
		{Endpoint{Objects: []string{"device"}, Triggers: []string{"create"}}, "device.create", true},
		{Endpoint{Objects: []string{"device"}, Triggers: []string{"create"}}, "device.delete", false},
		{Endpoint{Objects: []string{"device"}, Triggers: []string{"create"}}, "site.create", false},
		{Endpoint{Objects: []string{"*"}, Triggers: []string{"create"}}, "a.b.create", true},
		{Endpoint{Objects: []string{"*"}, Triggers: []string{"create"}}, "create", false},
		{Endpoint{Objects: []string{"*"}, Triggers: []string{"create"}}, "posthorn.create", false},
	}
	for _, tt := range tests {
		if got := tt.endpoint.wants(tt.eventType); got != tt.want {
			t.Errorf("%v %v × %v, %s: got %t", tt.endpoint.Events, tt.endpoint.Objects, tt.endpoint.Triggers, tt.eventType, got)
		}
	}
}
