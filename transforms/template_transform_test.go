package transforms

import (
	"errors"
	"strings"
	"testing"
)

func TestTemplateMakesPayloads(t *testing.T) {
	tests := []struct{ name, text, payload, want string }{
		{"wrapped", `{"type": {{ json .Event.Type }}, "data": {{ .Payload }}}`, `{"b": 1.0, "a": 1}`, `{"type": "order.created", "data": {"b": 1.0, "a": 1}}`},
		{"payload as it is", `{{ .Payload }}`, ` {"b":  1.0} `, ` {"b":  1.0} `},
		{"literal", `{"a": 1}`, `1`, `{"a": 1}`},
		{"parts", `{{ get .Payload "lines.0" }}`, `{"lines": [12345678901234567890]}`, `12345678901234567890`},
		{"through $", `{{ with .Event }}[{{ json .ID }}, {{ $.Payload }}, {{ json $.Event.Key }}]{{ end }}`, `1`, `["01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e", 1, "42"]`},
		{"headers named as the refused", `{{ range $k, $v := .Event.Headers }}{{ json . }}{{ end }}`, `1`, `"a"`},
		{"a header named Delivery", `{{ with .Event.Headers }}{{ json .Delivery }}{{ end }}`, `1`, `""`},
		{"else has the dot of outside", `{{ with .Event.Headers.none }}1{{ else }}{{ .Payload }}{{ end }}`, `7`, `7`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			m := apply(t, transform, message(tt.payload))
			if m.Err != nil || string(m.Payload) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", m.Payload, m.Err, tt.want)
			}
		})
	}
}

func TestTemplateFailsWithoutQuotingTheEvent(t *testing.T) {
	tests := []struct{ name, text, payload, want string }{
		{"no JSON", `{"a": {{ .Event.Type }}}`, `"hunter2"`, `the template yields invalid JSON at byte 6: no value begins like this`},
		{"payload's text", `{{ print .Payload }}`, `"hunter2"`, `the template yields invalid JSON at byte 0: no value begins like this`},
		{"two values", `{{ .Payload }} {{ .Payload }}`, `"hunter2"`, `the template yields invalid JSON at byte 10: text after the value`},
		{"a function's error", `{{ get .Payload "id" | ulid }}`, `{"id": "hunter2"}`, `execute template: template:1:23: executing "template" at <ulid>: error calling ulid: the text is not a UUID`},
		{"too large", `[{{ .Payload }}, {{ .Payload }}]`, `"` + strings.Repeat("x", maxPayload/2) + `"`, `template's output is too large: more than 67108864 bytes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			m := apply(t, transform, message(tt.payload))
			if m.Err == nil || m.Err.Error() != tt.want || IsRetryable(m.Err) || string(m.Payload) != tt.payload {
				t.Errorf("got  %v\nwant %s", m.Err, tt.want)
			}
		})
	}
}

func TestTemplatesOfTransformsSeeNoDelivery(t *testing.T) {
	const (
		delivery = `.Delivery is not supported here: transforms run once for an event, for all of its deliveries`
		endpoint = `.Endpoint is not supported here: transforms run once for an event, for all of its deliveries`
		whole    = `the view as a whole is not supported here: name .Event or .Payload`
	)
	tests := []struct{ text, want string }{
		{`{{ json .Delivery.ID }}`, `parse template: template:1:17: ` + delivery},
		{"{\n  \"a\": {{ json .Endpoint.Name }}}", `parse template: template:2:24: ` + endpoint},
		{`{{ $.Delivery.ID }}`, delivery},
		{`{{ with .Event }}{{ $.Endpoint.URL }}{{ end }}`, endpoint},
		{`{{ range .Event.Headers }}{{ $.Delivery.ID }}{{ end }}`, delivery},
		{`{{ range .Event.Headers }}{{ else }}{{ .Delivery.ID }}{{ end }}`, delivery},
		{`{{ if .Delivery.ID }}{{ end }}`, delivery},
		{`{{ if false }}{{ .Delivery.ID }}{{ end }}`, delivery},
		{`{{ if true }}{{ else if .Delivery.ID }}{{ end }}`, delivery},
		{`{{ with .Event.Key }}{{ else with .Delivery }}{{ end }}`, delivery},
		{`{{ with .Delivery }}{{ .ID }}{{ end }}`, delivery},
		{`{{ $x := .Delivery }}{{ $x.ID }}`, delivery},
		{`{{ $x := "" }}{{ $x = .Delivery.ID }}`, delivery},
		{`{{ $x := . }}{{ $x.Delivery.ID }}`, whole},
		{`{{ $x := $ }}{{ $x.Delivery.ID }}`, whole},
		{`{{ with . }}{{ .Delivery.ID }}{{ end }}`, whole},
		{`{{ with $ }}{{ .Delivery.ID }}{{ end }}`, whole},
		{`{{ with $x := . }}{{ $x.Delivery.ID }}{{ end }}`, whole},
		{`{{ (.).Delivery.ID }}`, whole},
		{`{{ ($).Delivery.ID }}`, whole},
		{`{{ (.Delivery).ID }}`, delivery},
		{`{{ (and true .).Delivery.ID }}`, whole},
		{`{{ json . }}`, whole},
		{`{{ . | json }}`, whole},
		{`{{ printf "%v" $ }}`, whole},
		{`{{ range .Event.Headers }}{{ json $ }}{{ end }}`, whole},
		{`{{ default .Delivery.ID .Event.Key }}`, delivery},
		{`{{ default (print .Delivery.ID) .Event.Key }}`, delivery},
	}
	constructors := map[string]func(text string) (Transform, error){
		"template": NewTemplate,
		"type":     NewType,
		"headers":  func(text string) (Transform, error) { return NewHeaders(map[string]string{"x": text}) },
	}
	for name, construct := range constructors {
		for _, tt := range tests {
			t.Run(name+" "+tt.text, func(t *testing.T) {
				_, err := construct(tt.text)
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
			})
		}
	}
}

func TestNewTemplateFindsMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{{ .Event.Typo }}`, `can't evaluate field Typo`},
		{`{{ with .Event }}{{ .Delivery }}{{ end }}`, `can't evaluate field Delivery`},
		{`{"a": }`, `parse template: it yields invalid JSON at byte 6`},
		{``, `parse template: it yields invalid JSON at byte 0`},
	}
	for _, tt := range tests {
		if _, err := NewTemplate(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func TestType(t *testing.T) {
	tests := []struct{ text, payload, want, err string }{
		{`v2.{{ .Event.Type }}`, `1`, `v2.order.created`, ``},
		{`{{ .Event.Object }}.{{ get .Payload "action" | print }}`, `{"action": "größer"}`, `order.größer`, ``},
		{`plain`, `1`, `plain`, ``},
		{`{{ get .Payload "a" | print }}`, `{"a": "` + strings.Repeat("x", 255) + `"}`, strings.Repeat("x", 255), ``},
		{`{{ get .Payload "a" | print }}`, `{"a": "` + strings.Repeat("x", 256) + `"}`, ``, errType.Error()},
		{`{{ get .Payload "a" | print }}`, `{"a": ""}`, ``, errType.Error()},
		{`{{ get .Payload "a" | print }}`, `{"a": "hunter2\n"}`, ``, errType.Error()},
		{`{{ get .Payload "a" | print }}`, `{"a": "hunter2\u202e"}`, ``, errType.Error()},
		{`{{ get .Payload "a" | print }}x{{ slice .Event.Key 0 1 }}`, `{"a": "é"}`, `éx4`, ``},
		{`{{ slice (get .Payload "a" | print) 0 1 }}`, `{"a": "é"}`, ``, errType.Error()},
		{`{{ get .Payload "a" | ulid }}`, `{"a": "hunter2"}`, ``, `execute template: template:1:22: executing "template" at <ulid>: error calling ulid: the text is not a UUID`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			transform, err := NewType(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			m := apply(t, transform, message(tt.payload))
			if tt.err != "" {
				if m.Err == nil || m.Err.Error() != tt.err || m.Event.Type != "order.created" || IsRetryable(m.Err) {
					t.Errorf("got %v, %s; want %s", m.Err, m.Event.Type, tt.err)
				}
				return
			}
			object, action := SplitType(tt.want)
			if m.Err != nil || m.Event.Type != tt.want || m.Event.Object != object || m.Event.Action != action || m.Committed != "order.created" {
				t.Errorf("got %+v, %v; want %s", m.Event, m.Err, tt.want)
			}
		})
	}
	for _, text := range []string{``, "a\n", strings.Repeat("x", 256), "a\u00a0b"} {
		if _, err := NewType(text); !errors.Is(err, errType) {
			t.Errorf("%q: got %v, want %v", text, err, errType)
		}
	}
}

func TestHeaders(t *testing.T) {
	transform, err := NewHeaders(map[string]string{
		"X-Source": "hr",
		"note":     ``,
		"type":     `{{ .Event.Type }}`,
		"was":      `{{ .Event.Headers.note }}`,
		"id":       `{{ with get .Payload "id" | print }}{{ . }}{{ end }}`,
		"none":     `{{ .Event.Headers.none }}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := message(`{"id": "größer"}`)
	m.Event.Headers["kept"] = "k"
	before := m.Event.Headers
	apply(t, transform, m)
	want := map[string]string{"X-Source": "hr", "type": "order.created", "was": "a", "id": "größer", "kept": "k"}
	if m.Err != nil || !equalMaps(m.Event.Headers, want) {
		t.Errorf("got %v, %v; want %v", m.Event.Headers, m.Err, want)
	}
	if !equalMaps(before, map[string]string{"note": "a", "kept": "k"}) {
		t.Errorf("the map that was there became %v", before)
	}

	m = message(`{}`)
	m.Event.Headers = nil
	apply(t, transform, m)
	if want := map[string]string{"X-Source": "hr", "type": "order.created", "id": "null"}; m.Err != nil || !equalMaps(m.Event.Headers, want) {
		t.Errorf("without any: got %v, %v; want %v", m.Event.Headers, m.Err, want)
	}
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

func TestHeadersRefuseValues(t *testing.T) {
	tests := []struct{ name, payload, want string }{
		{"at the limit", `"` + strings.Repeat("x", maxHeaderValue) + `"`, ``},
		{"too long", `"` + strings.Repeat("x", maxHeaderValue+1) + `"`, `header a: template's output is too large: more than 8192 bytes`},
		{"line break", `"hunter2\r\nX-Evil: 1"`, `header a: the value has a control character, such as a line break`},
		{"tab", `"hunter2\t"`, `header a: the value has a control character, such as a line break`},
		{"delete", `"hunter2\u007f"`, `header a: the value has a control character, such as a line break`},
		{"C1", `"hunter2\u0085"`, `header a: the value has a control character, such as a line break`},
		{"no UTF-8", "[\"hunter2\xff\"]", `header a: the value is not UTF-8`},
	}
	transform, err := NewHeaders(map[string]string{"a": `{{ print .Payload }}`})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := apply(t, transform, message(tt.payload))
			got := ""
			if m.Err != nil {
				got = m.Err.Error()
			}
			if got != tt.want || got != "" && !equalMaps(m.Event.Headers, map[string]string{"note": "a"}) {
				t.Errorf("got  %s, %v\nwant %s", got, m.Event.Headers, tt.want)
			}
		})
	}
}

func TestNewHeadersFindsMistakes(t *testing.T) {
	many := map[string]string{}
	for i := range maxHeaders + 1 {
		many[strings.Repeat("x", i+1)] = "a"
	}
	tests := []struct {
		headers map[string]string
		want    string
	}{
		{nil, `must be 1 to 100 headers, got 0`},
		{many, `must be 1 to 100 headers, got 101`},
		{map[string]string{"": "a"}, `header "": must be a name of at most 256 bytes`},
		{map[string]string{"a b": "a"}, `header "a b": must be a name`},
		{map[string]string{"a:": "a"}, `header "a:": must be a name`},
		{map[string]string{"größe": "a"}, `header "größe": must be a name`},
		{map[string]string{strings.Repeat("x", 257): "a"}, `must be a name`},
		{map[string]string{"b": "a", "a": "{{ nope }}"}, `header a: parse template: template:1: function "nope" not defined`},
		{map[string]string{"a": "x\ny"}, `header a: the value has a control character`},
		{map[string]string{"a": strings.Repeat("x", 8193)}, `header a: the value has 8193 bytes, at most 8192 are allowed`},
	}
	for _, tt := range tests {
		if _, err := NewHeaders(tt.headers); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestFilterSkipsAndFails(t *testing.T) {
	tests := []struct{ text, payload, skipped, err string }{
		{`payload.amount > 0`, `{"amount": 1}`, ``, ``},
		{`payload.amount > 0`, `{"amount": 0}`, `filter is false`, ``},
		{`payload.amount > 0`, `{}`, `filter is false`, ``},
		{`payload.amount > 0`, `{"amount": "hunter2"}`, ``, `evaluate filter: line 1, column 16: ">" cannot take the values that it gets`},
		{`payload.flag`, `{"flag": "hunter2"}`, ``, `evaluate filter: yields string, must yield bool`},
		{`payload.a`, `hunter2`, ``, `evaluate filter: payload: invalid JSON at byte 0: no value begins like this`},
		{`type == "order.created" && headers.note == "a" && created_at < timestamp("2027-01-01T00:00:00Z")`, `1`, ``, ``},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			transform, err := NewFilter(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			m := message(tt.payload)
			transform.Transform(t.Context(), []*Message{m})
			got := ""
			if m.Err != nil {
				got = m.Err.Error()
			}
			if m.Skipped != tt.skipped || got != tt.err || string(m.Payload) != tt.payload || IsRetryable(m.Err) {
				t.Errorf("got %q, %s; want %q, %s", m.Skipped, got, tt.skipped, tt.err)
			}
		})
	}
	if _, err := NewFilter(`1 + 1`); err == nil || err.Error() != `parse filter: yields int, must yield bool` {
		t.Errorf("got %v", err)
	}
}

func TestFilterSeesWhatTransformsBeforeItMade(t *testing.T) {
	filter, err := NewFilter(`type == "v2.order" && headers.x == "y" && payload.n == 2`)
	if err != nil {
		t.Fatal(err)
	}
	m := message(`{"n": 2}`)
	m.SetType("v2.order")
	m.Event.Headers = map[string]string{"x": "y"}
	if apply(t, filter, m); m.Err != nil || m.Skipped != "" {
		t.Errorf("got %v, %q", m.Err, m.Skipped)
	}
}
