package dashboard

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestNumbersAreForPeople(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(999): "999", number(1000): "1,000", number(-1234567): "−1,234,567",
		decimal(0): "0", decimal(0.4): "0.4", decimal(41.37): "41.4", decimal(1234.5): "1,235", decimal(math.NaN()): dash,
		percent(1): "100 %", percent(0.99999): "99.99 %", percent(0.9931): "99.31 %", percent(0.00001): "0.01 %",
		byteSize(17): "17 B", byteSize(182 << 10): "182 KiB", byteSize(3 << 39): "1.5 TiB",
		duration(340 * time.Microsecond): "340 µs", duration(18 * time.Millisecond): "18 ms", duration(4200 * time.Millisecond): "4.2 s", duration(200 * time.Second): "3 min 20 s",
		duration(7*time.Hour + 12*time.Minute + 30*time.Second): "7 h 12 min", duration(31 * time.Hour): "1 d 7 h", duration(-time.Minute): "−1 min",
		cut(3, "äöü"): "äöü", cut(3, "äöüß"): "äö…", plural(1, "delivery", "deliveries"): "1 delivery", plural(1204, "delivery", "deliveries"): "1,204 deliveries",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTimesAreRelative(t *testing.T) {
	now := time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	for back, want := range map[time.Duration]string{
		0: "now", 400 * time.Millisecond: "now", 12 * time.Second: "12 s ago", 5 * time.Minute: "5 min ago", 30 * time.Hour: "30 h ago", 80 * time.Hour: "3 d ago", -3 * time.Minute: "in 3 min",
	} {
		if got := relative(now.Add(-back), now); got != want {
			t.Errorf("%v: got %q, want %q", back, got, want)
		}
	}
}

func TestAttemptsAreDrawnFromTheirFirstToTheirLastMoment(t *testing.T) {
	list := segments(2*time.Millisecond, 14*time.Millisecond, 31*time.Millisecond, 120*time.Millisecond, 128*time.Millisecond)
	if len(list) != 5 || spoken(list) != "DNS 2 ms, connect 14 ms, TLS 31 ms, wait for the answer 73 ms, read the answer 8 ms" {
		t.Errorf("got %q", spoken(list))
	}
	last := list[len(list)-1]
	if end := last.X + last.Width; math.Abs(end-1000) > 1 {
		t.Errorf("the drawing ends at %v, want 1000", end)
	}
	for _, hostile := range [][]segment{segments(time.Hour, time.Hour, time.Hour, time.Second, time.Second), segments(0, 0, 0, 0, time.Second), segments(-1, -1, -1, -1, 5)} {
		for _, s := range hostile {
			if s.X < 0 || s.Width < 0 || s.Width > 1000 {
				t.Errorf("%+v is drawn outside", s)
			}
		}
	}
}

func TestIndentedJSONIsBounded(t *testing.T) {
	nested := func(depth int, inner string) []byte {
		return []byte(strings.Repeat("[", depth) + inner + strings.Repeat("]", depth))
	}
	for name, text := range map[string][]byte{
		"deep": nested(9990, ""), "deep and long": nested(5000, strings.Repeat("1,", 25000)+"1"), "deep objects": []byte(strings.Repeat(`{"a":`, 9990) + "1" + strings.Repeat("}", 9990)),
		"deep and many": []byte("[" + strings.Repeat(string(nested(500, ""))+",", 60) + "1]"),
	} {
		if got := pretty(text); got != string(text) {
			t.Errorf("%s: %d bytes become %d, want them as they are", name, len(text), len(got))
		}
	}
	for _, text := range []string{`{"a":"[[[{{{,,,\\\"[[[","b":[1,[],{}]}`, `[]`, `7`, `"a:b"`, string(nested(200, "1"))} {
		var want bytes.Buffer
		if err := json.Indent(&want, []byte(text), "", "  "); err != nil {
			t.Fatal(err)
		}
		if got := pretty([]byte(text)); got != want.String() || indented([]byte(text)) < int64(len(got)) {
			t.Errorf("%s becomes %s, of %d bytes at most", text, got, indented([]byte(text)))
		}
	}
	if got := pretty([]byte("]]]]{no JSON")); got != "]]]]{no JSON" {
		t.Errorf("what is no JSON becomes %q", got)
	}
}
