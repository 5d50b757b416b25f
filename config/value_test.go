package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestSecretsAreNeverPrinted(t *testing.T) {
	type holder struct {
		Secret Secret
		URL    URL
		List   []Secret
	}
	h := holder{Secret: "hunter2", URL: "postgres://relay:hunter2@db/app?sslpassword=hunter2", List: []Secret{"hunter2"}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+verb+"\n", h.Secret, h.URL)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", h.Secret, "url", h.URL, "all", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", h.Secret, "url", h.URL, "all", h)
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	out.Write(asYAML)
	for _, shape := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(out.String(), shape) {
			t.Errorf("a secret is shown:\n%s", out.String())
		}
	}
	if h.Secret.Reveal() != "hunter2" || !strings.Contains(h.URL.Reveal(), "hunter2") {
		t.Error("Reveal does not give the text")
	}
}

func TestURLsAreShownWithoutCredentials(t *testing.T) {
	tests := map[URL]string{
		"":                            "",
		"https://a.example/x?y=1":     "https://a.example/x?y=1",
		"https://u:p@a.example":       "https://***@a.example",
		"https://u@a.example/x@y?z=@": "https://***@a.example/x@y?z=@",
		"postgres://h/db?pass%77ord=p&sslmode=on": "postgres://h/db?pass%77ord=***&sslmode=on",
		"https://a.example/?%zz=p":                "https://a.example/?%zz=***",
		"postgres://u:p/w@h:1/db":                 mask,
		"postgres://u:p@[h/db":                    mask,
		"host=a password=p user=u":                "host=a password=*** user=u",
		`password = 'it\'s p' host=a`:             "password =*** host=a",
		`sslpassword=a\ b host=a`:                 "sslpassword=*** host=a",
		"password='open host=a":                   "password=***",
	}
	for u, want := range tests {
		if got := u.String(); got != want {
			t.Errorf("%s: got %s, want %s", u.Reveal(), got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	tests := map[string]struct {
		want  Bytes
		ok    bool
		shown string
	}{
		"0":                      {0, true, "0"},
		"1000":                   {1000, true, "1000"},
		"1KB":                    {1000, true, "1000"},
		"2MB":                    {2e6, true, "2000000"},
		"1 GB":                   {1e9, true, "1000000000"},
		"3KiB":                   {3 << 10, true, "3KiB"},
		"16MiB":                  {16 << 20, true, "16MiB"},
		"1024MiB":                {1 << 30, true, "1GiB"},
		"999999999999999999GiB":  {},
		"99999999999999999999":   {},
		"1.5MiB":                 {},
		"-1":                     {},
		"16mib":                  {},
		"MiB":                    {},
		"":                       {},
		"0x10":                   {},
		"1 0":                    {},
		"12MiB and then some":    {},
		"8589934592GiB":          {},
		"9223372036854775807":    {},
		"922337203685477580 MiB": {},
	}
	for text, tt := range tests {
		got, ok := parseBytes(text)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %d %t, want %d %t", text, got, ok, tt.want, tt.ok)
		}
		if ok && got.String() != tt.shown {
			t.Errorf("%q: shown as %s, want %s", text, got, tt.shown)
		}
	}
}

func TestDurationsAreShownShort(t *testing.T) {
	tests := map[time.Duration]string{
		0: "0s", time.Second: "1s", 10 * time.Second: "10s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", time.Hour + time.Second: "1h0m1s", 168 * time.Hour: "168h", 100 * time.Millisecond: "100ms", 10 * time.Minute: "10m",
	}
	for d, want := range tests {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestSuggestions(t *testing.T) {
	tests := []struct {
		name, typed string
		want        bool
	}{
		{"url", "ulr", true}, {"url", "urls", true}, {"url", "tls", false}, {"timeout", "time_out", true}, {"timeout", "timout", true},
		{"listen", "tokens", false}, {"concurrency", "concurency", true}, {"retention", strings.Repeat("retention", 1000), false}, {"name", "", false},
	}
	for _, tt := range tests {
		if got := closeTo(tt.name, tt.typed); got != tt.want {
			t.Errorf("%s for %.20s: got %t", tt.name, tt.typed, got)
		}
	}
}

func TestStatusRanges(t *testing.T) {
	tests := map[string]struct {
		want     StatusRange
		has, not int
	}{
		"404": {StatusRange{404, 404}, 404, 405},
		"300": {StatusRange{300, 300}, 300, 299},
		"599": {StatusRange{599, 599}, 599, 600},
		"3xx": {StatusRange{300, 399}, 399, 400},
		"4xx": {StatusRange{400, 499}, 400, 399},
		"5xx": {StatusRange{500, 599}, 503, 600},
	}
	for text, tt := range tests {
		var got StatusRange
		if err := got.UnmarshalText([]byte(text)); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
		if !got.Contains(tt.has) || got.Contains(tt.not) {
			t.Errorf("%s: has %d %t, has %d %t", text, tt.has, got.Contains(tt.has), tt.not, got.Contains(tt.not))
		}
		if got.String() != text {
			t.Errorf("%s: shown as %s", text, got)
		}
	}
}
