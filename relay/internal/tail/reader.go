// Package tail reads the outbox from Postgres' replication stream, in commit
// order, and reports back how far everything is settled. One goroutine owns
// the replication connection.
package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// Sink takes the events that the reader reads: the hand-over from the tail to
// the rest of the relay.
type Sink interface {
	// Offer hands over the next event in commit order. It returns false, and
	// has not taken the event, when reading must be held.
	Offer(e *event.Event) bool
	// Room receives when Offer is worth another try.
	Room() <-chan struct{}
	// Passed says that every event before lsn was offered.
	Passed(lsn event.LSN)
	// Changed says that somebody changed the endpoints, which are of that revision
	// then: it committed after what was offered before and before what is offered
	// next.
	Changed(revision int64)
}

// Options are what a Reader needs.
type Options struct {
	Schema, Table string
	Columns       Columns
	Messages      string // prefix of logical messages to accept as events; "" accepts none

	Tracker *Tracker
	Sink    Sink
	Lease   *Lease
	// Flushed returns the position that stands in the ledger as flushed: only
	// that is reported to the server.
	Flushed func() event.LSN
	// FlushSoon asks for Flushed to catch up: the server waits for it.
	FlushSoon func()
	// Reopen returns a streaming connection in place of one that was lost. An
	// error ends Run.
	Reopen func(ctx context.Context) (*Conn, error)
	Logger *slog.Logger
}

// Reader reads the stream of one slot. Use NewReader.
type Reader struct {
	opts Options
	conn *Conn
	stop chan struct{}

	row      []value
	mappings map[uint32]*mapping // by relation id; nil for a table that is not ours
	tx       *event.Tx           // the open transaction, or nil
	txTime   time.Time
	next     int64          // index of the next event in the open transaction
	offered  int            // events of it that the sink has taken
	last     event.Position // newest event that was offered
	ended    event.LSN      // commit LSN of the newest transaction read to its end
	skip     bool           // the open transaction was read before the connection was lost

	// The server's questions, each at most shutdownPatience after the other.
	askedSince, askedLast time.Time

	reset atomic.Bool
	beat  atomic.Int64 // unix nanoseconds of the newest heartbeat that came back
}

// Heartbeat is the prefix of the transactional logical messages that the relay
// writes on a timer: they keep a quiet slot moving and prove that it does.
const Heartbeat = "posthorn.heartbeat"

// EndpointsChanged is the prefix of the messages that stand in the stream where
// somebody changed endpoints. What they hold is the new revision, in decimal.
const EndpointsChanged = "posthorn.endpoints"

// Backfill is the prefix of the messages by which init --backfill sends rows
// that were in the table before the slot was.
const Backfill = "posthorn.backfill"

// tick bounds how long the reader waits before it looks after its duties.
const tick = 250 * time.Millisecond

// reportEvery is the time between status updates, well below a third of
// SenderTimeout.
const reportEvery = time.Second

// errStopped ends reading, not the connection.
var errStopped = errors.New("reading was stopped")

// NewReader returns a reader that reads from conn, which must be streaming.
func NewReader(conn *Conn, opts Options) *Reader {
	return &Reader{opts: opts, conn: conn, stop: make(chan struct{}), mappings: map[uint32]*mapping{}}
}

// StopReading makes Run read nothing more, but keep the connection and the
// reports going until its context ends. Call it once.
func (r *Reader) StopReading() { close(r.stop) }

// Reset makes Run give its connection up and open another, e.g. because the
// server is shutting down, for which it waits until the stream is closed.
func (r *Reader) Reset() { r.reset.Store(true) }

// Beat returns when the newest heartbeat came back, zero for never.
func (r *Reader) Beat() time.Time {
	if ns := r.beat.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Run reads until ctx ends, then reports the final position and closes the
// connection. A lost connection is opened again. It returns nil after ctx
// ended, else the error of Reopen.
func (r *Reader) Run(ctx context.Context) error {
	defer func() {
		r.opts.Lease.revoke()
		if r.conn != nil {
			r.conn.Close()
		}
	}()
	for {
		opened := time.Now()
		err := r.serve(ctx)
		if ctx.Err() != nil {
			// The last word: without it the next start reads again what is settled.
			if err := r.report(); err != nil {
				r.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "last position not reported", slog.Any("err", err))
			}
			return nil
		}
		var mapping *MappingError
		if errors.As(err, &mapping) {
			return err
		}
		r.opts.Lease.revoke()
		r.conn.Close()
		r.conn = nil
		r.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "stream lost, reconnecting", slog.Any("err", err))
		rest(ctx, reportEvery-time.Since(opened)) // it may be lost at once again, and again
		conn, err := r.opts.Reopen(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		r.conn, r.askedLast = conn, time.Time{}
		r.reset.Store(false) // it was the lost connection's
		clear(r.mappings)
		r.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "stream resumed")
	}
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serve reads until the connection is lost or ctx ends, and goes on reporting
// after reading was stopped.
func (r *Reader) serve(ctx context.Context) error {
	if err := r.report(); err != nil {
		return err
	}
	err := r.read(ctx)
	for errors.Is(err, errStopped) && ctx.Err() == nil {
		rest(ctx, tick)
		if e := r.duties(ctx); e != nil {
			return e
		}
	}
	return err
}

func (r *Reader) read(ctx context.Context) error {
	for {
		if err := r.duties(ctx); err != nil {
			return err
		}
		if err := r.conn.patience(time.Now().Add(tick)); err != nil {
			return err
		}
		for {
			if r.stopped() {
				return errStopped
			}
			msg, err := r.conn.receive()
			if err != nil {
				return err
			}
			if msg == nil {
				break
			}
			if err := r.handle(ctx, msg); err != nil {
				return err
			}
		}
	}
}

// duties are what must happen on time whatever else goes on.
func (r *Reader) duties(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.reset.CompareAndSwap(true, false) {
		return errors.New("connection given up")
	}
	if !r.opts.Lease.Valid() {
		return errors.New("no status update was sent in time: the slot may be another's")
	}
	if time.Since(r.conn.reported) >= reportEvery {
		return r.report()
	}
	return nil
}

// shutdownPatience is how long a server may ask without a break before it is
// taken to shut down.
const shutdownPatience = time.Second

// asked answers the server's question how far we are. It asks when it has not
// heard of us for long, and again and again when it shuts down, for which it
// waits until everything is confirmed: longer than anybody wants when requests
// are in flight.
func (r *Reader) asked() error {
	now := time.Now()
	if now.Sub(r.askedLast) > shutdownPatience {
		r.askedSince = now
	}
	if r.askedLast = now; now.Sub(r.askedSince) > shutdownPatience {
		return errors.New("the server is shutting down")
	}
	r.opts.FlushSoon()
	return r.report()
}

func (r *Reader) report() error {
	if r.conn == nil {
		return nil
	}
	if err := r.conn.report(r.opts.Flushed()); err != nil {
		return fmt.Errorf("report position: %w", err)
	}
	r.opts.Lease.renew()
	return nil
}

func (r *Reader) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

func (r *Reader) handle(ctx context.Context, msg []byte) error {
	if len(msg) == 0 {
		return nil
	}
	switch msg[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		keepalive, err := pglogrepl.ParsePrimaryKeepaliveMessage(msg[1:])
		if err != nil {
			return fmt.Errorf("parse keepalive: %w", err)
		}
		if r.tx == nil {
			r.opts.Tracker.Idle(keepalive.ServerWALEnd)
			r.opts.Sink.Passed(keepalive.ServerWALEnd)
		}
		if keepalive.ReplyRequested {
			return r.asked()
		}
		return nil
	case pglogrepl.XLogDataByteID:
		// Where it starts, where the server's WAL ends, the server's time, the message.
		data := reader{src: msg[1:]}
		start := event.LSN(data.uint64())
		data.take(16)
		err := data.err
		if err == nil {
			err = r.decode(ctx, data.src)
		}
		if err == nil {
			return nil
		}
		var mapping *MappingError
		if errors.As(err, &mapping) {
			return mapping
		}
		return fmt.Errorf("decode stream at %s: %w", start, err)
	}
	return nil
}

func (r *Reader) decode(ctx context.Context, src []byte) error {
	if len(src) == 0 {
		return errTruncated
	}
	kind, src := src[0], src[1:]
	switch kind {
	case msgBegin:
		return r.begin(src)
	case msgInsert:
		return r.insert(ctx, src)
	case msgCommit:
		return r.commit(src)
	case msgRelation:
		return r.relation(src)
	case msgMessage:
		return r.message(ctx, src)
	case msgType, msgOrigin, msgUpdate, msgDelete, msgTruncate:
		return nil // a publication that somebody widened, or a custom type: not ours
	}
	return fmt.Errorf("unknown message %q", kind)
}

func (r *Reader) begin(src []byte) error {
	m, err := decodeBegin(src)
	if err != nil {
		return err
	}
	r.next, r.txTime = 0, m.time
	r.skip = m.commit <= r.ended
	if r.skip || r.tx != nil && r.tx.Commit == m.commit {
		return nil // read before the connection was lost, wholly or in part
	}
	r.tx, r.offered = r.opts.Tracker.Begin(m.commit, m.time), 0
	return nil
}

func (r *Reader) commit(src []byte) error {
	m, err := decodeCommit(src)
	if err != nil {
		return err
	}
	if r.skip {
		r.skip = false
		return nil
	}
	if r.tx == nil || r.tx.Commit != m.commit {
		return errors.New("commit of a transaction that was not begun")
	}
	r.opts.Tracker.Commit(r.tx, m.end, r.offered)
	r.opts.Sink.Passed(m.end)
	r.tx, r.ended = nil, m.commit
	return nil
}

func (r *Reader) relation(src []byte) error {
	rel, err := decodeRelation(src)
	if err != nil {
		return err
	}
	if rel.schema != r.opts.Schema || rel.name != r.opts.Table {
		r.opts.Logger.Warn("ignoring a table of the publication that is not source.table", slog.String("table", rel.schema+"."+rel.name))
		r.mappings[rel.id] = nil
		return nil
	}
	m, err := mapColumns(rel, r.opts.Columns)
	if err != nil {
		return &MappingError{Err: err}
	}
	r.mappings[rel.id] = m
	return nil
}

// MappingError reports that the outbox table lacks a mapped column. Reading
// cannot go on until the table or the configuration is mended.
type MappingError struct{ Err error }

func (e *MappingError) Error() string { return e.Err.Error() }
func (e *MappingError) Unwrap() error { return e.Err }

func (r *Reader) insert(ctx context.Context, src []byte) error {
	id, row, err := decodeInsert(src, r.row)
	if err != nil {
		return err
	}
	r.row = row
	m, known := r.mappings[id]
	switch {
	case !known:
		return fmt.Errorf("row of relation %d, which was not described", id)
	case m == nil, r.skip:
		return nil
	case r.seen():
		return nil
	}
	return r.offer(ctx, m.event(row))
}

func (r *Reader) message(ctx context.Context, src []byte) error {
	m, err := decodeMessage(src)
	if err != nil {
		return err
	}
	if !m.transactional { // arrives even when its transaction rolls back
		return nil
	}
	switch {
	case m.prefix == Heartbeat:
		r.beat.Store(time.Now().UnixNano())
		return nil
	case m.prefix == EndpointsChanged:
		if !r.skip {
			revision, _ := strconv.ParseInt(string(m.content), 10, 64) // 0 for what is none: as for any change
			r.opts.Sink.Changed(revision)
		}
		return nil
	case m.prefix == Backfill, m.prefix == Own, m.prefix == r.opts.Messages && m.prefix != "":
	default:
		return nil
	}
	if r.skip || r.seen() {
		return nil
	}
	e, err := messageEvent(m.content)
	if err == nil && !ours(m.prefix, e.Type) {
		err = fmt.Errorf("its type does not begin with %s", OwnGroup)
	}
	if err != nil {
		r.opts.Logger.LogAttrs(ctx, slog.LevelError, "ignoring a logical message that is no event",
			slog.String("prefix", m.prefix), slog.String("position", event.Position{LSN: r.tx.Commit, Index: r.next - 1}.String()), slog.Any("err", err))
		return nil
	}
	return r.offer(ctx, e)
}

// seen counts the event that was just read and reports whether it was offered
// before the connection was lost.
func (r *Reader) seen() bool {
	at := r.next
	r.next++
	return r.tx != nil && r.tx.Commit == r.last.LSN && at <= r.last.Index
}

// offer hands e over, and holds reading, with the duties done, while there is
// no room for it.
func (r *Reader) offer(ctx context.Context, e *event.Event) error {
	if r.tx == nil {
		return errors.New("event outside a transaction")
	}
	e.Position = event.Position{LSN: r.tx.Commit, Index: r.next - 1}
	e.CommittedAt, e.Tx = r.txTime, r.tx
	if e.CreatedAt.IsZero() {
		e.CreatedAt = r.txTime
	}
	for !r.opts.Sink.Offer(e) {
		timer := time.NewTimer(tick)
		select {
		case <-r.opts.Sink.Room():
		case <-timer.C:
		case <-r.stop:
			timer.Stop()
			return errStopped
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
		if err := r.duties(ctx); err != nil { // it is read again when the stream is back
			return err
		}
	}
	r.last = e.Position
	r.offered++
	return nil
}
