package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the expected problems in testdata/bad")

// withDatabase is an environment that gives the one required key.
var withDatabase = []string{"POSTHORN_DATABASE__URL=postgres://relay@localhost/app"}

var fullEnviron = []string{"DB_PASSWORD=hunter2", "OWN_SECRET=own-secret"}

var ignoreOrigin = cmpopts.IgnoreUnexported(Config{})

func mustParse(t *testing.T, name, text string, environ ...string) *Config {
	t.Helper()
	cfg, err := parse(name, []byte(text), append(withDatabase[:1:1], environ...), true)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return cfg
}

// problemsOf returns what is wrong with text, one problem a line.
func problemsOf(t *testing.T, name, text string, environ ...string) string {
	t.Helper()
	_, err := parse(name, []byte(text), append(withDatabase[:1:1], environ...), true)
	if err == nil {
		return ""
	}
	var problem *Error
	if !errors.As(err, &problem) {
		t.Fatalf("got %T %v, want an *Error", err, err)
	}
	return err.Error()
}

func TestEveryKeyIsReadAlikeInAllFormats(t *testing.T) {
	want := Config{
		Database: Database{
			URL:            "postgres://relay:hunter2@db.acme.example:5432/app",
			ReplicationURL: "postgres://relay@primary.acme.example/app",
		},
		Source: Source{
			Table: "app.events", Columns: map[string]string{"id": "event_id", "key": "aggregate_id"},
			Publication: "app_events", Slot: "app_slot", Messages: "app",
			Retention: 48 * time.Hour, Buffer: 32 << 20, MaxHold: 5 * time.Second,
		},
		Ledger: Ledger{URL: "host=ledger.acme.example dbname=ledger user=relay", Retention: 240 * time.Hour, Bodies: "all", EncryptionKeys: []Secret{"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}},
		HTTP: HTTP{Listen: ":9090", Hosts: []string{"posthorn.acme.example", "::1"}, Tokens: []Token{
			{Name: "ops@acme", Role: "operator", Token: "hunter2-000102030405060708"},
			{Name: "page", Role: "viewer", Token: "own-secret-000102030405060708"},
			{Name: "root", Role: "admin", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
		}, FrameAncestors: []string{"https://app.acme.example"}, ProxyAuth: ProxyAuth{
			From: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, UserHeader: "X-Forwarded-User", RoleHeader: "X-Forwarded-Role", Role: "viewer",
		}},
		Log: Log{Level: "debug", Format: "json"},
		Traces: Traces{
			URL: "https://relay:hunter2@collector.acme.example:4318", Headers: map[string]Secret{"Authorization": "hunter2", "X-Scope": "own-secret"},
			Service: "webhooks", Sample: 0.25,
		},
		StopTimeout: 20 * time.Second,
	}
	for _, format := range []string{"yaml", "toml", "json"} {
		t.Run(format, func(t *testing.T) {
			cfg, err := LoadWithFiles("testdata/full."+format, fullEnviron)
			if err != nil {
				t.Fatalf("load: %v", err)
			}
			got := *cfg
			got.Egress, got.Profiles, got.Events, got.Tenants, got.Endpoints = Egress{}, nil, nil, nil, nil
			got.Plugins, got.Transforms = nil, nil
			if diff := cmp.Diff(want, got, ignoreOrigin, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			checkFullLists(t, cfg)
			checkFullTransforms(t, cfg)
		})
	}
}

// fullProfiles are those of the full sample.
func fullProfiles() map[string]Profile {
	acme := Profile{
		Method: "PUT", ContentType: "application/vnd.acme+json", Timeout: 10 * time.Second,
		Headers: map[string]string{"X-Acme-Event": "{{ .Event.Type }}", "X-Acme-Cost": "${free}"},
		Body:    `{"event": {{ json .Event.Type }}, "data": {{ .Payload }}}`,
		JSON:    "stringify",
		Signatures: []Signature{{
			Scheme: "hmac", Header: "X-Acme-Signature", Algorithm: "sha512", Encoding: "base64",
			Content: "{timestamp}.{body}", Value: "t={timestamp},v1={signature}",
		}},
		Retry: Retry{
			Schedule: []time.Duration{30 * time.Second, 2 * time.Minute}, Jitter: 0.5, MaxAge: 24 * time.Hour,
			StopOn: []StatusRange{{404, 404}, {300, 399}},
		},
		Pause:    Pause{OnExhausted: true, ConsecutiveFailures: 10, FailingFor: 48 * time.Hour},
		Ordering: "key", Concurrency: 4, RateLimit: 2.5,
		TLS: TLS{
			CAFile: "testdata/tls/ca.pem", CertFile: "testdata/tls/client.pem", KeyFile: "testdata/tls/client.key",
			ServerName: "erp.acme.example", MinVersion: "1.3",
		},
		Auth: Auth{OAuth2: OAuth2{
			TokenURL: "https://login.acme.example/token", ClientID: "relay", ClientSecret: "client-secret", Scopes: []string{"hooks", "more"},
		}},
	}
	basic := DefaultProfile()
	basic.Auth.Basic = BasicAuth{Username: "relay", Password: "basic-secret"}
	signed := DefaultProfile()
	signed.Signatures = []Signature{
		{Scheme: "standard-webhooks", Prefix: "svix", Secret: "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		{
			Scheme: "stripe", Secret: "stripe-secret",
			PreviousSecrets: []PreviousSecret{{Secret: "stripe-older", Expires: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC), KeyID: "acme-0"}},
		},
		{Scheme: "github"},
		{
			Scheme: "http-message", Algorithm: "hmac-sha256", KeyID: "acme-1", Label: "acme",
			Components: []string{"@method", "content-digest", "svix-id"},
		},
	}
	signed.Auth.Bearer.Token = "own-secret"
	return map[string]Profile{"acme": acme, "plain": DefaultProfile(), "basic": basic, "signed": signed}
}

func checkFullLists(t *testing.T, cfg *Config) {
	t.Helper()
	profiles := fullProfiles()
	if diff := cmp.Diff(profiles, cfg.Profiles); diff != "" {
		t.Errorf("profiles, want -, got +:\n%s", diff)
	}
	tenant := Tenant{
		Secret:          "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		PreviousSecrets: []PreviousSecret{{Secret: "0123", Expires: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), KeyID: "tenant-1"}},
	}
	erp := profiles["acme"]
	erp.Headers = map[string]string{"X-Acme-Event": "{{ .Event.Type }}", "X-Acme-Cost": "${free}", "X-Extra": "yes"}
	erp.Retry.Schedule = []time.Duration{}
	erp.RateLimit = 0
	objects := DefaultProfile()
	objects.Signatures = []Signature{{Scheme: "standard-webhooks"}}
	unsigned := DefaultProfile()
	unsigned.Signatures = []Signature{}
	signed := profiles["signed"]
	signed.Auth = Auth{Basic: BasicAuth{Username: "relay", Password: "own-secret"}}
	want := []Endpoint{
		{
			ID: "6f9619ff-8b86-4d11-b42d-00c04fc964ff", Name: "acme-erp", Tenant: "acme", URL: "https://erp.acme.example/hooks",
			Events: []string{"pr.*", "po.issued"}, Filter: "payload.amount > 1000", ProfileName: "acme", Enabled: true,
			Secret: tenant.Secret, PreviousSecrets: tenant.PreviousSecrets, Profile: erp,
		},
		{
			Name: "acme-objects", URL: "https://objects.acme.example/hooks",
			Objects: []string{"device", "site"}, Triggers: []string{"create", "delete"}, Secret: "own-secret",
			PreviousSecrets: []PreviousSecret{{Secret: "older", Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), KeyID: "own-1"}},
			Profile:         objects,
		},
		{
			Name: "unsigned", Tenant: "acme", URL: "https://unsigned.acme.example/", Events: []string{"*"}, ProfileName: "plain",
			Enabled: true, Secret: tenant.Secret, PreviousSecrets: tenant.PreviousSecrets, Profile: unsigned,
		},
		{
			Name: "signed", URL: "https://signed.acme.example/", Events: []string{"*"}, ProfileName: "signed",
			Enabled: true, Secret: "own-secret", Profile: signed,
		},
	}
	if diff := cmp.Diff(want, cfg.Endpoints); diff != "" {
		t.Errorf("endpoints, want -, got +:\n%s", diff)
	}
	if got := cfg.Events[0].Example; got != `{"prId":"clx123","amount":4500,"tags":["a","b"],"rate":1.50}` {
		t.Errorf("example: got %s, want its keys in order and its numbers as written", got)
	}
	egress := cfg.Egress
	if got := egress.Allow[1].String(); got != "fd00::/8" {
		t.Errorf("egress.allow[1]: got %s", got)
	}
	if got := egress.Proxy.Reveal(); got != "http://relay:hunter2@proxy.acme.example:3128" {
		t.Errorf("egress.proxy: got %s", got)
	}
}

func TestAnEmptyFileIsTheDefaults(t *testing.T) {
	for _, name := range []string{"a.yaml", "a.toml"} {
		want := Default()
		want.Database.URL = "postgres://relay@localhost/app"
		want.Database.ReplicationURL = want.Database.URL
		want.Ledger.URL = want.Database.URL
		if diff := cmp.Diff(want, mustParse(t, name, "# nothing\n"), ignoreOrigin); diff != "" {
			t.Errorf("%s, want -, got +:\n%s", name, diff)
		}
	}
}

// TestBadFiles holds one tiny file for each thing that can be wrong; the
// problems stand beside it in a .txt.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.*")
	if err != nil {
		t.Fatal(err)
	}
	environ := slices.Concat(withDatabase, []string{"EMPTY=", "HIDDEN=hunter2", "SAME=sig1", "CA=../tls/other.key"})
	for _, file := range files {
		name := filepath.Base(file)
		if filepath.Ext(name) == ".txt" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Chdir("testdata/bad")
			_, err := LoadWithFiles(name, environ)
			if err == nil {
				t.Fatal("got no error")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("shows a secret: %s", got)
			}
			expected := strings.TrimSuffix(name, filepath.Ext(name)) + ".txt"
			if *update {
				if err := os.WriteFile(expected, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(expected)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestLoadLooksInTheWorkingFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Load("", withDatabase); err != nil {
		t.Errorf("environment only: %v", err)
	}
	if _, err := Load("", nil); err == nil || !strings.HasPrefix(err.Error(), "database.url: is required") {
		t.Errorf("nothing at all: got %v", err)
	}
	for _, name := range []string{"posthorn.json", "posthorn.toml", "posthorn.yaml"} { // each before the last
		text := map[string]string{".json": `{"http":{"listen":"json:1"}}`, ".toml": `http.listen = "toml:1"`, ".yaml": `http: {listen: "yaml:1"}`}[filepath.Ext(name)]
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load("", withDatabase)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := filepath.Ext(name)[1:] + ":1"; cfg.HTTP.Listen != want {
			t.Errorf("%s: got %s, want %s", name, cfg.HTTP.Listen, want)
		}
	}
}

func TestLoadRefusesFilesThatItCannotRead(t *testing.T) {
	folder := t.TempDir()
	if _, err := Load(filepath.Join(folder, "none.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
	if _, err := Load(folder, nil); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("folder: got %v", err)
	}
	large := filepath.Join(folder, "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large, nil); err == nil || !strings.Contains(err.Error(), "is larger than 16MiB") {
		t.Errorf("large file: got %v", err)
	}
}

func TestTenThousandEndpointsLoad(t *testing.T) {
	text := manyEndpoints(10_000, true)
	if len(text) <= 1<<20 {
		t.Fatalf("the file has %d bytes only", len(text))
	}
	cfg := mustParse(t, "a.yaml", text, "RECEIVER=https://receiver.example")
	got := cfg.Endpoints[9_990]
	if got.Name != "e9990" || got.URL.Reveal() != "https://receiver.example/e/9990" || got.Secret.Reveal() != fmt.Sprintf("secret %032d", 9990) {
		t.Errorf("got %s at %s", got.Name, got.URL)
	}
	headers := map[string]string{"X-Product": "acme", "X-Event": "{{ .Event.Type }}", "X-Number": "9990", "X-Tenant": "{{ .Endpoint.Tenant }}"}
	if diff := cmp.Diff(headers, got.Headers); diff != "" {
		t.Errorf("headers, want -, got +:\n%s", diff)
	}
}

func TestManyFieldsKeepTheirOrderAndAreNotRepeated(t *testing.T) {
	var tenants strings.Builder
	for i := range 3 * manyFields {
		fmt.Fprintf(&tenants, "  t%d: {secret: 'secret of tenant %d'}\n", i, i)
	}
	text := "tenants:\n" + tenants.String()
	cfg := mustParse(t, "a.yaml", text)
	for i := range 3 * manyFields {
		if got, want := cfg.Tenants[fmt.Sprint("t", i)].Secret.Reveal(), fmt.Sprint("secret of tenant ", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	got := problemsOf(t, "a.yaml", text+"  t3: {}\n  t40: {}\n  t48: {secret: ''}\n")
	want := "a.yaml:50: tenants.t3: is repeated: it stands in line 5 already\n" +
		"a.yaml:51: tenants.t40: is repeated: it stands in line 42 already\n" +
		"a.yaml:52: tenants.t48.secret: is empty; leave the key out for none"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDocumentsAreBounded(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		laughs += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 10) + "]\n"
	}
	long := "a: &a " + strings.Repeat("x", 100_000) + "\nb: [" + strings.Repeat("*a,", 200) + "]\n"
	tests := map[string]struct{ name, text, want string }{
		"aliases of aliases":  {"a.yaml", laughs, "holds too much"},
		"aliases of a text":   {"a.yaml", long, "holds too much"},
		"alias inside itself": {"a.yaml", "a: &a [*a]\n", "is nested more than 64 levels deep"},
		"YAML flow":           {"a.yaml", "a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "is nested more than 64 levels deep"},
		"JSON":                {"a.json", `{"a":` + strings.Repeat("[", 1<<19), "is nested more than 64 levels deep"},
		"TOML arrays":         {"a.toml", "a = " + strings.Repeat("[", 1<<20), "is nested more than 64 levels deep"},
		"TOML inline tables":  {"a.toml", "a = '#'\nb = " + strings.Repeat("{a=", 1<<18), "a.toml:2: is nested more than 64 levels deep"},
		"TOML behind text":    {"a.toml", "a = '''\n'#\"'''\nb = \"\\\"\" #\n c = " + strings.Repeat("[ #]\n", 1<<17), "is nested more than 64 levels deep"},
		"many values":         {"a.json", "[" + strings.Repeat("1,", maxNodes) + "1]", "holds too much"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := problemsOf(t, tt.name, tt.text); !strings.Contains(got, tt.want) {
				t.Errorf("got %.200q, want %q", got, tt.want)
			}
		})
	}
}

func TestAliasesAndMergeKeysAreFollowed(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles:
  a: &a {timeout: 3s, method: PUT}
  b: {<<: *a, method: PATCH}
  c: *a
  d: {<<: [{json: compact}, *a]}
`)
	if got := cfg.Profiles["b"]; got.Timeout != 3*time.Second || got.Method != http.MethodPatch {
		t.Errorf("merge key: got %s %s", got.Timeout, got.Method)
	}
	if got := cfg.Profiles["c"]; got.Timeout != 3*time.Second || got.Method != http.MethodPut {
		t.Errorf("alias: got %s %s", got.Timeout, got.Method)
	}
	if got := cfg.Profiles["d"]; got.Timeout != 3*time.Second || got.JSON != "compact" {
		t.Errorf("merged list: got %s %s", got.Timeout, got.JSON)
	}
}

func TestLinesAreThoseOfTheKeyInAllFormats(t *testing.T) {
	tests := map[string]string{
		"a.yaml": "endpoints:\n  - name: a\n    url: https://a.example\n    events: [a]\n    timeout:\n      0s\n",
		"a.toml": "[[endpoints]]\nname = 'a'\nurl = 'https://a.example'\nevents = [\n'a']\ntimeout = '0s'\n",
		"a.json": "{\"endpoints\": [{\n\"name\": \"a\", \"url\": \"https://a.example\",\n\n \"events\": [\"a\"],\n\"timeout\":\n\"0s\"}]}",
	}
	lines := map[string]string{"a.yaml": "5", "a.toml": "6", "a.json": "5"}
	for name, text := range tests {
		want := name + ":" + lines[name] + ": endpoints[0].timeout: must be 100ms to 5m, got 0s"
		if got := problemsOf(t, name, text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestProblemsAreCapped(t *testing.T) {
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintf(&text, "x%d: 1\n", i)
	}
	lines := strings.Split(problemsOf(t, "a.yaml", text.String()), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "a.yaml: 400 more problems are not shown" {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// TestTheExampleOfTheDesignLoads also shows that its explicit values are the defaults.
func TestTheExampleOfTheDesignLoads(t *testing.T) {
	design, err := filepath.Abs("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/app")
	cfg, err := LoadWithFiles(design, []string{"DATABASE_URL=postgres://h/db", "ACME_KEY=tenant", "ACME_SECRET=own", "POSTHORN_TOKEN=000102030405060708090a0b"})
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	want := Default()
	want.Database = Database{URL: "postgres://h/db", ReplicationURL: "postgres://h/db"}
	want.Ledger.URL = "postgres://h/db"
	want.HTTP.Tokens = []Token{{Name: "ops", Role: "admin", Token: "000102030405060708090a0b"}}
	got := *cfg
	got.Profiles, got.Events, got.Tenants, got.Plugins, got.Transforms, got.Endpoints = nil, nil, nil, nil, nil, nil
	if diff := cmp.Diff(want, &got, ignoreOrigin, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	profile := DefaultProfile()
	profile.Headers, profile.Body, profile.JSON = cfg.Profiles["acme"].Headers, cfg.Profiles["acme"].Body, "compact"
	profile.Signatures = []Signature{{
		Scheme: "hmac", Header: "X-Acme-Signature", Algorithm: "sha256", Encoding: "hex", Content: "{body}", Value: "{signature}",
	}}
	if diff := cmp.Diff(profile, cfg.Endpoints[0].Profile); diff != "" {
		t.Errorf("profile, want -, got +:\n%s", diff)
	}
	plugin := defaultPlugin()
	plugin.Path = "./redact"
	if diff := cmp.Diff(map[string]Plugin{"redact": plugin}, cfg.Plugins, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("plugins, want -, got +:\n%s", diff)
	}
	if got := cfg.Endpoints[0].Secret.Reveal(); got != "own" {
		t.Errorf("secret: got %s", got)
	}
}

func TestHMACSignaturesAreFilledIn(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
endpoints: [{name: a, url: "https://a.example", events: [a], secret: s, signatures: [{scheme: hmac, header: X-A}]}]
`)
	want := []Signature{{Scheme: "hmac", Header: "X-A", Algorithm: "sha256", Encoding: "hex", Content: "{body}", Value: "{signature}"}}
	if diff := cmp.Diff(want, cfg.Endpoints[0].Signatures); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestEndpointsShareNothingOfTheirProfile(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles: {p: {headers: {X-A: a}, retry: {schedule: [1s, 2s]}}}
endpoints:
  - {name: a, url: "https://a.example", events: [a], profile: p, headers: {X-B: b}}
  - {name: b, url: "https://a.example", events: [a], profile: p, retry: {schedule: [3s]}}
`)
	a, b := cfg.Endpoints[0], cfg.Endpoints[1]
	if diff := cmp.Diff(map[string]string{"X-A": "a", "X-B": "b"}, a.Headers); diff != "" {
		t.Errorf("a's headers: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"X-A": "a"}, b.Headers); diff != "" {
		t.Errorf("b's headers: %s", diff)
	}
	a.Retry.Schedule[0] = time.Hour
	if got := cfg.Profiles["p"].Retry.Schedule[0]; got != time.Second {
		t.Errorf("the profile's schedule changed with an endpoint's: %s", got)
	}
	if len(b.Retry.Schedule) != 1 {
		t.Errorf("b's schedule: got %v", b.Retry.Schedule)
	}
}

func TestExamplesOfTheDocumentationLoad(t *testing.T) {
	docs, err := filepath.Abs("../docs")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/app") // where the files are that the pages name
	environ := []string{"POSTHORN_KEY=" + strings.Repeat("0f", 32), "STATUS_TOKEN=" + strings.Repeat("0e", 32)}
	for name, least := range map[string]int{"configuration.md": 8, "plugins.md": 1, "access.md": 3} {
		page, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(page), "```yaml\n")[1:]
		if len(blocks) < least {
			t.Errorf("%s has %d examples", name, len(blocks))
		}
		for _, block := range blocks {
			text, _, _ := strings.Cut(block, "```")
			if problems := problemsOf(t, "configuration.yaml", text, environ...); problems != "" {
				t.Errorf("%s: %s\nin:\n%s", name, problems, text)
			}
		}
	}
}
