package transforms

import (
	"context"
	"fmt"
	"testing"
)

// benchmarked are the transforms that are measured. Each does something usual,
// and finds what it looks for.
var benchmarked = []struct {
	kind string
	make func() (Transform, error)
}{
	{"none", func() (Transform, error) {
		return Each(func(context.Context, *Message) error { return nil }), nil
	}},
	{"set", func() (Transform, error) { return NewSet(map[string]string{"source": `"hr"`, "meta.version": "2"}) }},
	{"remove", func() (Transform, error) { return NewRemove([]string{"employee.ssn", "lines.*.cost"}) }},
	{"rename", func() (Transform, error) { return NewRename(map[string]string{"employee.ssn": "nationalId"}) }},
	{"redact/mask", func() (Transform, error) {
		return NewRedact(RedactOptions{Paths: []string{"employee.ssn", "employee.iban"}})
	}},
	{"redact/hash", func() (Transform, error) {
		return NewRedact(RedactOptions{Paths: []string{"employee.ssn", "employee.iban"}, Mode: "hash", Secret: []byte("a secret of tests")})
	}},
	{"jq", func() (Transform, error) { return NewJQ(`.payload | del(.employee.ssn)`) }},
	{"template", func() (Transform, error) {
		return NewTemplate(`{"type": {{ json .Event.Type }}, "data": {{ .Payload }}}`)
	}},
	{"filter", func() (Transform, error) { return NewFilter(`payload.amount > 1000`) }},
	{"schema", func() (Transform, error) { return NewSchema(SchemaOptions{Schemas: benchmarkSchemas}) }},
	{"type", func() (Transform, error) { return NewType(`v2.{{ .Event.Type }}`) }},
	{"headers", func() (Transform, error) {
		return NewHeaders(map[string]string{"X-Status": `{{ get .Payload "status" | print }}`})
	}},
}

var benchmarkSchemas = map[string]string{"employee.updated": `{
	"type": "object",
	"required": ["id", "employee"],
	"properties": {
		"id": {"type": "string"},
		"amount": {"type": "number", "minimum": 0},
		"employee": {"type": "object", "required": ["id"], "properties": {"name": {"type": "string", "maxLength": 100}}},
		"lines": {"type": "array", "items": {"type": "object", "properties": {"quantity": {"type": "integer"}}}}
	}
}`}

// benchmarkPayload returns a payload of about size bytes.
func benchmarkPayload(size int) []byte {
	payload := []byte(`{"id": "clx8f3k2p0001", "status": "submitted", "amount": 4500.50, "currency": "CHF", "createdAt": "2026-05-22T09:30:00Z", ` +
		`"employee": {"id": 7, "name": "Zoë Müller", "ssn": "756.1234.5678.97", "iban": "CH9300762011623852957"}, "meta": {"version": 1}, "lines": [`)
	for i := 0; i == 0 || len(payload) < size-90; i++ {
		if i > 0 {
			payload = append(payload, ", "...)
		}
		payload = fmt.Appendf(payload, `{"sku": "A-%04d", "text": "Line \u0026 more", "quantity": %d, "cost": 12.25, "tags": ["a", null]}`, i, i)
	}
	return append(payload, "]}"...)
}

// BenchmarkTransforms measures how many events a second one goroutine
// transforms.
func BenchmarkTransforms(b *testing.B) {
	for _, bm := range benchmarked {
		transform, err := bm.make()
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{512, 16 << 10} {
			payload := benchmarkPayload(size)
			for _, batch := range []int{1, 256} {
				b.Run(fmt.Sprintf("%s/bytes=%d/batch=%d", bm.kind, size, batch), func(b *testing.B) {
					benchmarkTransform(b, transform, payload, batch)
				})
			}
		}
	}
}

func benchmarkTransform(b *testing.B, transform Transform, payload []byte, size int) {
	event := Event{
		ID: "019709a4-5a60-7000-8000-000000000001", Type: "employee.updated", Object: "employee", Action: "updated",
		Tenant: "acme", Key: "7", Headers: map[string]string{"Source": "hr"},
	}
	messages := make([]Message, size)
	batch := make([]*Message, size)
	for i := range messages {
		batch[i] = &messages[i]
	}
	b.SetBytes(int64(size * len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		for i := range messages {
			messages[i] = Message{Committed: event.Type, Event: event, Payload: payload}
		}
		transform.Transform(b.Context(), batch)
	}
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
	for _, m := range batch {
		if m.Err != nil || m.Skipped != "" {
			b.Fatalf("error %v, skipped %q", m.Err, m.Skipped)
		}
	}
}

func TestBenchmarkedTransformsDoSomething(t *testing.T) {
	for _, bm := range benchmarked {
		transform, err := bm.make()
		if err != nil {
			t.Fatal(err)
		}
		payload := string(benchmarkPayload(512))
		got := transformed(t, transform, payload)
		switch bm.kind {
		case "none", "filter", "schema", "type", "headers":
			if got != payload {
				t.Errorf("%s: got %s, want the payload as it was", bm.kind, got)
			}
		default:
			if got == payload {
				t.Errorf("%s changed nothing", bm.kind)
			}
		}
	}
}
