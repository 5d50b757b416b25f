package dashboard

import (
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// bar is one bar of a row of bars: what succeeded stands below what failed. All
// numbers are of the picture's own units.
type bar struct {
	X, Width    float64
	OKY, OK     float64
	FailY, Fail float64
	Label       string
}

// bars is a row of bars over time.
type bars struct {
	Bars          []bar
	Width, Height float64
	Delivered     int64
	Failed        int64
	Label         string // for those who do not see it
}

const (
	barWidth   = 6.0
	barGap     = 2.0
	barsHeight = 40.0
)

// barsOf returns a bar for each point. What is not nothing is seen.
func barsOf(points []ledger.Point, span time.Duration) *bars {
	b := &bars{Height: barsHeight, Width: max(1, float64(len(points))*(barWidth+barGap)-barGap)}
	most := int64(1)
	for _, p := range points {
		most = max(most, p.Delivered+p.Failed)
		b.Delivered += p.Delivered
		b.Failed += p.Failed
	}
	height := func(n int64) float64 {
		if n == 0 {
			return 0
		}
		return max(1.5, float64(n)/float64(most)*(barsHeight-2))
	}
	for i, p := range points {
		ok, fail := height(p.Delivered), height(p.Failed)
		b.Bars = append(b.Bars, bar{
			X: float64(i) * (barWidth + barGap), Width: barWidth,
			OKY: round(barsHeight - ok), OK: round(ok), FailY: round(barsHeight - ok - fail), Fail: round(fail),
			Label: fmt.Sprintf("%s: %s delivered, %s failed", p.At.UTC().Format("15:04"), number(p.Delivered), number(p.Failed)),
		})
	}
	b.Label = fmt.Sprintf("%s delivered and %s failed in the last %s", number(b.Delivered), number(b.Failed), duration(span))
	return b
}

// round keeps pictures short.
func round(f float64) float64 { return float64(int64(f*100+0.5)) / 100 }

// segment is a part of an attempt's time, in a picture that is 1000 wide.
type segment struct {
	Class    string // dns, connect, tls, wait or read
	X, Width float64
	Name     string
	Took     time.Duration
}

// segments returns the parts of an attempt, all of which is as wide as the
// picture: beside an attempt that timed out nothing would be seen of others.
func segments(dns, connect, tls, firstByte, total time.Duration) []segment {
	if total <= 0 {
		return nil
	}
	var list []segment
	at := time.Duration(0)
	add := func(class, name string, took time.Duration) {
		if took <= 0 {
			return
		}
		took = min(took, max(0, total-at))
		x := float64(at) / float64(total) * 1000
		width := max(2, float64(took)/float64(total)*1000)
		list = append(list, segment{Class: class, Name: name, Took: took, X: round(min(x, 998)), Width: round(width)})
		at += took
	}
	add("dns", "DNS", dns)
	add("connect", "connect", connect)
	add("tls", "TLS", tls)
	if firstByte > 0 {
		add("wait", "wait for the answer", firstByte-at)
		add("read", "read the answer", total-firstByte)
	} else {
		add("wait", "wait", total-at)
	}
	return list
}

// spoken returns segments for those who do not see them.
func spoken(list []segment) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, s.Name+" "+duration(s.Took))
	}
	return strings.Join(parts, ", ")
}
