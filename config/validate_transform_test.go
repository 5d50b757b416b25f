package config

import (
	"os"
	"strings"
	"testing"
)

func TestPluginsAndSchemaRulesThatDoNothingAreWarnedOf(t *testing.T) {
	got := warnings(t, `
events: [{type: a, schema: {type: object}}, {type: b}]
plugins:
  used: {path: testdata/app/redact}
  idle: {path: testdata/app/redact}
transforms:
  - {match: [b], plugin: used}
  - {match: ["*"], schema: reject}
  - {match: [b], schema: warn}
`)
	want := "a.yaml:5: plugins.idle: is not used: name it in transforms, or remove it\n" +
		"a.yaml:9: transforms[2].schema: checks nothing: no type that match is for has a schema in events\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExamplesThatViolateTheirSchemaAreWarnedOf(t *testing.T) {
	const events = "\nevents: [{type: a, example: {n: 1}, schema: {required: [id]}}]\n"
	tests := map[string]struct {
		transforms string
		warned     bool
	}{
		"no rule":                     {"", true},
		"a rule for others":           {"transforms: [{match: [b], jq: .payload}]", true},
		"a rule that warns":           {"transforms: [{match: [a], schema: warn}]", true},
		"mended before the rule":      {"transforms: [{match: [a], set: {id: 1}}, {match: [a], schema: warn}]", false},
		"mended before it is refused": {"transforms: [{match: [a], set: {id: 1}}, {match: [a], schema: reject}]", false},
		"dropped before the rule":     {"transforms: [{match: [a], filter: payload.n > 1}, {match: [a], schema: reject}]", false},
		"not known before the rule":   {"plugins: {p: {path: testdata/app/redact}}\ntransforms: [{match: [a], plugin: p}, {match: [a], schema: reject}]", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := warnings(t, events+tt.transforms+"\n")
			if warned := strings.HasPrefix(got, "a.yaml:2: events[0].example: violates its schema: "); warned != tt.warned || strings.Count(got, "\n") > 1 {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestTemplatesAreRenderedWithTransformedExamples(t *testing.T) {
	const payload = `{match: [a.b], rename: {amount: id}}, {match: [a.b], set: {id: 01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e}}`
	tests := map[string]struct {
		transforms, endpoint string
		fails                bool
	}{
		"as committed":           {"", `body: '{{ ulid (get .Payload "id") }}'`, true},
		"the payload":            {payload, `headers: {X-A: '{{ ulid (get .Payload "id") }}'}`, false},
		"the payload's old keys": {payload, `headers: {X-A: '{{ ulid (get .Payload "amount") }}'}`, true},
		"the type":               {`{match: ["*"], type: "5"}`, `body: '{"t": {{ .Event.Type }}}'`, false},
		"its parts":              {`{match: ["*"], type: v2.5}`, `body: '{"t": {{ .Event.Action }}}'`, false},
		"the committed type":     {`{match: [a.c], type: "5"}`, `body: '{"t": {{ .Event.Type }}}'`, true},
		"the headers":            {`{match: ["*"], headers: {id: none}}`, `headers: {X-A: '{{ ulid .Event.Headers.id }}'}`, true},
		"for one type only":      {`{match: [a.c], set: {id: 01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e}}`, `headers: {X-A: '{{ ulid (get .Payload "id") }}'}`, true},
		"not what is skipped":    {`{match: ["a.*"], filter: payload.amount > 10}`, `headers: {X-A: '{{ ulid (get .Payload "id") }}'}`, false},
		"not what is unknown":    {`{match: ["a.*"], plugin: p}`, `headers: {X-A: '{{ ulid (get .Payload "id") }}'}`, false},
		"filters see committed":  {payload, `filter: has(payload.amount) && type == 'a.b', headers: {X-A: '{{ ulid (get .Payload "amount") }}'}`, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, "a.yaml", `
events: [{type: a.b, example: {amount: 5}}]
plugins: {p: {path: testdata/app/redact}}
transforms: [`+tt.transforms+`]
endpoints: [{name: a, url: "https://a.example", events: [a.b], `+tt.endpoint+`}]
`)
			if fails := strings.Contains(got, `fails for the example of "a.b": `); fails != tt.fails || !fails && got != "" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestTransformsThatNoExampleRefutesAreAccepted(t *testing.T) {
	tests := map[string]string{
		"no example":                `{match: [b], jq: '.payload.n | explode'}`,
		"a header":                  `{match: [a], jq: '{n: (.headers.count | tonumber)}'}`,
		"a header of a template":    `{match: [a], template: '{"n": {{ .Event.Headers.count }}}'}`,
		"a header of a filter":      `{match: [a], filter: int(headers.count) > 0}`,
		"after what is skipped":     `{match: [a], filter: payload.n > 1}, {match: [a], jq: '.payload.n | explode'}`,
		"after a plugin":            `{match: [a], plugin: p}, {match: [a], jq: '.payload.n | explode'}`,
		"as others leave it":        `{match: [a], set: {n: text}}, {match: [a], jq: '.payload.n | explode'}`,
		"paths that lead nowhere":   `{match: [a], remove: [x.y]}, {match: [a], rename: {x: y}}, {match: [a], redact: {paths: [x.*]}}`,
		"an example that is a list": `{match: [list], set: {a: 1}}`,
	}
	for name, transforms := range tests {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, "a.yaml", `
events: [{type: a, example: {n: 1}}, {type: b}, {type: list, example: [1]}]
plugins: {p: {path: testdata/app/redact}}
transforms: [`+transforms+"]\n")
			if got != "" {
				t.Error(got)
			}
		})
	}
}

func TestAProblemOfAnExampleSaysNothingOfItsReferences(t *testing.T) {
	got := problemsOf(t, "a.yaml", `
events: [{type: a, example: {n: "${HIDDEN}"}, schema: {properties: {n: {type: number}}}}, {type: b, example: {n: "${HIDDEN}"}}]
transforms: [{match: [a], schema: reject}, {match: [b], jq: '.payload.n | error'}]
`, "HIDDEN=hunter2")
	if strings.Count(got, "it cannot be transformed") != 2 || strings.Contains(got, "hunter2") {
		t.Errorf("got %s", got)
	}
}

func TestAPinnedPluginIsReadByItsPath(t *testing.T) {
	const sum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" // of "test"
	t.Chdir(t.TempDir())
	if err := os.WriteFile("plugin", []byte("test"), 0o755); err != nil {
		t.Fatal(err)
	}
	for pin, want := range map[string]string{
		sum:                  "",
		strings.ToUpper(sum): "",
		"0" + sum[1:]:        "a.yaml:1: plugins.p.sha256: is not that of the file in path, which has " + sum + ": pin that if the file is the one that you want to run",
	} {
		if got := problemsOf(t, "a.yaml", "plugins: {p: {path: plugin, sha256: '"+pin+"'}}"); got != want {
			t.Errorf("%s: got %q, want %q", pin, got, want)
		}
	}
}

func TestAProgramOfAnySizeIsNotRead(t *testing.T) {
	t.Chdir(t.TempDir())
	file, err := os.OpenFile("plugin", os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(maxProgram + 1); err != nil { // a hole, which takes no room
		t.Fatal(err)
	}
	got := problemsOf(t, "a.yaml", "plugins: {p: {path: plugin, sha256: '"+strings.Repeat("0", 64)+"'}}")
	if want := "a.yaml:1: plugins.p.path: is larger than 1GiB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
