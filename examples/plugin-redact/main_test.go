package main

import (
	"os"
	"testing"
	"time"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/host"
)

// TestMain is the plugin where Posthorn's host has started the test binary.
func TestMain(m *testing.M) {
	if os.Getenv("POSTHORN_PLUGIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestCardNumbersAreMasked(t *testing.T) {
	tests := []struct{ name, payload, want string }{
		{"text", `{"card": "4111111111111111"}`, `{"card": "************1111"}`},
		{"with spaces", `{"card": "4111 1111 1111 1111"}`, `{"card": "**** **** **** 1111"}`},
		{"with dashes", `{"card": "3782-822463-10005"}`, `{"card": "****-******-*0005"}`},
		{"within a text", `{"note": "paid by 5555555555554444, thanks"}`, `{"note": "paid by ************4444, thanks"}`},
		{"a number", `{"card": 4111111111111111}`, `{"card": "************1111"}`},
		{"in an array", `["4111111111111111", [4111111111111111]]`, `["************1111", ["************1111"]]`},
		{"a key", `{"4111111111111111": 1}`, `{"************1111": 1}`},
		{"escaped", `{"card": "\u0034111111111111111"}`, `{"card": "************1111"}`},
		{"behind other digits", `{"note": "order 22 4111111111111111"}`, `{"note": "order 22 ************1111"}`},
		{"behind a date", `{"note": "2026-05-23 4111 1111 1111 1111 12/30"}`, `{"note": "2026-05-23 **** **** **** 1111 12/30"}`},
		{"in front of other digits", `{"note": "4111111111111111 22-12"}`, `{"note": "************1111 22-12"}`},
		{"two, side by side", `{"cards": "4111111111111111 5555555555554444"}`, `{"cards": "************1111 ************4444"}`},
		{"two", `{"cards": "4111111111111111/5555555555554444"}`, `{"cards": "************1111/************4444"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &plugins.Event{Payload: []byte(tt.payload)}
			if err := redact(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if string(e.Payload) != tt.want {
				t.Errorf("got  %s\nwant %s", e.Payload, tt.want)
			}
		})
	}
}

func TestAllElseKeepsItsBytes(t *testing.T) {
	for _, payload := range []string{
		`{"order": "4111111111111112",  "amount": 4500.10, "a": [1e3, -0, true, null]}`, // a wrong check digit
		`{"text": "a\"b\\ \u00fc <&> 123", "long": 12345678901234567890123}`,
		`{}`, `"4111"`, `0`,
	} {
		e := &plugins.Event{Payload: []byte(payload)}
		if err := redact(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if string(e.Payload) != payload {
			t.Errorf("got  %s\nwant %s", e.Payload, payload)
		}
	}
}

// TestPosthornRunsThePlugin sends an event the way that the relay does. It finds
// what a call of the function cannot: a main that does not serve.
func TestPosthornRunsThePlugin(t *testing.T) {
	plugin, err := host.Start(t.Context(), host.Options{
		Name: "redact", Path: os.Args[0], SocketDir: t.TempDir(),
		Timeout: 10 * time.Second, StartTimeout: time.Minute, Instances: 1, Batch: 10, MaxMessage: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close(t.Context())

	e := &plugins.Event{Type: "order.paid", Payload: []byte(`{"card": "4111111111111111"}`)}
	if err := plugin.Transform(t.Context(), []*plugins.Event{e})[0]; err != nil {
		t.Fatal(err)
	}
	const want = `{"card": "************1111"}`
	if string(e.Payload) != want {
		t.Errorf("got  %s\nwant %s", e.Payload, want)
	}
}
