package transforms

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func filter(t testing.TB, text string) *Filter {
	t.Helper()
	f, err := ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func filterEvent() Event {
	return Event{
		ID: "0192f0c1-2345-7abc-8def-0123456789ab", Type: "invoice.paid", Object: "invoice", Action: "paid", Tenant: "acme",
		CreatedAt: time.Date(2026, 5, 22, 9, 30, 0, 0, time.UTC), Headers: map[string]string{"source": "erp", "x-priority": "high"},
	}
}

const filterPayload = JSON(`{
	"amount": 4500, "fraction": 4500.5, "exponent": 1e4, "huge": 9223372036854775807, "unsigned": 18446744073709551615,
	"beyond": 28446744073709551616, "infinite": -1e999, "zero": 0, "flag": true, "status": "open", "nothing": null,
	"customer": {"name": "Ada", "odd key": 1}, "lines": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 20}, {"sku": "c"}],
	"tags": ["x", "y"], "repeated": 1, "repeated": 2, "secret": "hunter2("
}`)

func TestFilterMatches(t *testing.T) {
	tests := []struct {
		text string
		want bool
	}{
		{`id == "0192f0c1-2345-7abc-8def-0123456789ab"`, true},
		{`type == "invoice.paid" && object == "invoice" && action == "paid"`, true},
		{`type(type) == string`, true},
		{`tenant == "acme" && key == ""`, true},
		{`headers.source == "erp" && headers["x-priority"] == "high"`, true},
		{`"source" in headers && !("other" in headers) && size(headers) == 2`, true},
		{`created_at < timestamp("2026-06-01T00:00:00Z") && created_at.getFullYear() == 2026`, true},
		{`payload.amount > 1000`, true},
		{`payload.amount > 1000u && payload.amount > 1000.0`, true},
		{`payload.amount > 4500`, false},
		{`payload.amount == 4500.0 && payload.amount in [4500]`, true},
		{`payload.fraction > 4500 && payload.fraction < 4501`, true},
		{`payload.exponent == 10000`, true},
		{`payload.huge == 9223372036854775807 && payload.huge != 9223372036854775806`, true},
		{`payload.unsigned == 18446744073709551615u && payload.unsigned != 18446744073709551614u && payload.unsigned > payload.huge`, true},
		{`payload.beyond > payload.unsigned && type(payload.beyond) == double`, true},
		{`payload.infinite < -9223372036854775807`, true},
		{`1 < 1.5 && 2u > 1.5`, true},
		{`payload.flag`, true},
		{`!payload.flag`, false},
		{`payload.customer.name.startsWith("A") && payload.customer["odd key"] == 1`, true},
		{`payload.lines.exists(l, l.qty > 10)`, true},
		{`payload.lines.filter(l, has(l.qty)).all(l, l.qty > 0) && size(payload.lines) == 3`, true},
		{`payload.lines[1].sku == "b" && payload.tags[0] == "x" && "y" in payload.tags`, true},
		{`payload.repeated == 2`, true},
		{`payload.status in ["open", "new"] && payload.status.matches("^o[a-z]+$")`, true},
		{`payload.nothing == null && payload.amount != null`, true},
		{`payload.status == 1`, false},
		{"payload.amount > 1000 // in cents\n && payload.flag", true},

		{`has(payload.amount)`, true},
		{`has(payload.absent)`, false},
		{`!has(payload.absent)`, true},
		{`has(payload.nothing.x) || has(payload.status.x)`, false},
		{`has(payload.absent) && payload.absent > 1`, false},
		{`!has(payload.absent) || payload.absent > 1`, true},

		{`payload.absent > 1`, false},
		{`payload.absent != 1`, false},
		{`!(payload.absent == 1)`, false},
		{`payload.absent == null`, false},
		{`payload.absent`, false},
		{`payload.absent.deeper.still == 1`, false},
		{`payload.nothing.x == 1`, false},
		{`payload.status.x == 1`, false},
		{`payload.amount.x == 1`, false},
		{`payload.tags.x == 1`, false},
		{`payload.tags["x"] == 1`, false},
		{`has(payload.tags.x)`, false},
		{`!has(payload.tags.x)`, false},
		{`payload.tags[headers.source] == 1`, false},
		{`payload.tags.x == 1 || payload.flag`, true},
		{`payload.tags[2] == "z"`, false},
		{`payload.tags[-1] == "z"`, false},
		{`payload[headers.source] == 1`, false},
		{`headers.absent == ""`, false},
		{`payload.lines.all(l, l.qty > 0)`, false},
		{`size(payload.absent) == 0`, false},
		{`payload.absent > 1 ? true : true`, false},
		{`payload.absent > 1 || tenant == "acme"`, true},
		{`payload.absent > 1 || tenant == "other"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := filter(t, tt.text).Match(NewSubject(filterEvent(), filterPayload))
			if err != nil || got != tt.want {
				t.Errorf("got %t, %v, want %t", got, err, tt.want)
			}
		})
	}
}

func TestPayloadsThatAreNoObjectsDoNotMatch(t *testing.T) {
	for _, payload := range []JSON{`null`, `1`, `"text"`, `[]`, `[1]`, `true`, `{}`} {
		got, err := filter(t, `payload.amount > 1`).Match(NewSubject(Event{}, payload))
		if err != nil || got {
			t.Errorf("%s: got %t, %v, want false", payload, got, err)
		}
	}
	if got, err := filter(t, `payload == 1.0 && size(headers) == 0`).Match(NewSubject(Event{}, "1")); err != nil || !got {
		t.Errorf("a scalar: got %t, %v, want true", got, err)
	}
}

func TestParseFilterSaysWhatIsWrongAndWhere(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", " \n", "parse filter: is empty"},
		{"too long", strings.Repeat(" ", 5000) + "true", "parse filter: has 5004 bytes, at most 4096 are allowed"},
		{"not UTF-8", "\xff", "parse filter: is not UTF-8"},
		{"syntax", "payload.amount >", "parse filter: line 1, column 17: mismatched input '<EOF>'"},
		{"two lines", "true &&\n  paylod.x", "parse filter: line 2, column 3: undeclared reference to 'paylod'"},
		{"columns are characters", "'äö' == x", "parse filter: line 1, column 9: undeclared reference to 'x'"},
		{"types", `type == 1`, "parse filter: line 1, column 6: found no matching overload for '_==_' applied to '(string, int)'"},
		{"a string", `type`, "parse filter: yields string, must yield bool"},
		{"a number", `size(payload.lines)`, "parse filter: yields int, must yield bool"},
		{"a list", `[true]`, "parse filter: yields list(bool), must yield bool"},
		{"a header", `headers.x`, "parse filter: yields string, must yield bool"},
		{"unknown function", `now() > created_at`, "parse filter: line 1, column 4: undeclared reference to 'now'"},
		{"regular expression", `type.matches("(")`, "parse filter: line 1, column 14: invalid matches argument"},
		{"regular expression of the payload", `true || type.matches(payload.secret)`, "parse filter: line 1, column 29: the pattern of matches must be a literal"},
		{"huge regular expression", `type.matches("((a{100}){10}){10}")`, "parse filter: "},
		{"timestamp", `created_at > timestamp("yesterday")`, "parse filter: line 1, column 24: invalid timestamp argument"},
		{"loops in loops", `[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))`, "parse filter: line 1, column 41: comprehension exceeds nesting limit"},
		{"deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "parse filter: "},
		{"lists in lists", strings.Repeat("[", 200) + strings.Repeat("]", 200) + " == []", "parse filter: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseFilter(tt.text)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestMatchErrorsNameThePlaceAndQuoteNothing(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no boolean", `payload.secret`, "evaluate filter: yields string, must yield bool"},
		{"null", `payload.nothing`, "evaluate filter: yields null_type, must yield bool"},
		{"comparison", `true && payload.secret > 1`, `evaluate filter: line 1, column 24: ">" cannot take the values that it gets`},
		{"second line", "true &&\n payload.secret > 1", `evaluate filter: line 2, column 17: ">" cannot take the values that it gets`},
		{"negation", `!payload.secret`, `evaluate filter: line 1, column 1: "!" cannot take the values that it gets`},
		{"division", `1 / payload.zero == 1`, `evaluate filter: line 1, column 3: "/" cannot take the values that it gets`},
		{"overflow", `payload.huge + 1 > 0`, `evaluate filter: line 1, column 14: "+" cannot take the values that it gets`},
		{"conversion", `int(payload.secret) == 1`, `evaluate filter: line 1, column 4: "int" cannot take the values that it gets`},
		{"timestamp", `timestamp(payload.secret) < created_at`, `evaluate filter: line 1, column 10: "timestamp" cannot take the values that it gets`},
		{"matching", `payload.zero.matches("0")`, `evaluate filter: line 1, column 21: "matches" cannot take the values that it gets`},
		{"condition", `payload.secret ? true : false`, `evaluate filter: line 1, column 16: "?:" cannot take the values that it gets`},
		{"method", `payload.secret.getHours() == 1`, `evaluate filter: `},
		{"iteration", `payload.amount.all(x, true)`, `evaluate filter: `},
	}
	subject := NewSubject(filterEvent(), filterPayload)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := filter(t, tt.text).Match(subject)
			if got || err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("got %t, %v\nwant %s", got, err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("quotes the payload: %v", err)
			}
		})
	}
}

func TestFilterCostIsBounded(t *testing.T) {
	lines := strings.TrimSuffix(strings.Repeat(`{"sku":"abc","qty":12,"tags":["a","b"]},`, 5000), ",")
	payload := fmt.Sprintf(`{"lines": [%s], "text": "%s"}`, lines, strings.Repeat("0", 1<<20))
	subject := NewSubject(filterEvent(), JSON(payload))
	for _, text := range []string{
		`payload.lines.all(a, payload.lines.all(b, payload.lines.all(c, true)))`,
		`payload.lines.all(l, payload.lines == payload.lines)`,
		`payload.lines.all(l, !(payload.lines in [payload.lines, 1]))`,
		`payload.lines.all(l, !("x" in payload.lines))`,
		`payload.lines.all(l, size(payload.text) > 1)`,
		`payload.lines.all(l, payload.text + "x" != "")`,
		`payload.lines.all(l, payload.text >= payload.text)`,
		`payload.lines.all(l, int(payload.text) == 0)`,
		`payload.lines.all(l, timestamp(payload.text) == created_at || true)`,
		`payload.lines.all(l, payload.text.matches("^(0*)*0$"))`,
		`payload.text.matches("(0{100}){9}1")`,
		`payload.lines.map(l, payload.text + l.sku) == []`,
		`payload.lines.map(l, payload.lines + payload.lines) == []`,
	} {
		t.Run(text, func(t *testing.T) {
			got, err := filter(t, text).Match(subject)
			if got || err == nil || err.Error() != "evaluate filter: costs more than a filter may" {
				t.Errorf("got %t, %v, want an error", got, err)
			}
		})
	}
	for _, text := range []string{`payload.lines[4999].qty == 12`, `payload.lines.exists(l, l.qty == 12 && l.sku == "abc")`, `payload.lines.all(l, "a" in l.tags)`, `payload.text.contains("0")`,
		`payload.text.matches("(0{100}){9}1") || true`, // refused before the work, not charged after it
	} {
		if got, err := filter(t, text).Match(subject); !got || err != nil {
			t.Errorf("%s: got %t, %v, want true", text, got, err)
		}
	}
}

func TestPayloadThatIsNoJSONIsAnError(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	for _, text := range []string{`payload.x == 1`, `has(payload.x)`, `payload == 1`} {
		for _, payload := range []JSON{`{"hunter2`, ``, `{} {}`, JSON(deep)} {
			s := NewSubject(Event{}, payload)
			for range 2 { // the second time without decoding
				got, err := filter(t, text).Match(s)
				if got || err == nil || !strings.HasPrefix(err.Error(), "evaluate filter: payload: invalid JSON at byte ") || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: got %t, %v", text, got, err)
				}
			}
		}
	}
	if got, err := filter(t, `type == ""`).Match(NewSubject(Event{}, "{")); !got || err != nil {
		t.Errorf("a filter that does not look: got %t, %v, want true", got, err)
	}
}

func TestPayloadIsDecodedOnce(t *testing.T) {
	s := NewSubject(Event{}, `{"a": 1}`)
	if _, err := filter(t, `payload.a == 1`).Match(s); err != nil {
		t.Fatal(err)
	}
	s.text = "not JSON"
	if got, err := filter(t, `payload.a == 1 && payload.a > 0`).Match(s); !got || err != nil {
		t.Errorf("got %t, %v, want true", got, err)
	}
}

func TestFilterIsSafeForConcurrentUse(t *testing.T) {
	f := filter(t, `payload.lines.exists(l, l.qty > 10) && headers.source == "erp" && payload.amount > 1`)
	wrong := filter(t, `payload.secret > 1`)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				s := NewSubject(filterEvent(), filterPayload)
				if got, err := f.Match(s); !got || err != nil {
					t.Errorf("got %t, %v, want true", got, err)
				}
				if _, err := wrong.Match(s); err == nil {
					t.Error("got no error")
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkFilterMatch(b *testing.B) {
	f := filter(b, `payload.amount > 1000 && headers.source == "erp"`)
	event := filterEvent()
	for name, s := range map[string]func() *Subject{
		"decoded":  func() func() *Subject { s := NewSubject(event, filterPayload); return func() *Subject { return s } }(),
		"decoding": func() *Subject { return NewSubject(event, filterPayload) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := f.Match(s()); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
