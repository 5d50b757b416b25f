package signing_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/relay/signing"
)

// drivers call the function verify of a snippet with what they read from
// standard input, and say "accepted" or "refused".
var drivers = map[string]struct{ program, file, code string }{
	"js": {"node", "driver.mjs", `
import { readFileSync } from "node:fs";
import { verify } from "./snippet.mjs";
const { headers, body, secret } = JSON.parse(readFileSync(0, "utf8"));
try { verify(headers, Buffer.from(body), secret); console.log("accepted"); } catch (e) { console.log("refused: " + e.message); }
`},
	"python": {"python3", "driver.py", `
import json, sys
from snippet import verify
given = json.load(sys.stdin)
try:
    verify(given["headers"], given["body"].encode(), given["secret"])
    print("accepted")
except ValueError as e:
    print("refused:", e)
`},
}

// TestReadmeSnippetsVerify runs the README's snippets for other languages.
func TestReadmeSnippetsVerify(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(at time.Time, body string, secrets ...string) map[string]string {
		var keys []signing.Key
		for _, s := range secrets {
			key, err := signing.ParseKey("standard-webhooks", s)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		headers, err := signer.Sign(signing.Message{ID: "msg_1", Timestamp: at, Body: []byte(body)}, keys)
		if err != nil {
			t.Fatal(err)
		}
		sent := map[string]string{}
		for _, h := range headers {
			sent[strings.ToLower(h.Name)] = h.Value // as servers in both languages hand them on
		}
		return sent
	}
	const body, other = `{"name":"Zoë <&>"}`, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	tests := []struct {
		name    string
		headers map[string]string
		body    string
		want    string
	}{
		{"signed", sign(time.Now(), body, secret), body, "accepted"},
		{"signed by the old secret too", sign(time.Now(), body, other, secret), body, "accepted"},
		{"tampered", sign(time.Now(), body, secret), body + " ", "refused"},
		{"wrong secret", sign(time.Now(), body, other), body, "refused"},
		{"too old", sign(time.Now().Add(-6*time.Minute), body, secret), body, "refused"},
		{"from the future", sign(time.Now().Add(6*time.Minute), body, secret), body, "refused"},
		{"timestamp is no number", map[string]string{"webhook-id": "msg_1", "webhook-timestamp": "NaN", "webhook-signature": "v1,AA=="}, body, "refused"},
		{"malformed signature", map[string]string{"webhook-id": "msg_1", "webhook-timestamp": sign(time.Now(), body, secret)["webhook-timestamp"], "webhook-signature": "v1 , v1,é"}, body, "refused"},
		{"no signature", map[string]string{}, body, "refused"},
	}
	for language, driver := range drivers {
		t.Run(language, func(t *testing.T) {
			snippet := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(readme)
			if snippet == nil {
				t.Fatalf("the README has no snippet in %s", language)
			}
			dir := t.TempDir()
			for name, code := range map[string]string{"snippet" + filepath.Ext(driver.file): string(snippet[1]), driver.file: driver.code} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(code), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, tt := range tests {
				input, err := json.Marshal(map[string]any{"headers": tt.headers, "body": tt.body, "secret": secret})
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), driver.program, driver.file)
				cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(input))
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.HasPrefix(string(out), tt.want) {
					t.Errorf("%s: got %s, %v; want %s", tt.name, out, err, tt.want)
				}
			}
		})
	}
}
