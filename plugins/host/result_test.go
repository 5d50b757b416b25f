package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
)

func TestAResultIsAppliedOnlyWhereAllOfItIsValid(t *testing.T) {
	headers := func(n int) map[string]string {
		h := map[string]string{}
		for i := range n {
			h[fmt.Sprintf("X-%d", i)] = "v"
		}
		return h
	}
	changed := func(c *pluginv1.Change) *pluginv1.Result {
		return &pluginv1.Result{Outcome: &pluginv1.Result_Change{Change: c}}
	}
	withHeaders := func(h map[string]string) *pluginv1.Result {
		return changed(&pluginv1.Change{Type: proto.String("new"), Payload: []byte("1"), Headers: &pluginv1.Headers{Values: h}})
	}
	failed := func(text string) *pluginv1.Result {
		return &pluginv1.Result{Outcome: &pluginv1.Result_Failure{Failure: &pluginv1.Failure{Message: text}}}
	}
	tests := []struct {
		name   string
		result *pluginv1.Result
		want   string // error
	}{
		{"nothing", changed(&pluginv1.Change{}), ""},
		{"everything", withHeaders(headers(maxHeaders)), ""},
		{"no headers", withHeaders(nil), ""},
		{"longest type", changed(&pluginv1.Change{Type: proto.String(strings.Repeat("x", 255))}), ""},
		{"long type", changed(&pluginv1.Change{Type: proto.String(strings.Repeat("x", 256))}), "type of 256 bytes: must be 1 to 255"},
		{"empty type", changed(&pluginv1.Change{Type: proto.String(""), Payload: []byte("1")}), "type of 0 bytes"},
		{"type in lines", changed(&pluginv1.Change{Type: proto.String("a\nb")}), "type that is not printable"},
		{"empty payload", changed(&pluginv1.Change{Type: proto.String("new"), Payload: []byte{}}), "payload that is not JSON"},
		{"two payloads", changed(&pluginv1.Change{Payload: []byte("1 2")}), "payload that is not JSON"},
		{"payload in Latin-1", changed(&pluginv1.Change{Payload: []byte("\"\xe4\"")}), "payload that is not UTF-8"},
		{"many headers", withHeaders(headers(maxHeaders + 1)), "101 headers: at most 100"},
		{"header's name", withHeaders(map[string]string{"X Y": "v"}), `header name that is none of HTTP's: "X Y"`},
		{"header without name", withHeaders(map[string]string{"": "v"}), "header name that is none of HTTP's"},
		{"header with a break", withHeaders(map[string]string{"X": "a\r\nHost: b"}), "control character in header X"},
		{"long header", withHeaders(map[string]string{"X": strings.Repeat("v", maxHeaderValue+1)}), "8193 bytes for header X"},
		{"a header that it had", withHeaders(map[string]string{"was there": "a\tb"}), ""},
		{"a header that it had, changed", withHeaders(map[string]string{"was there": "new"}), "header name that is none of HTTP's"},
		{"failure", failed("one\ntwo\x00" + strings.Repeat("x", 1000)), "one two " + strings.Repeat("x", 501) + "…"},
		{"failure without a text", failed(" \n"), "failed without saying why"},
		{"skip", &pluginv1.Result{Outcome: &pluginv1.Result_Skip{Skip: &pluginv1.Skip{Reason: "a\nb"}}}, "skipped: a b"},
		{"no outcome", &pluginv1.Result{}, "neither change nor skip nor failure"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			message, err := proto.Marshal(tt.result)
			if err != nil {
				t.Fatal(err)
			}
			e := &plugins.Event{Type: "old", Payload: []byte("0"), Headers: map[string]string{"was there": "a\tb"}}
			err = apply(e, message)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			c := tt.result.GetChange()
			want := plugins.Event{Type: "old", Payload: []byte("0"), Headers: map[string]string{"was there": "a\tb"}}
			if err == nil && c.Type != nil {
				want.Type = c.GetType()
			}
			if err == nil && c.Payload != nil {
				want.Payload = c.Payload
			}
			if err == nil && c.Headers != nil {
				want.Headers = c.Headers.GetValues()
			}
			if e.Type != want.Type || !bytes.Equal(e.Payload, want.Payload) || !maps.Equal(e.Headers, want.Headers) {
				t.Errorf("event is %+v, want %+v", *e, want)
			}
		})
	}
}

// What is small on the way may be large in memory, or take long to decode.
func TestAResultThatWouldGrowIsNotDecoded(t *testing.T) {
	field := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	entry := field(1, field(1, []byte("X-A"))) // of the same key: decoded they are one header
	for _, tt := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"headers", field(1, field(3, bytes.Repeat(entry, 101))), "answered with 101 headers: at most 100"},
		{"maps of headers", field(1, bytes.Repeat(field(3, entry), 2)), "headers more than once"},
		{"outcomes", append(field(1, nil), field(2, nil)...), "more than one outcome"},
		{"outcomes of one kind", bytes.Repeat(field(1, nil), 2), "more than one outcome"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := apply(&plugins.Event{}, tt.message); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	for _, results := range [][]*pluginv1.Result{
		nil, {{}},
		{{Outcome: &pluginv1.Result_Change{Change: &pluginv1.Change{Type: proto.String("t"), Payload: []byte("[]")}}}, {}},
	} {
		seed, err := proto.Marshal(&pluginv1.TransformResponse{Results: results})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		b := &batch{}
		for range 2 {
			b.events = append(b.events, &plugins.Event{Type: "old", Payload: []byte("0")})
			b.errs = append(b.errs, new(error))
		}
		if err := b.apply(answer); err != nil {
			for _, e := range b.events {
				if e.Type != "old" || string(e.Payload) != "0" {
					t.Errorf("changed by an answer that is none: %+v", e)
				}
			}
			return
		}
		var response pluginv1.TransformResponse
		if proto.Unmarshal(answer, &response) == nil && len(response.GetResults()) != 2 {
			t.Errorf("%d results for two events", len(response.GetResults()))
		}
		for i, e := range b.events {
			if e.Type == "" || !utf8.ValidString(e.Type) || !utf8.Valid(e.Payload) || !json.Valid(e.Payload) {
				t.Errorf("event is %+v", e)
			}
			if err := *b.errs[i]; err != nil && (e.Type != "old" || string(e.Payload) != "0") {
				t.Errorf("changed beside error %v: %+v", err, e)
			}
		}
	})
}
