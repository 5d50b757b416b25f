package host

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// records is a log as lines of "LEVEL message key=value …", without process ids.
type records struct {
	mu    sync.Mutex
	lines []string
	lost  int // lines that were dropped, by what the log says
}

func (r *records) logger() *slog.Logger { return slog.New(&handler{r: r}) }

type handler struct {
	r    *records
	with []slog.Attr
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (h *handler) WithGroup(string) slog.Handler                { panic("no groups") }
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{r: h.r, with: append(append([]slog.Attr{}, h.with...), attrs...)}
}

func (h *handler) Handle(_ context.Context, record slog.Record) error {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	var b strings.Builder
	fmt.Fprint(&b, record.Level, " ", record.Message)
	add := func(a slog.Attr) bool {
		switch {
		case a.Key == "pid":
		case a.Value.Kind() == slog.KindGroup:
			for _, inner := range a.Value.Group() {
				fmt.Fprintf(&b, " %s.%s", a.Key, inner)
			}
		default:
			fmt.Fprint(&b, " ", a)
		}
		if a.Key == "lines" {
			h.r.lost += int(a.Value.Int64())
		}
		return true
	}
	for _, a := range h.with {
		add(a)
	}
	record.Attrs(add)
	h.r.lines = append(h.r.lines, b.String())
	return nil
}

func (r *records) has(text string) bool { return r.count(text) > 0 }

// count returns how many lines begin with text.
func (r *records) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.HasPrefix(line, text) {
			n++
		}
	}
	return n
}

func (r *records) dropped() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

func newLines(r *records) *lines {
	return &lines{out: &output{logger: r.logger()}, runner: &execRunner{}, said: &excerpt{}}
}

func TestLinesAreCutAndKeepTheirLevel(t *testing.T) {
	long := strings.Repeat("x", maxLine+1)
	tests := []struct{ name, text, want string }{
		{"plain", "one\ntwo\r\n\nthree", "INFO plugin output line=one|INFO plugin output line=two|INFO plugin output line=three"},
		{"hclog", `{"@level":"error","@message":"broke","@timestamp":"now","b":[1, 2],"a":"x"}`, "ERROR plugin output line=broke fields.a=x fields.b=[1, 2]"},
		{"hclog, below the level", `{"@level":"debug","@message":"detail"}`, ""},
		{"other JSON", `{"level":"error"}`, `INFO plugin output line={"level":"error"}`},
		{"hclog of other types", `{"@level":"warn","@message":7}`, `INFO plugin output line={"@level":"warn","@message":7}`},
		{"panic", "panic: x\n\ngoroutine 1", "ERROR plugin output line=panic: x|ERROR plugin output line=goroutine 1"},
		{"not UTF-8", "a\xffb", "INFO plugin output line=a\ufffdb"},
		{"escape sequences", "\x1b[31ma\x9b\u009bb\tc", "INFO plugin output line= [31ma\ufffd b\tc"},
		{"escape sequences in hclog", `{"@level":"warn","@message":"a\u001bb","k\u001b":"c\u001bd\ne"}`, "WARN plugin output line=a b fields.k=c d\ne"},
		{"long", long + "\nnext", "INFO plugin output line=" + long[:maxLine-3] + "…|INFO plugin output line=next"},
		{"endless", strings.Repeat("x", 3*maxRecord) + "\nnext", "INFO plugin output line=" + long[:maxLine-3] + "…|INFO plugin output line=next"},
		{"long value", `{"@level":"warn","@message":"m","stack":"` + long + `"}`, "WARN plugin output line=m fields.stack=" + long[:maxLine-3] + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 4096, 1 << 20} { // of the pieces in which it comes
				log := &records{}
				l := newLines(log)
				l.readFrom(&pieces{text: tt.text, size: size})
				if got := strings.Join(log.lines, "|"); got != tt.want {
					t.Errorf("by %d: got %.200q, want %.200q", size, got, tt.want)
				}
			}
		})
	}
}

// pieces is a reader that returns size bytes at most.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	r := strings.NewReader(p.text)
	n, err := r.Read(b[:min(len(b), p.size)])
	p.text = p.text[n:]
	return n, err
}

func TestNoMoreThan100LinesASecondAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &records{}
		l := newLines(log)
		for range 3 {
			for range 250 {
				l.write([]byte("x\n"))
			}
			time.Sleep(time.Second)
		}
		l.write([]byte("last\n"))
		l.out.flush()
		if got := log.count("INFO plugin output line=x"); got != 300 {
			t.Errorf("%d lines in 3 s", got)
		}
		if log.dropped() != 450 || log.count("WARN plugin output dropped: more than 100 lines a second lines=150") != 3 || !log.has("INFO plugin output line=last") {
			t.Errorf("dropped: %d; end of the log: %q", log.dropped(), log.lines[len(log.lines)-2:])
		}
	})
}

func TestAnExcerptKeepsBothEnds(t *testing.T) {
	said := func(lines ...string) *excerpt {
		e := &excerpt{}
		for _, line := range lines {
			e.add([]byte(line))
		}
		return e
	}
	many := strings.Split(strings.Repeat("some text,", 1000)+"end", ",")
	for _, tt := range []struct {
		name       string
		e          *excerpt
		start, end string
	}{
		{"empty", said(), "", ""},
		{"short", said("a", "b\x1b"), "a b", "a b"},
		{"many lines", said(many...), "some text some", "text end"},
		{"one long line", said(strings.Repeat("ß", 5000)), "ßß", "ßß"},
		{"not UTF-8", said(strings.Repeat("\xff", 5000)), "\ufffd", "\ufffd"},
	} {
		got := tt.e.text(maxQuote)
		if !strings.HasPrefix(got, tt.start) || !strings.HasSuffix(strings.TrimSuffix(got, "…"), tt.end) || len(got) > maxQuote || !utf8.ValidString(got) {
			t.Errorf("%s: %q (%d bytes)", tt.name, got, len(got))
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"@level\":\"warn\",\"@message\":\"m\",\"x\":{}}\nplain\n"), 3)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		log := &records{}
		l := newLines(log)
		for chunk := range chunks(text, size) {
			l.write(chunk)
		}
		l.end()
		for _, line := range log.lines {
			if !utf8.ValidString(line) || len(line) > 3*maxLine {
				t.Errorf("%q", line)
			}
		}
		if got := l.said.text(maxQuote); len(got) > maxQuote || !utf8.ValidString(got) || bytes.ContainsAny([]byte(got), "\n\x00") {
			t.Errorf("excerpt: %q", got)
		}
	})
}

func chunks(text []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			n := min(max(size, 1), len(text))
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}
