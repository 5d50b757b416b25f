package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/transforms"
)

// checkFullTransforms checks the plugins, transforms and schemas of the full sample.
func checkFullTransforms(t *testing.T, cfg *Config) {
	t.Helper()
	plain := defaultPlugin()
	plain.Path = "testdata/app/redact"
	plugins := map[string]Plugin{
		"plain": plain,
		"redact": {
			Path: "testdata/app/redact", Args: []string{"--fields", "ssn"}, Dir: "testdata", SocketDir: "testdata/app/schemas",
			SHA256: "1f433ada3bf0d005b20f97a26e5481de68b57f412b2140d7356812c7ac01dc73",
			Env:    map[string]Secret{"MODE": "strict", "API_KEY": "own-secret"}, Timeout: 500 * time.Millisecond, StartTimeout: 5 * time.Second,
			Instances: 2, Batch: 64, MaxMessage: 8 << 20,
		},
	}
	if diff := cmp.Diff(plugins, cfg.Plugins); diff != "" {
		t.Errorf("plugins, want -, got +:\n%s", diff)
	}
	pr := []string{"pr.*"}
	want := []Transform{
		{Match: []string{"employee.*", "hire"}, Plugin: "redact"},
		{Match: []string{"employee.*"}, Plugin: "plain"},
		{Match: pr, JQ: ".payload | del(.internal)"},
		{Match: pr, Template: `{"data": {{ .Payload }}}`},
		{Match: pr, Filter: "payload.data.amount > 0"},
		{Match: pr, Set: map[string]JSON{"source": `"hr"`, "meta.version": "2", "meta.tags": `["a",{"b":"null"}]`, "meta.key": `"own-secret"`}},
		{Match: pr, Remove: []string{"data.internal", "lines.*.cost"}},
		{Match: pr, Rename: map[string]string{"data.prId": "id"}},
		{Match: pr, Redact: Redact{Paths: []string{"iban"}, Mode: "mask", Mask: "hidden"}},
		{Match: pr, Redact: Redact{Paths: []string{"ssn"}, Mode: "hash", Secret: "sixteen bytes are enough"}},
		{Match: []string{"pr.rejected", "pr.approved"}, Schema: "warn"},
		{Match: pr, Type: "v2.{{ .Event.Type }}"},
		{Match: pr, Headers: map[string]string{"X-Source": "hr", "X-Token": "own-secret", "X-Api-Key": "literal"}},
	}
	if diff := cmp.Diff(want, cfg.Transforms); diff != "" {
		t.Errorf("transforms, want -, got +:\n%s", diff)
	}
	kinds := strings.Fields("plugin plugin jq template filter set remove rename redact redact schema type headers")
	for i := range cfg.Transforms {
		if got := cfg.Transforms[i].Kind(); got != kinds[i] {
			t.Errorf("transforms[%d]: got kind %q, want %q", i, got, kinds[i])
		}
	}
	for i, want := range []string{`{"type":"object","required":["prId"]}`, `{"type": "object", "required": ["prId"], "properties": {"prId": {"type": "string"}}}` + "\n"} {
		if got, err := cfg.Events[i].SchemaText(); err != nil || got != want {
			t.Errorf("schema of %s: got %s, %v", cfg.Events[i].Type, got, err)
		}
	}
}

func TestWhatRedactLeavesOutIsFilledIn(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
transforms:
  - {match: [a], redact: {paths: [a]}}
  - {match: [a], redact: {paths: [a], mask: ""}}
  - {match: [a], redact: {paths: [a], mode: hash, secret: sixteen bytes are enough}}
`)
	masked := Redact{Paths: []string{"a"}, Mode: "mask", Mask: "***"}
	for i, want := range []Redact{masked, masked, {Paths: []string{"a"}, Mode: "hash", Secret: "sixteen bytes are enough"}} {
		if diff := cmp.Diff(want, cfg.Transforms[i].Redact); diff != "" {
			t.Errorf("transforms[%d], want -, got +:\n%s", i, diff)
		}
	}
}

func TestPluginsAndTransformsInTheEnvironment(t *testing.T) {
	cfg := mustParse(t, "a.yaml", "plugins: {redact: {path: testdata/app/redact, env: {Mode: a, KEEP: b}}}",
		"POSTHORN_PLUGINS__REDACT__TIMEOUT=2s", "POSTHORN_PLUGINS__REDACT__ENV__Mode=c", "POSTHORN_PLUGINS__REDACT__ENV__API_KEY=d",
		`POSTHORN_PLUGINS__REDACT__ARGS=["-v"]`, `POSTHORN_TRANSFORMS=[{"match": ["*"], "plugin": "redact"}, {"match": ["*"], "set": {"a.b": 1.50}}]`)
	plugin := cfg.Plugins["redact"]
	if diff := cmp.Diff(map[string]Secret{"Mode": "c", "KEEP": "b", "API_KEY": "d"}, plugin.Env); diff != "" {
		t.Errorf("env, want -, got +:\n%s", diff)
	}
	if plugin.Timeout != 2*time.Second || plugin.Batch != 256 || len(plugin.Args) != 1 {
		t.Errorf("got %+v", plugin)
	}
	if len(cfg.Transforms) != 2 || cfg.Transforms[1].Set["a.b"] != "1.50" {
		t.Errorf("got %+v", cfg.Transforms)
	}
}

func TestMaskedShowsHowJSONWasWritten(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
events: [{type: a, example: {key: "${KEY}", n: 1.50, "${KEY}": ["x${KEY}", "$${KEY}"]}}]
transforms: [{match: [a], set: {a: "${KEY}", b: 1.50}}]
`, "KEY=hunter2")
	got := string(cfg.Masked())
	if strings.Contains(got, "hunter2") {
		t.Errorf("shows what a reference stands for:\n%s", got)
	}
	for _, want := range []string{`example: {"key": "${KEY}", "n": 1.50, "${KEY}": ["x${KEY}", "$${KEY}"]}`, `a: "${KEY}"`, "b: 1.50"} {
		if !strings.Contains(got, want) {
			t.Errorf("does not show %s:\n%s", want, got)
		}
	}
	again, err := parse("b.yaml", []byte(got), []string{"KEY=hunter2"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cfg.Events, again.Events); diff != "" {
		t.Errorf("what is shown is another configuration: %s", diff)
	}
}

// apply returns what the configuration's transforms, none a plugin, make of an
// event.
func apply(t *testing.T, cfg *Config, eventType, payload string) *transforms.Message {
	t.Helper()
	var rules []transforms.Rule
	for i := range cfg.Transforms {
		transform, err := cfg.Transforms[i].Builtin(cfg, nil)
		if err != nil {
			t.Fatalf("transforms[%d]: %v", i, err)
		}
		rules = append(rules, transforms.Rule{Match: cfg.Transforms[i].Match, Transform: transform})
	}
	m := &transforms.Message{Committed: eventType, Payload: []byte(payload)}
	m.SetType(eventType)
	transforms.NewChains(rules).For(eventType).Apply(context.Background(), []*transforms.Message{m})
	return m
}

func TestBuiltinDoesWhatTheEntrySays(t *testing.T) {
	const payload = `{"id": 1.50, "iban": "DE02", "b": {"c": 2}}`
	tests := map[string]struct{ entry, want string }{
		"jq":       {`jq: '{n: .payload.b.c}'`, `{"n":2}`},
		"template": {`template: '{"d": {{ get .Payload "b" }}}'`, `{"d": {"c": 2}}`},
		"filter":   {`filter: payload.id > 1`, payload},
		"set":      {`set: {b.c: [3]}`, `{"id": 1.50, "iban": "DE02", "b": {"c": [3]}}`},
		"remove":   {`remove: [iban, b]`, `{"id": 1.50}`},
		"rename":   {`rename: {b.c: d}`, `{"id": 1.50, "iban": "DE02", "b": {"d": 2}}`},
		"mask":     {`redact: {paths: [iban]}`, `{"id": 1.50, "iban": "***", "b": {"c": 2}}`},
		"hash":     {`redact: {paths: [id], mode: hash, secret: sixteen bytes are enough}`, `{"id": "hmac-sha256:`},
		"schema":   {`schema: reject`, payload},
		"type":     {`type: 'v2.{{ .Event.Type }}'`, payload},
		"headers":  {`headers: {X-Source: '{{ .Event.Action }}'}`, payload},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := apply(t, mustParse(t, "a.yaml", "transforms: [{match: [a.b], "+tt.entry+"}]"), "a.b", payload)
			if m.Err != nil || m.Skipped != "" || !strings.HasPrefix(string(m.Payload), tt.want) {
				t.Errorf("got %s, %v, %q", m.Payload, m.Err, m.Skipped)
			}
			if name == "type" && m.Event.Type != "v2.a.b" || name == "headers" && m.Event.Headers["X-Source"] != "b" {
				t.Errorf("got %+v", m.Event)
			}
		})
	}
	plugin := Transform{Plugin: "redact"}
	if _, err := plugin.Builtin(Default(), nil); err == nil || err.Error() != `"plugin" is no built-in transform` {
		t.Errorf("a plugin: got %v", err)
	}
}

// TestTheDocumentationsTransformsYieldWhatItSays holds each row of the table of
// kinds that has a payload before and after.
func TestTheDocumentationsTransformsYieldWhatItSays(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(.+?)` \\| .* \\| `(\\{.+\\})` \\| (?:`(\\{.+\\})`|(skipped)) \\|$").FindAllStringSubmatch(string(page), -1)
	if len(rows) != 7 {
		t.Errorf("got %d rows", len(rows))
	}
	for _, row := range rows {
		cfg := mustParse(t, "a.yaml", "transforms: [{match: [a], "+strings.ReplaceAll(row[1], `\|`, "|")+"}]")
		m := apply(t, cfg, "a", row[2])
		if m.Err != nil || row[3] != "" && string(m.Payload) != row[3] || (m.Skipped != "") != (row[4] != "") {
			t.Errorf("%s: got %s, %v, %q", row[0], m.Payload, m.Err, m.Skipped)
		}
	}
}

func TestBuiltinSchemasRejectOrWarn(t *testing.T) {
	const text = `
events: [{type: a.b, schema: {type: object, required: [id]}}, {type: a.c, schema: {type: array}}]
transforms: [{match: [a.b], schema: %s}]
`
	cfg := mustParse(t, "a.yaml", fmt.Sprintf(text, "reject"))
	if m := apply(t, cfg, "a.b", "{}"); m.Err == nil || transforms.IsRetryable(m.Err) {
		t.Errorf("reject: got %v", m.Err)
	}
	if m := apply(t, cfg, "a.b", `{"id": 1}`); m.Err != nil {
		t.Errorf("a valid one: got %v", m.Err)
	}
	cfg = mustParse(t, "a.yaml", fmt.Sprintf(text, "warn"))
	if m := apply(t, cfg, "a.b", "{}"); m.Err != nil {
		t.Errorf("warn, to nobody: got %v", m.Err)
	}
	var warned error
	transform, err := cfg.Transforms[0].Builtin(cfg, func(_ context.Context, _ *transforms.Message, err error) { warned = err })
	if err != nil {
		t.Fatal(err)
	}
	m := &transforms.Message{Committed: "a.b", Payload: []byte("{}")}
	transform.Transform(context.Background(), []*transforms.Message{m})
	if m.Err != nil || warned == nil {
		t.Errorf("warn: got %v and the warning %v", m.Err, warned)
	}
}

func TestSchemaTextIsReadAnew(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, text := range []string{`{"type": "object"}`, `{"type": "array"}`} {
		if err := os.WriteFile("a.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		event := EventType{Type: "a", Schema: `"a.json"`}
		if got, err := event.SchemaText(); err != nil || got != text {
			t.Errorf("got %s, %v; want %s", got, err, text)
		}
	}
	missing := EventType{Type: "a", Schema: `"b.json"`}
	if _, err := missing.SchemaText(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	for _, none := range []JSON{"", `""`} {
		event := EventType{Type: "a", Schema: none}
		if got, err := event.SchemaText(); err != nil || got != "" {
			t.Errorf("%q: got %s, %v", none, got, err)
		}
	}
}
