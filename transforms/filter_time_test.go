package transforms

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// What costs too much must be refused before the work, not after it.
func TestFilterTimeIsBounded(t *testing.T) {
	var numbers []string
	for i := range 100_000 {
		numbers = append(numbers, strconv.Itoa(i+2))
	}
	short, long := "["+strings.Join(numbers[:800], ",")+"]", "["+strings.Join(numbers, ",")+"]"
	added := "a" + strings.Repeat("+a", 44)
	list := "[a" + strings.Repeat(",a", 44) + "]"
	deep := "[payload.l]" + strings.Repeat(".map(a,"+list+")", 3)
	text := strings.Repeat("k", 1<<20)
	for _, tt := range []struct{ name, filter, payload string }{
		{"lists added to themselves", "[payload.l].map(a," + added + ").map(a," + added + ").exists(a, 1 in " + added + ")", `{"l": ` + short + `}`},
		{"lists added, then found", "[payload.l].map(a," + added + ").exists(a, 1 in " + added + ")", `{"l": ` + short + `}`},
		{"lists added, then read", "[payload.l].map(a," + added + ").map(a," + added + ").exists(a, a[0] < 0)", `{"l": ` + short + `}`},
		{"lists in lists, equal", deep + " == " + deep, `{"l": ` + short + `}`},
		{"lists in lists, different", "!(" + deep + " != " + deep + ")", `{"l": ` + short + `}`},
		{"lists in lists, found", deep + "[0] in " + deep, `{"l": ` + short + `}`},
		{"time zones", `payload.l.all(x, created_at.getHours("Europe/Berlin") >= 0)`, `{"l": ` + long + `}`},
		{"time zones of the payload", `payload.l.all(x, created_at.getFullYear(payload.zone) >= 0)`, `{"zone": "Europe/Berlin", "l": ` + long + `}`},
		{"long keys", `payload.l.all(x, payload.m[payload.text] > 0)`, `{"l": ` + long + `, "text": "` + text + `", "m": {"` + text + `": 1}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewSubject(filterEvent(), JSON(tt.payload))
			s.value() // decoding is not what is measured
			f := filter(t, tt.filter)
			start := time.Now()
			got, err := f.Match(s)
			if got || err == nil || err.Error() != "evaluate filter: costs more than a filter may" {
				t.Errorf("got %t, %v, want an error", got, err)
			}
			if took := time.Since(start); took > 3*maxFilterTime {
				t.Errorf("took %v", took)
			}
		})
	}
}
