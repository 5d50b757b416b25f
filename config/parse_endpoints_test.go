package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const forDocuments = `
database: {url: "postgres://localhost/app"}
egress: {require_https: true}
events:
  - {type: pr.made, example: {n: 1}}
profiles:
  acme:
    timeout: 3s
    headers: {X-Event: "{{ .Event.Type }}"}
    signatures: [{scheme: hmac, header: X-Signature}]
  keyed: {signatures: [{scheme: http-message, algorithm: ed25519}]}
  plain: {signatures: []}
tenants: {t1: {secret: a secret of the tenant}}
endpoints: [{name: one, url: "https://one.example", events: ["*"]}]
`

// textOf returns the problems of an error, one a line.
func textOf(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%T is no *Error: %v", err, err)
	}
	if e == nil {
		return ""
	}
	return e.Error()
}

func TestDocumentsAreReadAsIfTheyStoodInTheConfiguration(t *testing.T) {
	cfg := mustParse(t, "a.yaml", forDocuments)
	for _, tt := range []struct{ name, document, want string }{
		{"good", `{"name": "erp", "url": "https://erp.example", "events": ["pr.*"], "profile": "acme", "secret": "a secret of its own"}`, ""},
		{"references are text", `{"name": "erp", "url": "https://erp.example/${HOME}", "events": ["pr.*"]}`, ""},
		{"nothing", `{}`, "name: is required\nurl: is required\nevents: is required, or objects and triggers"},
		{"no object", `[]`, "must be a map, got a list"},
		{"no JSON", `{`, "is not valid JSON: it ends too early"},
		{"twice", `{"name": "a", "name": "b"}`, "name: is repeated: it stands in line 1 already"},
		{"an id", `{"id": "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e", "name": "a", "url": "https://a.example", "events": ["*"]}`, "id: must not be given: the relay chooses it"},
		{"keys", `{"name": "a", "url": "https://a.example", "events": ["*"], "timeoot": "1s", "timeout": "1h", "headers": {"X-A": "{{", "Host": "x"}}`,
			"timeout: must be 100ms to 5m, got 1h\ntimeoot: unknown key; did you mean \"timeout\"?\nheaders.Host: must not be set: the HTTP client sets it\nheaders.X-A: "},
		{"rules of the configuration", `{"name": "a", "url": "http://a.example", "events": ["*"], "profile": "other"}`,
			"url: must begin with https://, since egress.require_https is set\nprofile: no profile of that name: \"other\""},
		{"no secret", `{"name": "a", "url": "https://a.example", "events": ["*"], "profile": "acme"}`,
			"secret: is required to sign; give one here, to the tenant or to each signature, or set signatures to []"},
		{"tenant's secret", `{"name": "a", "url": "https://a.example", "events": ["*"], "profile": "acme", "tenant": "t1"}`, ""},
		{"tenant's secret of the wrong kind", `{"name": "a", "url": "https://a.example", "events": ["*"], "profile": "keyed", "tenant": "t1"}`,
			"tenant: does not fit: tenants.t1.secret for http-message (ed25519): must be an Ed25519 private key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			endpoints, errs := cfg.ParseEndpoints([][]byte{[]byte(tt.document)})
			got := textOf(t, errs[0])
			if !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("problems %q, want %q", got, tt.want)
			}
			_, err := cfg.CheckEndpoint([]byte(tt.document))
			if got := textOf(t, err); !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("checked: problems %q, want %q", got, tt.want)
			}
			if tt.want == "" && (endpoints[0].URL == "" || !endpoints[0].Enabled || endpoints[0].Concurrency != 16) {
				t.Errorf("the endpoint is %+v", endpoints[0])
			}
		})
	}
}

// What would fail every delivery keeps nobody's endpoint from working once it
// does: the catalogue may have changed since.
func TestOnlyNewDocumentsAreTriedWithSamples(t *testing.T) {
	cfg := mustParse(t, "a.yaml", forDocuments)
	document := `{"name": "a", "url": "https://a.example", "events": ["pr.*"], "body": "{{ .Payload }}x"}`
	_, errs := cfg.ParseEndpoints([][]byte{[]byte(document)})
	_, err := cfg.CheckEndpoint([]byte(document))
	if errs[0] != nil || !strings.HasPrefix(textOf(t, err), `body: fails for the example of "pr.made": the body is not JSON`) {
		t.Errorf("parsed: %v, checked: %v", errs[0], err)
	}
}

func TestSigningSchemesSayWhatWouldSign(t *testing.T) {
	cfg := mustParse(t, "a.yaml", forDocuments)
	for _, tt := range []struct {
		document, want string
		has            bool
	}{
		{`{}`, "standard-webhooks", false},
		{`{"secret": "x"}`, "standard-webhooks", true},
		{`{"tenant": "t1"}`, "standard-webhooks", true},
		{`{"profile": "acme"}`, "hmac (sha256)", false},
		{`{"profile": "keyed"}`, "http-message (ed25519)", false},
		{`{"profile": "plain"}`, "", false},
		{`{"signatures": []}`, "", false},
		{`{"signatures": [{"scheme": "github", "secret": "x"}]}`, "", false},
		{`{"signatures": [{"scheme": "github"}, 7]}`, "github", false},
		{`nonsense`, "", false},
	} {
		signatures, has := cfg.SigningSchemes([]byte(tt.document))
		var names []string
		for _, s := range signatures {
			names = append(names, s.name())
		}
		if got := strings.Join(names, ", "); got != tt.want || has != tt.has {
			t.Errorf("%s is signed by %q, %v", tt.document, got, has)
		}
	}
}

func TestSecretsArePartedFromDocumentsAndComeBack(t *testing.T) {
	for _, tt := range []struct{ document, masked, secrets string }{
		{`{"name":"a","timeout":"15s","enabled":true,"rate_limit":1.50}`, `{"name":"a","timeout":"15s","enabled":true,"rate_limit":1.50}`, ``},
		{`{"secret":"s","name":"a"}`, `{"secret":"***","name":"a"}`, `{"secret":"s"}`},
		{`{"secret":"hunter2","body":"a hunter2 b","headers":{"X-A":"hunter2"},"name":"n"}`, `{"secret":"***","body":"a *** b","headers":{"X-A":"***"},"name":"n"}`,
			`{"secret":"hunter2","body":"a hunter2 b","headers":{"X-A":"hunter2"}}`},
		{`{"url":"https://u:p@h/x?token=1&b=2"}`, `{"url":"https://***@h/x?token=***&b=2"}`, `{"url":"https://u:p@h/x?token=1&b=2"}`},
		{`{"headers":{"X-Api-Key":"k","X-B":"b"}}`, `{"headers":{"X-Api-Key":"***","X-B":"b"}}`, `{"headers":{"X-Api-Key":"k","X-B":"b"}}`},
		{`{"auth":{"oauth2":{"client_id":"i","client_secret":"c"}}}`, `{"auth":{"oauth2":{"client_id":"i","client_secret":"***"}}}`, `{"auth":{"oauth2":{"client_id":"i","client_secret":"c"}}}`},
		{`{"previous_secrets":[{"secret":"p","expires":"2026-12-01T00:00:00Z"}],"signatures":[{"scheme":"hmac","secret":"q"}]}`,
			`{"previous_secrets":[{"secret":"***","expires":"2026-12-01T00:00:00Z"}],"signatures":[{"scheme":"hmac","secret":"***"}]}`,
			`{"previous_secrets":[{"secret":"p","expires":"2026-12-01T00:00:00Z"}],"signatures":[{"scheme":"hmac","secret":"q"}]}`},
	} {
		masked, secrets, err := SplitEndpoint([]byte(tt.document))
		if err != nil || string(masked) != tt.masked || string(secrets) != tt.secrets {
			t.Errorf("%s is parted into %s and %s, %v", tt.document, masked, secrets, err)
		}
		if joined, err := JoinEndpoint(masked, secrets); err != nil || string(joined) != tt.document {
			t.Errorf("it comes back as %s, %v", joined, err)
		}
	}
}

func TestPatchesWriteNoMaskOverASecretAmongOtherText(t *testing.T) {
	const document = `{"name":"a","url":"https://h/x","secret":"hunter2","body":"a hunter2 b ***","headers":{"X-A":"hunter2"}}`
	for patch, want := range map[string]string{
		`{"body":"a *** b ***","headers":{"X-A":"***"}}`: ``, // as it is shown
		`{"body":"c hunter2 d"}`:                         ``,
		`{"body":"c *** d"}`:                             `body: has ***`,
		`{"headers":{"X-A":"*** new"}}`:                  ``, // all of it was the secret: it says something else now
	} {
		_, err := PatchEndpoint([]byte(document), []byte(patch))
		if want == "" && err != nil || want != "" && !strings.HasPrefix(textOf(t, err), want) {
			t.Errorf("%s: %v, want %q", patch, err, want)
		}
	}
}

func TestPatchesKeepSecretsThatTheyDoNotGive(t *testing.T) {
	const document = `{"name":"a","url":"https://u:p@h/x","secret":"s","headers":{"X-Api-Key":"k","X-B":"b"},` +
		`"previous_secrets":[{"secret":"p","expires":"2026-12-01T00:00:00Z"},{"secret":"q","expires":"2026-12-02T00:00:00Z"}]}`
	for _, tt := range []struct{ name, patch, want, problems string }{
		{"nothing", `{}`, document, ""},
		{"what is shown", `{"url":"https://***@h/x","secret":"***","headers":{"X-B":"c","X-Api-Key":"***"}}`, strings.Replace(document, `"b"`, `"c"`, 1), ""},
		{"nulls", `{"url":null,"headers":{"X-Api-Key":null},"previous_secrets":null}`, `{"name":"a","secret":"s","headers":{"X-B":"b"}}`, ""},
		{"new keys", `{"tls":{"verify":false,"ca_file":null},"secret":"t"}`,
			strings.Replace(strings.TrimSuffix(document, "}"), `"s"`, `"t"`, 1) + `,"tls":{"verify":false}}`, ""},
		{"one of a list", `{"previous_secrets":[{"secret":"***","expires":"2026-12-02T00:00:00Z"}]}`,
			strings.Replace(document, `{"secret":"p","expires":"2026-12-01T00:00:00Z"},`, "", 1), ""},
		{"a mask for nothing", `{"previous_secrets":[{"secret":"***","expires":"2027-01-01T00:00:00Z"}],"headers":{"X-Token":"***"},"url":"https://***@i/x","auth":{"bearer":{"token":"***"}}}`, "",
			"url: has ***\nheaders.X-Token: is ***\nprevious_secrets[0].secret: has ***\nauth.bearer.token: has ***"},
		{"no object", `7`, "", "must be a map, got a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := PatchEndpoint([]byte(document), []byte(tt.patch))
			if tt.problems == "" {
				if diff := cmp.Diff(tt.want, string(got)); diff != "" || err != nil {
					t.Errorf("%v, %s", err, diff)
				}
				return
			}
			problems, want := strings.Split(textOf(t, err), "\n"), strings.Split(tt.problems, "\n")
			if len(problems) != len(want) {
				t.Fatalf("problems %q", problems)
			}
			for i := range want {
				if !strings.HasPrefix(problems[i], want[i]) {
					t.Errorf("problem %q, want %q", problems[i], want[i])
				}
			}
		})
	}
}

func TestEncryptionKeysAreReadInEveryForm(t *testing.T) {
	key := EncryptionKey([]byte("\xff\xfe\xfd 0123456789abcdefghijklmnop \xfc\xfb"[:32]))
	hex, padded := fmt.Sprintf("%x", key[:]), "//79IDAxMjM0NTY3ODlhYmNkZWZnaGlqa2xtbm9wIPw="
	for _, text := range []string{hex, strings.ToUpper(hex), padded, strings.TrimRight(padded, "="), strings.ReplaceAll(padded, "/", "_")} {
		cfg := mustParse(t, "a.yaml", fmt.Sprintf("database: {url: 'postgres://localhost/app'}\nledger: {encryption_keys: ['%s']}\n", text))
		if keys := cfg.EncryptionKeys(); len(keys) != 1 || keys[0] != key {
			t.Errorf("%s is read as %x", text, keys)
		}
	}
	for text, want := range map[string]string{
		`['short']`:                         "ledger.encryption_keys[0]: must be 32 bytes",
		`['` + hex + `', '` + padded + `']`: "ledger.encryption_keys[1]: is the same key as ledger.encryption_keys[0]",
		`['']`:                              "ledger.encryption_keys[0]: is empty",
	} {
		_, err := parse("a.yaml", []byte("database: {url: 'postgres://localhost/app'}\nledger: {encryption_keys: "+text+"}\n"), nil, false)
		if !strings.Contains(fmt.Sprint(err), want) || strings.Contains(fmt.Sprint(err), "short") {
			t.Errorf("%s yields %v", text, err)
		}
	}
}

func BenchmarkParseEndpoints(b *testing.B) {
	cfg, err := parse("a.yaml", []byte(forDocuments), nil, false)
	if err != nil {
		b.Fatal(err)
	}
	documents := make([][]byte, 10_000)
	for i := range documents {
		documents[i] = fmt.Appendf(nil, `{"name": "e%d", "tenant": "t%d", "url": "https://r.example/%d", "events": ["order%d.*"], "profile": "acme", "secret": "secret %032d",
			"headers": {"X-Number": "%d"}, "filter": "payload.amount > %d"}`, i, i, i, i, i, i, i%100)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, errs := cfg.ParseEndpoints(documents); errs[0] != nil {
			b.Fatal(errs[0])
		}
	}
}
