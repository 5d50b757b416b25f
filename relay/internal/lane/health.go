package lane

import (
	"time"
)

// After failAfter failed attempts in a row an endpoint is failing: its first
// attempts wait in the ledger while one at a time is tried, after probeFirst
// doubling to probeLast.
const (
	failAfter  = 5
	probeFirst = time.Second
	probeLast  = 30 * time.Second
)

// health is whether an endpoint is failing, and when to try whether it is back.
type health struct {
	failing bool
	row     int       // failed attempts in a row
	since   time.Time // of the first of them
	dirty   bool      // the ledger is to know
	wait    time.Duration
	probeAt time.Time
	probing bool // the one try is on its way
}

// note takes what came of an attempt.
func (h *health) note(well, probe bool, now time.Time) {
	if probe {
		h.probing = false
	}
	if well {
		*h = health{dirty: h.dirty || h.row > 0}
		return
	}
	if h.row++; h.row == 1 {
		h.since = now
	}
	h.dirty = true
	switch {
	case h.failing:
		if probe {
			h.wait = min(2*h.wait, probeLast)
			h.probeAt = now.Add(h.wait)
		}
	case h.row >= failAfter:
		h.failing, h.wait, h.probeAt = true, probeFirst, now.Add(probeFirst)
	}
}

// pace measures how many deliveries a second a lane works off.
type pace struct {
	done   int       // since last
	last   time.Time // of the newest measurement
	rate   float64   // a second, smoothed; meaningless before steady
	since  time.Time // since when there is always something waiting
	primed bool
}

func (p *pace) count() { p.done++ }

// paceWindow is over how long one measurement goes, paceWeight how much it counts.
const (
	paceWindow = 500 * time.Millisecond
	paceWeight = 0.5
)

// measure brings the rate up to date; busy says whether something waits.
func (p *pace) measure(now time.Time, busy bool) {
	if !busy {
		*p = pace{last: now, since: now}
		return
	}
	if p.last.IsZero() {
		p.last, p.since = now, now
	}
	elapsed := now.Sub(p.last)
	if elapsed < paceWindow {
		return
	}
	rate := float64(p.done) / elapsed.Seconds()
	if p.primed {
		rate = paceWeight*rate + (1-paceWeight)*p.rate
	}
	p.rate, p.primed, p.done, p.last = rate, true, 0, now
}

// skip measures nothing of what was done since the last measurement.
func (p *pace) skip(now time.Time) { p.done, p.last = 0, now }

// clears returns how long n deliveries take at the present rate, or false
// while that is not known yet.
func (p *pace) clears(n int, now time.Time) (time.Duration, bool) {
	if !p.primed || now.Sub(p.since) < 2*paceWindow {
		return 0, false
	}
	if p.rate <= 0 {
		return 1 << 62, true
	}
	return time.Duration(min(float64(n)/p.rate*float64(time.Second), 1<<62)), true
}
