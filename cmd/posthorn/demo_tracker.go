package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/transforms"
)

// maxOpen bounds how many events may be written and not yet have arrived.
const maxOpen = 20_000

// tracker knows of every event what became of it. It keeps four bytes of each
// for good, and when it was committed until it has arrived. It has room for
// eight endpoints.
type tracker struct {
	wants []endpointWants
	room  *semaphore.Weighted // of maxOpen: one for each event on its way

	mu         sync.Mutex
	events     []trackedEvent // by number
	sent       map[uint64]time.Time
	counts     demoCounts
	latency    histogram
	transacted int
	began      time.Time // the first commit
	last       time.Time // the newest arrival
}

// trackedEvent has a bit for each endpoint in its sets.
type trackedEvent struct {
	wanted, delivered, failed uint8
	fate                      fate
}

type fate uint8

const (
	undecided fate = iota
	committed
	rolledBack
)

// demoCounts are counted as they happen; of deliveries but for the first two.
type demoCounts struct {
	committed, rolledBack int
	delivered             int // the first 2xx of each
	retried               int // delivered after a failed attempt
	failedAttempts        int
	duplicates            int // again after a 2xx
	wrongSignatures       int // requests
	unexpected            int // requests of events that were not written, or not for this endpoint
}

// endpointWants is which events an endpoint should get, worked out here and
// not by the relay, which is being judged.
type endpointWants struct {
	tenant   string
	events   []string
	triggers []string // of any object type
}

func newTracker(endpoints []config.Endpoint) *tracker {
	t := &tracker{room: semaphore.NewWeighted(maxOpen), sent: map[uint64]time.Time{}}
	for i := range endpoints {
		w := endpointWants{tenant: endpoints[i].Tenant, events: endpoints[i].Events, triggers: endpoints[i].Triggers}
		if !endpoints[i].Enabled {
			w = endpointWants{}
		}
		t.wants = append(t.wants, w)
	}
	return t
}

func (w endpointWants) want(tenant, eventType string) bool {
	if w.tenant != "" && w.tenant != tenant {
		return false
	}
	for _, pattern := range w.events {
		group, isGroup := strings.CutSuffix(pattern, "*")
		if pattern == eventType || isGroup && strings.HasPrefix(eventType, group) {
			return true
		}
	}
	_, action := transforms.SplitType(eventType)
	return slices.Contains(w.triggers, action)
}

// write returns the id for an event that is about to be written.
func (t *tracker) write(tenant, eventType string) (id string, number uint64, err error) {
	var e trackedEvent
	for i, w := range t.wants {
		if w.want(tenant, eventType) {
			e.wanted |= 1 << i
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	number = uint64(len(t.events))
	if id, err = numberedID(number); err == nil {
		t.events = append(t.events, e)
	}
	return id, number, err
}

// numberBits are the bits of a UUID's second half that hold an event's number;
// the others are the variant.
const numberBits = 1<<62 - 1

// numberedID returns a new event id that holds the event's number.
func numberedID(number uint64) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an event id: %w", err)
	}
	binary.BigEndian.PutUint64(id[8:], number&numberBits|1<<63)
	return id.String(), nil
}

// numberOf returns the number that an event id holds.
func numberOf(id string) (number uint64, ok bool) {
	parsed, err := uuid.Parse(id)
	return binary.BigEndian.Uint64(parsed[8:]) & numberBits, err == nil
}

// committing says that the events' COMMIT is about to be sent. From here on
// they may arrive.
func (t *tracker) committing(numbers []uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.began.IsZero() {
		t.began = at
	}
	for _, n := range numbers {
		t.sent[n] = at
	}
}

// committed says that the events' COMMIT succeeded.
func (t *tracker) committed(numbers []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.transacted++
	for _, n := range numbers {
		t.counts.committed++
		t.events[n].fate = committed
		t.finish(n)
	}
}

// rolledBack says that the events were rolled back.
func (t *tracker) rolledBack(numbers []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range numbers {
		t.counts.rolledBack++
		t.events[n].fate = rolledBack
		t.room.Release(1)
	}
}

// finish frees the room of an event that arrived everywhere. t.mu is held.
func (t *tracker) finish(n uint64) {
	if e := t.events[n]; e.fate == committed && e.delivered == e.wanted {
		delete(t.sent, n)
		t.room.Release(1)
	}
}

// arrived says that a verified request for an endpoint arrived, and whether it
// is answered with 200.
func (t *tracker) arrived(endpoint int, id string, accepted bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := numberOf(id)
	bit := uint8(1) << endpoint
	if !ok || n >= uint64(len(t.events)) || t.events[n].wanted&bit == 0 {
		t.counts.unexpected++
		return
	}
	e := &t.events[n]
	switch {
	case e.fate == rolledBack:
		e.delivered |= bit // for the summary to find
	case e.delivered&bit != 0:
		t.counts.duplicates++
	case !accepted:
		t.counts.failedAttempts++
		e.failed |= bit
	default:
		t.counts.delivered++
		if e.failed&bit != 0 {
			t.counts.retried++
		}
		t.latency.observe(now.Sub(t.sent[n]))
		t.last = now
		e.delivered |= bit
		t.finish(n)
	}
}

func (t *tracker) wrongSignature() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.wrongSignatures++
}

// drain returns when every committed event has arrived, or it takes too long.
func (t *tracker) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, demoDrain)
	defer cancel()
	_ = t.room.Acquire(ctx, maxOpen) // all of it is free when nothing is on its way
}
