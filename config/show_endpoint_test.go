package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEndpointsAreShownWithoutSecrets(t *testing.T) {
	cfg, err := parse("a.yaml", []byte(`
database: {url: "postgres://localhost/app"}
profiles:
  acme: {timeout: 3s, headers: {X-From: "${PLACE}", X-Token: hunter2, X-Event: "{{ .Event.Type }}"}, auth: {bearer: {token: hunter2}}, retry: {schedule: [1s, 1h]}}
endpoints:
  - {name: one, url: "https://one.example/?token=hunter2", events: ["*"], profile: acme, secret: "${SECRET}", headers: {X-Cost: "$${5}"}, concurrency: 2}
`), []string{"PLACE=hunter2", "SECRET=hunter2-hunter2-hunter2"}, false)
	if err != nil {
		t.Fatal(err)
	}
	own, effective := cfg.ShowEndpoint(0)
	const wantOwn = `{"name":"one","url":"https://one.example/?token=***","events":["*"],"profile":"acme","secret":"***","headers":{"X-Cost":"$${5}"},"concurrency":2}`
	if diff := cmp.Diff(wantOwn, string(own)); diff != "" {
		t.Error(diff)
	}
	document := []byte(`{"name":"two","url":"https://two.example?sig=hunter2","events":["*"],"profile":"acme","secret":"hunter2-hunter2-hunter2","headers":{"X-Cost":"${5}"}}`)
	endpoints, errs := cfg.ParseEndpoints([][]byte{document})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	for _, tt := range []struct{ shown, url, cost string }{
		{string(effective), "https://one.example/?token=***", "$${5}"},
		{string(cfg.ShowDocument(&endpoints[0], document)), "https://two.example?sig=***", "${5}"},
	} {
		if strings.Contains(tt.shown, "hunter2") {
			t.Errorf("it shows a secret: %s", tt.shown)
		}
		var got struct {
			URL, Timeout, Secret string
			Enabled              bool
			Headers              map[string]string
			Retry                struct{ Schedule []string }
			Auth                 struct{ Bearer struct{ Token string } }
		}
		if err := json.Unmarshal([]byte(tt.shown), &got); err != nil {
			t.Fatalf("%s: %v", tt.shown, err)
		}
		headers := map[string]string{"X-From": "${PLACE}", "X-Token": "***", "X-Event": "{{ .Event.Type }}", "X-Cost": tt.cost}
		if got.URL != tt.url || got.Timeout != "3s" || got.Secret != "***" || !got.Enabled || len(got.Retry.Schedule) != 2 || got.Auth.Bearer.Token != "***" {
			t.Errorf("it is shown as %s", tt.shown)
		}
		if diff := cmp.Diff(headers, got.Headers); diff != "" {
			t.Error(diff)
		}
	}
	profile := cfg.Profiles["acme"]
	plain := Profile{Headers: map[string]string{"X-Token": "{{ .Event.ID }}", "X-A": "b"}}
	if !profile.HasCredentials() || plain.HasCredentials() {
		t.Error("credentials of profiles are not told apart")
	}
}
