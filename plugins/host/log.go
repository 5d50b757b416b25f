package host

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	maxLine      = 4 << 10  // bytes of a line in the log; of a record's fields together, too
	maxRecord    = 64 << 10 // bytes of a line that are read, for records with more than one value
	maxFields    = 32       // of a record
	linesASecond = 100

	maxHead = 256 // bytes kept of the beginning of stderr
	maxTail = 960 // and of its end
)

// output puts what a plugin's processes write into the log, at most 100 lines a
// second.
type output struct {
	logger *slog.Logger

	mu      sync.Mutex
	second  time.Time // began then
	lines   int       // since then
	dropped int       // and not yet told
}

// full reports whether this second's lines are used up; if they are the line is
// counted as dropped.
func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); now.Sub(o.second) >= time.Second {
		o.tell()
		o.second, o.lines = now, 0
	}
	if o.lines < linesASecond {
		return false
	}
	o.dropped++
	return true
}

// log logs a line.
func (o *output) log(level slog.Level, attrs ...slog.Attr) {
	o.mu.Lock()
	o.lines++
	o.mu.Unlock()
	o.logger.LogAttrs(context.Background(), level, "plugin output", attrs...)
}

// flush tells of what was dropped.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tell()
}

func (o *output) tell() {
	if o.dropped > 0 {
		o.logger.LogAttrs(context.Background(), slog.LevelWarn, "plugin output dropped: more than 100 lines a second", slog.Int("lines", o.dropped))
		o.dropped = 0
	}
}

// lines cuts what a process writes to one stream into lines, and logs them.
type lines struct {
	out    *output
	runner *execRunner
	said   *excerpt // nil for stdout

	buffer   []byte // of a line without its end
	skip     bool   // the line's rest
	panicked bool   // what follows is a stack
}

// readFrom logs what it reads, until the end or an error.
func (l *lines) readFrom(r io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		l.write(buffer[:n])
		if err != nil {
			l.end()
			return
		}
	}
}

func (l *lines) write(p []byte) {
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if !l.skip {
			take := line[:min(len(line), maxRecord-len(l.buffer))]
			if ended && len(l.buffer) == 0 {
				l.line(take)
			} else {
				l.buffer = append(l.buffer, take...)
				l.skip = len(l.buffer) == maxRecord
				if ended || l.skip {
					l.end()
				}
			}
		}
		if ended {
			l.skip = false
		}
		p = rest
	}
}

// end logs a line that was not ended.
func (l *lines) end() {
	if len(l.buffer) > 0 {
		l.line(l.buffer)
		l.buffer = l.buffer[:0]
	}
}

func (l *lines) line(line []byte) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) == 0 {
		return
	}
	if l.out.full() {
		l.said.add(line)
		return
	}
	level, text, fields := l.parse(line)
	l.said.add([]byte(text))
	if l.out.logger.Enabled(context.Background(), level) {
		l.out.log(level, append([]slog.Attr{slog.Int("pid", l.runner.pid), slog.String("line", text)}, fields...)...)
	}
}

// parse returns a line's level, text and fields. Lines that are no records of
// hclog's are Info, and Error from a crash on.
func (l *lines) parse(line []byte) (slog.Level, string, []slog.Attr) {
	if line[0] == '{' {
		if level, text, fields, ok := parseRecord(line); ok {
			return level, text, fields
		}
	}
	if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
		l.panicked = true
	}
	if l.panicked {
		return slog.LevelError, valid(string(line), maxLine), nil
	}
	return slog.LevelInfo, valid(string(line), maxLine), nil
}

// parseRecord reads a record as hclog writes it, and SDKs with it.
func parseRecord(line []byte) (slog.Level, string, []slog.Attr, bool) {
	var record map[string]json.RawMessage
	var name, text string
	if json.Unmarshal(line, &record) != nil || json.Unmarshal(record["@level"], &name) != nil ||
		json.Unmarshal(record["@message"], &text) != nil {
		return 0, "", nil, false
	}
	level := slog.LevelInfo
	switch strings.ToLower(name) {
	case "trace", "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	for _, key := range []string{"@level", "@message", "@timestamp"} {
		delete(record, key)
	}
	var fields []any
	left := maxLine
	for _, key := range slices.Sorted(maps.Keys(record)) {
		var value string
		if json.Unmarshal(record[key], &value) != nil {
			value = string(record[key])
		}
		if len(fields) == maxFields || left <= 0 {
			break
		}
		key, value = cut(wire.Line(key), 64), valid(value, left)
		fields = append(fields, slog.String(key, value))
		left -= len(key) + len(value)
	}
	if len(fields) == 0 {
		return level, valid(text, maxLine), nil, true
	}
	return level, valid(text, maxLine), []slog.Attr{slog.Group("fields", fields...)}, true
}

// valid returns text as UTF-8 of at most limit bytes, with spaces in the place of
// control characters other than line feeds and tabs: handlers that write to
// terminals let escape sequences through, by which a line could pass for others.
func valid(text string, limit int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(cut(text, limit), "\ufffd"))
}

// cut returns the first bytes of text, at most limit of them and no half
// character.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const more = "…"
	end := max(limit-len(more), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}

// excerpt keeps the beginning and the end of a text.
type excerpt struct {
	mu         sync.Mutex
	head, tail []byte
	cut        bool // tail is not everything
}

// add adds a line. It does nothing on nil.
func (e *excerpt) add(line []byte) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if room := maxHead - len(e.head); room > 0 {
		e.head = append(append(e.head, line[:min(len(line), room)]...), '\n')
	}
	e.tail = append(append(e.tail, line[max(0, len(line)-maxTail):]...), '\n')
	if over := len(e.tail) - maxTail; over > 0 {
		e.tail = slices.Delete(e.tail, 0, over)
		e.cut = true
	}
}

// text returns the text as one printable line of at most limit bytes. Of one
// that is longer it returns both ends.
func (e *excerpt) text(limit int) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	tail := wire.Line(string(e.tail))
	if !e.cut && len(tail) <= limit {
		return tail
	}
	const between = " … "
	head := cut(wire.Line(string(e.head)), min(maxHead, limit/2))
	start := max(0, len(tail)-(limit-len(head)-len(between)))
	for start < len(tail) && !utf8.RuneStart(tail[start]) {
		start++
	}
	return head + between + tail[start:]
}
