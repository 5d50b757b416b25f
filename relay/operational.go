package relay

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/lane"
	"github.com/posthorn/posthorn/relay/internal/tail"
)

// The types of the relay's own events. Those of endpoints end with a lane.Turn.
const (
	typeEndpoint  = "posthorn.endpoint."
	typeSlotRisk  = "posthorn.slot.at_risk"
	typeTookOver  = "posthorn.relay.took_over"
	mostAnnounced = 4096    // events that wait to be written
	announceAtOne = 256     // of them in one transaction
	mostReason    = 1 << 10 // bytes of what somebody gave as a reason
)

// announcer counts what happens to the relay itself and writes it into the
// stream, from where it goes to endpoints as other events do. It is best
// effort: nothing waits for it, and what the database does not take in time is
// lost to the stream, but not to log and metrics.
type announcer struct {
	source  *tail.Source
	metrics *admin.Metrics
	logger  *slog.Logger
	wake    chan struct{}
	full    rate.Sometimes // how often it is logged that the queue is

	mu    sync.Mutex
	queue []tail.OwnEvent
}

func newAnnouncer(source *tail.Source, metrics *admin.Metrics, logger *slog.Logger) *announcer {
	return &announcer{source: source, metrics: metrics, logger: logger, wake: make(chan struct{}, 1), full: rate.Sometimes{Interval: sayAgain}}
}

// announce takes an event, without waiting for anything. Its payload must
// marshal. tenant is "" when it is about no tenant's endpoint.
func (a *announcer) announce(ctx context.Context, eventType, tenant string, payload any) {
	a.metrics.Operational(eventType)
	text, err := json.Marshal(payload)
	if err != nil {
		a.logger.LogAttrs(ctx, slog.LevelError, "operational event not written", slog.String("type", eventType), slog.Any("err", err))
		return
	}
	e := tail.OwnEvent{ID: uuid.Must(uuid.NewV7()), Type: eventType, Tenant: tenant, Payload: text, CreatedAt: time.Now().UTC().Truncate(time.Microsecond)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) >= mostAnnounced {
		a.full.Do(func() {
			a.logger.LogAttrs(ctx, slog.LevelWarn, "operational events are dropped: too many wait to be written to the database", slog.String("type", eventType))
		})
		return
	}
	a.queue = append(a.queue, e)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// lastWords is how long a stop waits for what was announced last.
const lastWords = time.Second

// run writes what was announced until ctx ends, and then once more.
func (a *announcer) run(ctx context.Context) {
	wait, said := firstReconnect, time.Time{}
	for {
		err := a.write(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if time.Since(said) > sayAgain {
				said = time.Now()
				a.logger.LogAttrs(ctx, slog.LevelWarn, "operational events not written, trying again", slog.Any("err", err))
			}
			_ = pause(ctx, wait)
			wait = min(2*wait, lastReconnect)
		default:
			wait = firstReconnect
			select {
			case <-ctx.Done():
			case <-a.wake:
			}
		}
		if ctx.Err() == nil {
			continue
		}
		if err == nil || wait == firstReconnect { // else the database is away
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
			defer cancel()
			if err := a.write(last); err != nil {
				a.logger.LogAttrs(ctx, slog.LevelWarn, "operational events not written", slog.Any("err", err))
			}
		}
		return
	}
}

// write writes what waits.
func (a *announcer) write(ctx context.Context) error {
	for {
		a.mu.Lock()
		batch := a.queue[:min(len(a.queue), announceAtOne)]
		a.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := a.source.EmitOwn(ctx, batch); err != nil {
			return err
		}
		a.mu.Lock()
		if a.queue = a.queue[len(batch):]; len(a.queue) == 0 {
			a.queue = nil // its array has served
		}
		a.mu.Unlock()
	}
}

// aboutEndpoint is the payload of posthorn.endpoint.*.
type aboutEndpoint struct {
	Endpoint     endpointRef `json:"endpoint"`
	Reason       string      `json:"reason,omitempty"`
	Failures     int         `json:"failures,omitempty"`
	FailingSince *time.Time  `json:"failing_since,omitempty"`
}

type endpointRef struct {
	ID     uuid.UUID `json:"id"`
	Name   string    `json:"name"`
	Tenant string    `json:"tenant,omitempty"`
}

// tellEndpoint announces what became of an endpoint. The lane has logged it.
func (r *Relay) tellEndpoint(n lane.News) {
	about := aboutEndpoint{
		Endpoint: endpointRef{ID: n.Endpoint.ID, Name: n.Endpoint.Name, Tenant: n.Endpoint.Tenant},
		Reason:   n.Reason, Failures: n.Failures,
	}
	if len(about.Reason) > mostReason {
		about.Reason = strings.ToValidUTF8(about.Reason[:mostReason], "") + "…"
	}
	if !n.Since.IsZero() {
		since := n.Since.UTC().Truncate(time.Millisecond)
		about.FailingSince = &since
	}
	r.announcer.announce(context.Background(), typeEndpoint+string(n.Turn), n.Endpoint.Tenant, about)
}

// aboutRelay is the payload of posthorn.relay.took_over.
type aboutRelay struct {
	Relay   string `json:"relay"`   // host/process
	Version string `json:"version"` // of its program
	Slot    string `json:"slot"`
	Epoch   int64  `json:"epoch"`
	Standby bool   `json:"standby"` // it waited for another relay before
}

// tellTookOver announces that this process delivers from now on.
func (r *Relay) tellTookOver(ctx context.Context, s *session, standby bool) {
	r.announcer.announce(ctx, typeTookOver, "", aboutRelay{
		Relay: r.holder, Version: r.version, Slot: r.cfg.Source.Slot, Epoch: s.ledger.Epoch(), Standby: standby,
	})
}
