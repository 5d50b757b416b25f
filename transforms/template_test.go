package transforms

import (
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

func view() *View {
	at := time.Date(2026, 5, 22, 11, 30, 0, 999_000_000, time.FixedZone("", 2*60*60))
	object, action := SplitType("leave_request.approved")
	return &View{
		Event: Event{
			ID:        "018f99e2-ed3a-7f4c-ae97-83d619bdf95c",
			Type:      "leave_request.approved",
			Object:    object,
			Action:    action,
			Tenant:    "acme",
			CreatedAt: at,
			Headers:   map[string]string{"region": "eu", "trace": "00-1"},
		},
		Payload:  `{"id": "clx<1>", "n": 1.0, "s": "a\"b\u00e9", "empty": "", "connector": {"id": "018f99e2"}}`,
		Delivery: Delivery{ID: "10c9a6b1-4ea8-576e-bdb0-193001a94a8d", CreatedAt: at},
		Endpoint: Endpoint{ID: "10c9a6b1-4ea8-476e-bdb0-193001a94a8d", Name: "erp", URL: "https://erp.acme.example/hooks?a=1&b=2", Tenant: "acme"},
	}
}

func render(t *testing.T, text string, v *View) string {
	t.Helper()
	parsed, err := ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTemplateFunctions(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{{ json .Event.Type }}`, `"leave_request.approved"`},
		{`{{ json "<&>\u2028" }}`, `"<&>\u2028"`},
		{`{{ json .Event.Headers }}`, `{"region":"eu","trace":"00-1"}`},
		{`{{ json .Payload | len }} {{ len .Payload }}`, `91 91`},
		{`{{ json 5 }} {{ json true }} {{ json nil }}`, `5 true null`},
		{`{{ get .Payload "id" }}`, `"clx<1>"`},
		{`{{ get (get .Payload "connector") "id" }}`, `"018f99e2"`},
		{`{{ get .Payload "nothing.here" }}`, `null`},
		{`{{ rfc3339 .Event.CreatedAt }} {{ .Delivery.CreatedAt | unix }}`, `2026-05-22T09:30:00Z 1779442200`},
		{`{{ ulid .Event.ID }} {{ .Delivery.ID | ulid }}`, `01HYCY5V9TFX6AX5W3TRCVVYAW 0GS6KB2KN8AXQBVC0S600TJJMD`},
		{`{{ upper "aé" }} {{ .Event.Action | upper | lower }}`, `AÉ approved`},
		{`{{ get .Payload "s" | upper }}`, `A"BÉ`},
		{`{{ get .Payload "n" | upper }}`, `1.0`},
		{`{{ .Event.Type | replace "." "_" }}`, `leave_request_approved`},
		{`{{ .Event.Key | default "none" }} {{ .Event.Tenant | default "none" }}`, `none acme`},
		{`{{ get .Payload "x" | default 0 }} {{ get .Payload "empty" | default "-" }} {{ get .Payload "n" | default "-" }}`, `0 - 1.0`},
		{`{{ get .Payload "x" | default "none" | json }} {{ get .Payload "id" | default "none" | json }}`, `"none" "clx<1>"`},
		{`{{ base64 "hé?" }} {{ get .Payload "id" | base64 }}`, `aMOpPw== Y2x4PDE+`},
		{`{{ urlquery .Endpoint.URL }} {{ get .Payload "id" | urlquery }}`, `https%3A%2F%2Ferp.acme.example%2Fhooks%3Fa%3D1%26b%3D2 clx%3C1%3E`},
		{`{{ get .Payload "id" | print }} {{ print "a" (get .Payload "s") 1 }}`, `clx<1> aa"bé1`},
		{`{{ printf "%s/%q %d%%" .Event.Object (get .Payload "id") 3 }}`, `leave_request/"clx<1>" 3%`},
		{`{{ if eq (get .Payload "id" | print) "clx<1>" }}yes{{ end }}`, `yes`},
		{`{{ range $k, $v := .Event.Headers }}{{ $k }}={{ $v }};{{ end }}`, `region=eu;trace=00-1;`},
		{`{{ .Event.Headers.region }}{{ index .Event.Headers "none" | default "-" }}`, `eu-`},
		{`[{{ .Event.Headers.none }}] {{ default "none" .Event.Headers.none }} {{ if .Event.Headers.none }}yes{{ else }}no{{ end }}`, `[] none no`},
		{`{{ json .Event.Headers.none }} {{ .Event.Headers.none | upper | len }}`, `"" 0`},
		{`{{ default nil .Event.Key }} {{ .Event.Key | default nil | json }} {{ default nil (get .Payload "id") }}`, `null null "clx<1>"`},
		{`{{ .Event.Object }} {{ .Event.Action }} {{ .Endpoint.Name }} {{ .Endpoint.Tenant }}`, `leave_request approved erp acme`},
		{``, ``},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			if got := render(t, tt.text, view()); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestProductsBodies(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{
			"Byro",
			`{"event": {{ json .Event.Type }}, "data": {{ .Payload }}, "deliveredAt": {{ json (rfc3339 .Delivery.CreatedAt) }}}`,
			`{"event": "leave_request.approved", "data": {"n": 1.0}, "deliveredAt": "2026-05-22T09:30:00Z"}`,
		},
		{
			"Danbyte",
			`{"event": {{ json .Event.Action }}, "object": {{ json .Event.Object }}, "data": {{ .Payload }}}`,
			`{"event": "approved", "object": "leave_request", "data": {"n": 1.0}}`,
		},
		{
			"Bindbee",
			`{"webhook": {"webhook_id": {{ json .Endpoint.ID }}, "url": {{ json .Endpoint.URL }}, "event": {{ .Event.Type | replace "." "_" | json }}},` +
				` "connector": {{ get .Payload "connector" }}, "data": {{ get .Payload "n" }}}`,
			`{"webhook": {"webhook_id": "10c9a6b1-4ea8-476e-bdb0-193001a94a8d", "url": "https://erp.acme.example/hooks?a=1&b=2", "event": "leave_request_approved"},` +
				` "connector": null, "data": 1.0}`,
		},
		{
			"Offly",
			`{"id": "wh_evt_{{ ulid .Event.ID }}", "type": {{ json .Event.Type }}, "created_at": {{ json (rfc3339 .Event.CreatedAt) }}, "data": {{ .Payload }}}`,
			`{"id": "wh_evt_01HYCY5V9TFX6AX5W3TRCVVYAW", "type": "leave_request.approved", "created_at": "2026-05-22T09:30:00Z", "data": {"n": 1.0}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := view()
			v.Payload = `{"n": 1.0}`
			got := render(t, tt.text, v)
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err := Valid([]byte(got)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEventsWithoutHeadersHaveEmptyOnes(t *testing.T) {
	v := view()
	v.Event.Headers = nil
	const text = `[{{ .Event.Headers.note }}] {{ default "none" .Event.Headers.note }} {{ index .Event.Headers "note" | default "-" }}`
	if got, want := render(t, text, v), `[] none -`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEndpointURLHasNoCredentials(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:hunter2@erp.example/hooks?a=1": "https://erp.example/hooks?a=1",
		"https://hunter2@erp.example":                "https://erp.example",
		"https://erp.example/?mail=a@b":              "https://erp.example/?mail=a@b",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := EndpointURL(u); got != want || u.String() != in {
			t.Errorf("%s: got %s, and it is now %s", in, got, u)
		}
	}
}

func TestInvalidUTF8BecomesValidJSON(t *testing.T) {
	v := view()
	v.Event.Key = "a\xffb"
	if got, want := render(t, `{{ json .Event.Key }}`, v), `"a\ufffdb"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseTemplateFindsMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{{ .Event.Typo }}`, `can't evaluate field Typo in type transforms.Event`},
		{"a\n{{ .Nope }}", `template:2:3: executing`},
		{`{{ nope }}`, `function "nope" not defined`},
		{`{{ .Event.Type`, `unclosed action`},
		{`{{ get .Payload }}`, `wrong number of args for get: want 2 got 1`},
		{`{{ get .Event.Type "a" }}`, `wrong type for value; expected transforms.JSON; got string`},
		{`{{ get .Payload "a..b" }}`, `error calling get: the path has an empty step`},
		{`{{ rfc3339 .Event.Type }}`, `wrong type for value; expected time.Time; got string`},
		{`{{ ulid "abc" }}`, `error calling ulid: the text is not a UUID`},
		{`{{ ulid "018f99e2-ed3a-7f4c-ae97-83d619bdf95x" }}`, `error calling ulid: the text is not a UUID`},
		{`{{ replace "" "x" .Event.Type }}`, `error calling replace: there is nothing to replace`},
		{`{{ printf "%99999d" 1 }}`, `error calling printf: widths, precisions and indexes are not supported`},
		{`{{ printf "%[1]s%[1]s" "x" }}`, `widths, precisions and indexes`},
		{`{{ .Event.Headers.note.text }}`, `can't evaluate field text in type string`},
		{`{{ if .Event.Type }}{{ or nil .Event.Key }}{{ end }}`, `template:1:23: nil is not supported as an argument of or`},
		{`{{ $x := (and .Event.Key nil) }}`, `nil is not supported as an argument of and`},
		{`{{ html "x" }}`, `template:1:3: function "html" is not supported`},
		{`{{ if true }}{{ (js "x").A }}{{ end }}`, `function "js" is not supported`},
		{`{{ with "x" }}{{ call . }}{{ end }}`, `function "call" is not supported`},
		{`{{ define "a" }}{{ end }}`, `define and block are not supported`},
		{`{{ define "a" }}{{ end }}{{ template "a" }}`, `template and block are not supported`},
		{`{{ range 1000000000 }}{{ end }}`, `range is supported over a field`},
		{`{{ range .Event.Headers }}{{ range $.Event.Headers }}{{ end }}{{ end }}`, `a range inside a range`},
		{`{{ .Event.CreatedAt.UnmarshalText "x" }}`, `can't evaluate field UnmarshalText in type time.Time`},
		{strings.Repeat("x", maxTemplate+1), `has 65537 bytes, at most 65536 are allowed`},
		{"\xff", `is not UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			_, err := ParseTemplate(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseTemplateAcceptsWhatOnlyTheSampleLacks(t *testing.T) {
	for _, text := range []string{
		`{{ .Event.Headers.traceparent }}`,
		`{{ index .Event.Headers "id" | ulid }}`,
		`{{ get .Payload "id" | ulid }}`,
		`{{ ulid .Event.Key }}`,
	} {
		if _, err := ParseTemplate(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestExecuteFailsForAViewWithoutQuotingIt(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{{ ulid .Event.Tenant }}`, `error calling ulid: the text is not a UUID`},
		{`{{ get .Payload "absent" | ulid }}`, `error calling ulid: the text is not a UUID`},
		{`{{ get .Payload "a" }}`, `error calling get: invalid JSON at byte 0: no value begins like this`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			parsed, err := ParseTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			v := view()
			v.Event.Tenant = "hunter2"
			if tt.text == `{{ get .Payload "a" }}` {
				v.Payload = "hunter2"
			}
			err = parsed.Execute(io.Discard, v)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestOutputIsBounded(t *testing.T) {
	parsed, err := ParseTemplate(`{"data": {{ .Payload }}}`)
	if err != nil {
		t.Fatal(err)
	}
	v := view()
	size := int64(len(v.Payload) + len(`{"data": }`))
	if err := parsed.Execute(LimitWriter(io.Discard, size), v); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := parsed.Execute(LimitWriter(io.Discard, size-1), v); !errors.Is(err, ErrTooLarge) {
		t.Errorf("beyond the limit: got %v, want ErrTooLarge", err)
	}

	doubling := `{{ $x := .Event.ID }}` + strings.Repeat(`{{ $x = print $x $x }}`, 40)
	if _, err := ParseTemplate(doubling); err == nil || !strings.Contains(err.Error(), errTextTooLarge.Error()) {
		t.Errorf("doubling a text: got %v, want %v", err, errTextTooLarge)
	}
}

func TestIsPayloadAndLiteral(t *testing.T) {
	tests := []struct {
		text      string
		isPayload bool
		literal   string
		isLiteral bool
	}{
		{"{{ .Payload }}", true, "", false},
		{"{{.Payload}}", true, "", false},
		{"{{-  .Payload\n-}}", true, "", false},
		{"{{ .Payload }}\n", false, "", false},
		{"{{ .Payload | print }}", false, "", false},
		{"{{ json .Payload }}", false, "", false},
		{"{{ $x := .Payload }}", false, "", false},
		{"{{ .Event.Type }}", false, "", false},
		{"application/json", false, "application/json", true},
		{"a {{- /* nothing */ -}} b", false, "ab", true},
		{"", false, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			parsed, err := ParseTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			literal, isLiteral := parsed.Literal()
			if parsed.IsPayload() != tt.isPayload || literal != tt.literal || isLiteral != tt.isLiteral {
				t.Errorf("got %t, %q, %t; want %t, %q, %t",
					parsed.IsPayload(), literal, isLiteral, tt.isPayload, tt.literal, tt.isLiteral)
			}
		})
	}
}

func TestSplitType(t *testing.T) {
	for _, tt := range []struct{ in, object, action string }{
		{"device.created", "device", "created"},
		{"a.b.c", "a.b", "c"},
		{"plain", "plain", ""},
		{"trailing.", "trailing", ""},
		{"", "", ""},
	} {
		if object, action := SplitType(tt.in); object != tt.object || action != tt.action {
			t.Errorf("%q: got %q, %q; want %q, %q", tt.in, object, action, tt.object, tt.action)
		}
	}
}

func FuzzULID(f *testing.F) {
	f.Add("018f99e2-ed3a-7f4c-ae97-83d619bdf95c")
	f.Add("FFFFFFFF-ffff-ffff-ffff-ffffffffffff")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ulid(text)
		if err != nil {
			return
		}
		want, ok := new(big.Int).SetString(strings.ReplaceAll(text, "-", ""), 16)
		if !ok {
			t.Fatalf("%q is no UUID and has the ULID %s", text, got)
		}
		number := new(big.Int)
		for _, c := range got {
			number.Add(number.Lsh(number, 5), big.NewInt(int64(strings.IndexRune(crockford, c))))
		}
		if len(got) != 26 || number.Cmp(want) != 0 {
			t.Errorf("%s: got %s", text, got)
		}
	})
}

func FuzzParseTemplate(f *testing.F) {
	f.Add(`{{ json .Event.Type }}{{ range .Event.Headers }}{{ . }}{{ end }}`)
	f.Add(`{{ $x := default nil .Event.Key }}{{ $x }}{{ or .Event.Headers.none .Event.Key | default nil }}`)
	f.Add(`{{ with $x := get .Payload "a" }}{{ printf "%q" $x }}{{ else }}{{ break }}{{ end }}`)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseTemplate(text)
		if err != nil {
			return
		}
		var out strings.Builder
		err = parsed.Execute(&out, &sample)
		if strings.Contains(out.String(), "<no value>") && !strings.Contains(text, "no value") {
			t.Errorf("%q yields %q", text, out.String())
		}
		if literal, ok := parsed.Literal(); ok && (err != nil || out.String() != literal) {
			t.Errorf("literal %q yields %q, %v", literal, out.String(), err)
		}
		if parsed.IsPayload() && (err != nil || out.String() != string(sample.Payload)) {
			t.Errorf("payload yields %q, %v", out.String(), err)
		}
	})
}

func BenchmarkExecute(b *testing.B) {
	parsed, err := ParseTemplate(`{"event": {{ json .Event.Type }}, "data": {{ .Payload }}, "deliveredAt": {{ json (rfc3339 .Delivery.CreatedAt) }}}`)
	if err != nil {
		b.Fatal(err)
	}
	v := view()
	v.Payload = JSON(`{"text": ` + strings.TrimSpace(mustJSON(strings.Repeat("x", 500))) + `}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := parsed.Execute(io.Discard, v); err != nil {
			b.Fatal(err)
		}
	}
}

func mustJSON(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(out)
}
