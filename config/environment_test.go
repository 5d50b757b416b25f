package config

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEnvironmentLiesOverTheFile(t *testing.T) {
	file := `
database: {url: "postgres://file/app"}
source: {columns: {id: a, key: b}}
log: {level: debug, format: json}
profiles: {acme: {timeout: 3s, method: PUT}}
endpoints: [{name: file, url: "https://a.example", events: [a]}]
`
	cfg, err := parse("a.yaml", []byte(file), []string{
		"POSTHORN_DATABASE__URL=postgres://u:p${w@env/app",
		`POSTHORN_SOURCE__COLUMNS={"id": "c", "type": "d"}`,
		"POSTHORN_SOURCE__BUFFER=2MiB",
		"POSTHORN_STOP_TIMEOUT=3s",
		`POSTHORN_LOG={"level": "warn"}`,
		"POSTHORN_LOG__LEVEL=error",
		"POSTHORN_EGRESS__REQUIRE_HTTPS=true",
		`POSTHORN_EGRESS__ALLOW=["10.0.0.0/8"]`,
		"POSTHORN_PROFILES__ACME__TIMEOUT=4s",
		"POSTHORN_PROFILES__ACME__RETRY__JITTER=0.1",
		"POSTHORN_PROFILES__ACME__CONCURRENCY=7",
		"POSTHORN_PROFILES__NEW__METHOD=PATCH",
		`POSTHORN_ENDPOINTS=[{"name": "env", "url": "https://b.example", "events": ["b"], "profile": "acme"}]`,
		"POSTHORN_POSTGRES_BIN=/usr/lib/postgresql", "POSTHORN_TOKEN=t", "POSTHORN_TEST_X__Y=z", "POSTHORN_DATABASE_URL=x", "malformed",
	}, false)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	check := func(key string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s is not as the environment has it: %+v", key, cfg)
		}
	}
	check("database.url", cfg.Database.URL == "postgres://u:p${w@env/app")
	check("source.columns", cfg.Source.Columns["id"] == "c" && cfg.Source.Columns["type"] == "d" && cfg.Source.Columns["key"] == "b")
	check("source.buffer", cfg.Source.Buffer == 2<<20)
	check("stop_timeout", cfg.StopTimeout == 3*time.Second)
	check("log", cfg.Log.Level == "error" && cfg.Log.Format == "json")
	check("egress", cfg.Egress.RequireHTTPS && len(cfg.Egress.Allow) == 1)
	check("profiles.new", cfg.Profiles["new"].Method == http.MethodPatch)
	check("endpoints", len(cfg.Endpoints) == 1 && cfg.Endpoints[0].Name == "env")
	endpoint := cfg.Endpoints[0]
	check("endpoints[0]", endpoint.Timeout == 4*time.Second && endpoint.Method == http.MethodPut && endpoint.Concurrency == 7 && endpoint.Retry.Jitter == 0.1)
}

func TestAProblemInTheEnvironmentNamesTheVariable(t *testing.T) {
	tests := map[string]string{
		"POSTHORN_DATABASE__ULR=postgres://a":     `POSTHORN_DATABASE__ULR: database.ulr: unknown key; did you mean "url"?`,
		"POSTHORN_DATABASE__URL__X=1":             "POSTHORN_DATABASE__URL__X: database.url: must be text, got a map",
		"POSTHORN_STOP_TIMEOUT=soon":              `POSTHORN_STOP_TIMEOUT: stop_timeout: must be a duration such as 30s or 168h, got "soon"`,
		"POSTHORN_STOP_TIMEOUT=1h":                "POSTHORN_STOP_TIMEOUT: stop_timeout: must be 1s to 5m, got 1h",
		"POSTHORN_EGRESS__REQUIRE_HTTPS=1":        `POSTHORN_EGRESS__REQUIRE_HTTPS: egress.require_https: must be true or false, got "1"`,
		"POSTHORN_EGRESS__ALLOW=10.0.0.0/8":       "POSTHORN_EGRESS__ALLOW: egress.allow: is not valid JSON: invalid character '.' looking for beginning of value",
		"POSTHORN_EGRESS__ALLOW__0=10.0.0.0/8":    "POSTHORN_EGRESS__ALLOW__0: egress.allow: is a list: give it as one JSON value in POSTHORN_EGRESS__ALLOW",
		"POSTHORN_ENDPOINTS__0__NAME=a":           "POSTHORN_ENDPOINTS__0__NAME: endpoints: is a list: give it as one JSON value in POSTHORN_ENDPOINTS",
		`POSTHORN_LOG={"level": 1}`:               "POSTHORN_LOG: log.level: is a number where text is expected: quote it",
		`POSTHORN_LOG={"level":"info","level":1}`: "POSTHORN_LOG: log.level: is repeated: it stands in line 1 already",
		`POSTHORN_SOURCE__COLUMNS={"idd": "x"}`:   `POSTHORN_SOURCE__COLUMNS: source.columns.idd: unknown key; did you mean "id"?`,
		"POSTHORN_LOG=[]":                         "POSTHORN_LOG: log: must be a map, got a list",
	}
	for variable, want := range tests {
		t.Run(variable, func(t *testing.T) {
			if got := problemsOf(t, "a.yaml", "", variable); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestReferencesAreExpandedInValuesOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from\nfile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{
		"NAME=a", "EMPTY=", "AGAIN=${NAME}", "STRUCTURE=]}\n- {x: y}\n", "SECONDS=9s", "COUNT=12", "RATE=1.5", "YES=true", "SIZE=3MiB", "LOG={a: b}",
	}
	tests := map[string]struct{ text, want string }{
		"alone":             {"${NAME}", "a"},
		"within text":       {"x${NAME}y${NAME}", "xaya"},
		"empty":             {"[${EMPTY}]", "[]"},
		"escaped":           {"$${NAME} $$${NAME} $ $$ $x {}", "${NAME} $${NAME} $ $$ $x {}"},
		"not twice":         {"${AGAIN}", "${NAME}"},
		"not as structure":  {"${STRUCTURE}", "]}\n- {x: y}\n"},
		"file less newline": {"${file:" + file + "}", "from\nfile"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := mustParse(t, "a.json", `{"events": [{"type": "a", "title": "`+tt.text+`"}]}`, environ...)
			if got := cfg.Events[0].Title; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	cfg := mustParse(t, "a.toml", `
stop_timeout = "${SECONDS}"
egress.require_https = "${YES}"
source.buffer = "${SIZE}"
profiles.a = {concurrency = "${COUNT}", rate_limit = "${RATE}", method = "PUT"}
tenants."${NAME}" = {secret = "${NAME}"}
`, environ...)
	got := cfg.Profiles["a"]
	if cfg.StopTimeout != 9*time.Second || !cfg.Egress.RequireHTTPS || cfg.Source.Buffer != 3<<20 || got.Concurrency != 12 || got.RateLimit != 1.5 {
		t.Errorf("references are not converted: %+v", cfg)
	}
	if got := cfg.Tenants["${NAME}"].Secret; got != "a" {
		t.Errorf("a key was expanded: %+v", cfg.Tenants)
	}
}

func TestABadReferenceIsNamedAndItsValueIsNot(t *testing.T) {
	tests := map[string]string{
		"${UNSET}":         "events[0].title: ${UNSET} is not set in the environment",
		"${file:/nowhere}": "events[0].title: ${file:/nowhere} cannot be read: stat /nowhere: no such file or directory",
		"${file:/}":        "events[0].title: ${file:/} cannot be read: / is not a regular file",
		"${a b}":           "events[0].title: has a ${ that is neither ${NAME} nor ${file:PATH}; write $${ for the text ${",
		"${":               "events[0].title: has a ${ that is neither ${NAME} nor ${file:PATH}; write $${ for the text ${",
	}
	for text, want := range tests {
		got := problemsOf(t, "a.json", `{"events": [{"type": "a", "title": "`+text+`"}]}`)
		if got != "a.json:1: "+want {
			t.Errorf("got  %s\nwant a.json:1: %s", got, want)
		}
	}
	got := problemsOf(t, "a.yaml", "stop_timeout: ${HIDDEN}\nlog: {level: '${HIDDEN}'}\nhttp: {listen: '${HIDDEN}'}\nprofiles: {a: {body: '{{${HIDDEN}'}}", "HIDDEN=hunter2")
	if strings.Contains(got, "hunter2") || strings.Count(got, "${HIDDEN}") != 4 {
		t.Errorf("got %s, want the references' names", got)
	}
}

func TestExpansionIsBounded(t *testing.T) {
	text := `{"events": [{"type": "a", "title": "` + strings.Repeat("${BIG}", 1000) + `"}]}`
	got := problemsOf(t, "a.json", text, "BIG="+strings.Repeat("x", 100_000))
	if want := "a.json:1: events[0].title: the references of the file expand to more than 8MiB"; got != want {
		t.Errorf("got %.200s", got)
	}
}
