package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMaskedShowsAllButSecrets(t *testing.T) {
	cfg, err := Load("testdata/full.yaml", fullEnviron)
	if err != nil {
		t.Fatal(err)
	}
	got := string(cfg.Masked())
	for _, secret := range []string{"hunter2", "own-secret", "whsec_", "0123", "older", "client-secret", "basic-secret", "stripe-", "9f86d081"} {
		if strings.Contains(got, secret) {
			t.Errorf("shows %s", secret)
		}
	}
	if *update {
		if err := os.WriteFile("testdata/full.masked.yaml", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/full.masked.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestMaskedShowsReferencesInsteadOfTheirValues(t *testing.T) {
	cfg := mustParse(t, "a.yaml", `
profiles:
  acme: {headers: {X-Token: "literal", X-Trace: "${TRACE}", X-Plain: "on"}, body: '{"k": "${TRACE}"}'}
endpoints:
  - {name: a, url: "https://a.example", events: [a], profile: acme, headers: {X-Own: "Bearer ${TRACE}", Authorization: "Bearer hunter2"}}
  - {name: b, url: "https://u:hunter2@a.example", events: [a]}
`, "TRACE=hunter2")
	got := string(cfg.Masked())
	if strings.Contains(got, "hunter2") || strings.Contains(got, "literal") {
		t.Errorf("shows a secret:\n%s", got)
	}
	for text, times := range map[string]int{"X-Trace: ${TRACE}": 2, "X-Own: Bearer ${TRACE}": 1, `{"k": "${TRACE}"}`: 2, "X-Plain: \"on\"": 2} {
		if n := strings.Count(got, text); n != times {
			t.Errorf("%s stands there %d times, want %d:\n%s", text, n, times, got)
		}
	}
}

func TestMaskedOfTheDefaults(t *testing.T) {
	if got := string(Default().Masked()); !strings.Contains(got, "listen: 127.0.0.1:8080") || !strings.Contains(got, "retention: 168h") {
		t.Errorf("got %s", got)
	}
}

func TestMaskedHidesASecretThatStandsOnceMore(t *testing.T) {
	path := t.TempDir() + "/posthorn.yaml"
	text := "database: {url: postgres://db/app}\nendpoints:\n  - {name: erp, url: 'https://erp.example', events: [a], secret: hunter2-endpoint, body: 'key=hunter2-endpoint', headers: {X-Note: with hunter2-endpoint}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cfg.Masked()); strings.Contains(got, "hunter2") || !strings.Contains(got, "key=***") {
		t.Errorf("shows %s", got)
	}
}
