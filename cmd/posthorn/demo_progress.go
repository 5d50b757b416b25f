package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	lineEvery  = 5 * time.Second        // without a terminal
	paintEvery = 500 * time.Millisecond // on one

	maxLogTail = 16 << 10 // bytes
	maxMetrics = 1 << 20  // bytes
)

// progress says on standard error how the demo does.
type progress struct {
	out     io.Writer
	tracker *tracker
	metrics string // the URL of the relay's
	width   func() int
	started time.Time
}

// newProgress returns a progress for a relay whose metrics are at address.
func newProgress(g *globals, t *tracker, address string) *progress {
	p := &progress{out: g.stderr, tracker: t, metrics: "http://" + address + "/metrics", started: time.Now()}
	if file, ok := g.stderr.(interface{ Fd() uintptr }); ok && isTerminal(g.stderr) {
		p.width = func() int {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil || width < 1 {
				return 80
			}
			return width
		}
	}
	return p
}

// run goes on until ctx ends. On a terminal it writes one line over and over.
func (p *progress) run(ctx context.Context) {
	every := lineEvery
	if p.width != nil {
		every = paintEvery
		defer func() { _, _ = fmt.Fprint(p.out, "\r\x1b[K") }() // away with the line
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		line := p.line(ctx)
		if p.width == nil {
			_, _ = fmt.Fprintln(p.out, line)
			continue
		}
		if room := p.width() - 1; len(line) > room {
			line = line[:max(0, room)] // it is ASCII
		}
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	}
}

func (p *progress) line(ctx context.Context) string {
	s := p.tracker.summarize(time.Since(p.started))
	return fmt.Sprintf("committed %d, rolled back %d, delivered %d (p50 %s, p99 %s), retried %d, in flight %d, parked %s",
		s.Committed, s.RolledBack, s.Delivered, milliseconds(s.Latency.P50), milliseconds(s.Latency.P99), s.Retried, s.Missing, p.parked(ctx))
}

// parked returns how many deliveries wait in the ledger, as the relay's
// metrics say, or "?" while they say nothing.
func (p *progress) parked(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return "?"
	}
	request.Close = true // one connection a time is enough, and none stays
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "?"
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	sum, found := 0.0, false
	for lines := bufio.NewScanner(io.LimitReader(response.Body, maxMetrics)); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "posthorn_pending{") {
			continue
		}
		value := lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum, found = sum+n, true
		}
	}
	if !found {
		return "?"
	}
	return strconv.FormatFloat(sum, 'f', 0, 64)
}

// logTail keeps the end of a log.
type logTail struct {
	mu   sync.Mutex
	text []byte
}

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - maxLogTail; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
	return len(p), nil
}

// String returns the whole lines of the end.
func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.text)
	if len(text) == maxLogTail {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
