package tail

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// benchPayload is JSON text of 512 bytes.
var benchPayload = `{"n": "` + strings.Repeat("x", 503) + `"}`

// outboxRow is a row of the outbox as init makes it, whose optional columns
// are null where full is false.
func outboxRow(full bool) []byte {
	m := newMessage('I').u32(1).u8('N').u16(7).text("01890a5d-ac96-774b-bcce-b302099a8057").text("invoice.paid")
	if full {
		m.text("acme").text("invoice-4711")
	} else {
		m.u8('n').u8('n')
	}
	m.text(benchPayload)
	if full {
		m.text(`{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`)
	} else {
		m.u8('n')
	}
	return m.text("2026-11-22 07:41:05.123456+00").Bytes()
}

var outboxColumns = Columns{ID: "id", Type: "type", Tenant: "tenant", Key: "key", Payload: "payload", Headers: "headers", CreatedAt: "created_at"}

func fullRelation() []byte {
	m := newMessage('R').u32(1).str("posthorn").str("outbox").u8('d').u16(7)
	for _, c := range []struct {
		name string
		typ  uint32
	}{{"id", 2950}, {"type", 25}, {"tenant", 25}, {"key", 25}, {"payload", oidJSONB}, {"headers", oidJSONB}, {"created_at", 1184}} {
		m.u8(0).str(c.name).u32(c.typ).u32(0)
	}
	return m.Bytes()
}

func BenchmarkDecodeInsert(b *testing.B) {
	rel, err := decodeRelation(fullRelation()[1:])
	if err != nil {
		b.Fatal(err)
	}
	m, err := mapColumns(rel, outboxColumns)
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name string
		full bool
	}{{"payload", false}, {"key, tenant and headers", true}} {
		b.Run(bb.name, func(b *testing.B) {
			src := outboxRow(bb.full)[1:]
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			var values []value
			for b.Loop() {
				_, values, err = decodeInsert(src, values)
				if err != nil {
					b.Fatal(err)
				}
				if e := m.event(values); len(e.Payload) != len(benchPayload) {
					b.Fatal("no payload")
				}
			}
		})
	}
}

// settling is a sink that takes everything and settles it at once.
type settling struct {
	tracker *Tracker
	n       int
}

func (s *settling) Offer(e *event.Event) bool { s.n++; s.tracker.Settle(e.Tx, 1); return true }
func (*settling) Room() <-chan struct{}       { return nil }
func (*settling) Passed(event.LSN)            {}
func (*settling) Changed(int64)               {}

// endless is a connection whose peer sends one transaction after the other, all
// of the same rows, at most 8 KiB at a time as Postgres does. Deadlines are
// those of a real connection.
type endless struct {
	net.Conn
	unit   []byte // the messages of one transaction
	at     int
	commit uint64
}

// Where the positions stand in a unit: the first from its start, the others
// from its end.
const (
	beginLSN  = 5 + 25 + 1
	commitLSN = 24
	endLSN    = 16
)

func (c *endless) Read(p []byte) (int, error) {
	p = p[:min(len(p), 8<<10)]
	n := 0
	for n < len(p) {
		copied := copy(p[n:], c.unit[c.at:])
		n += copied
		if c.at += copied; c.at == len(c.unit) {
			c.at = 0
			c.commit++
			for _, at := range []int{beginLSN, len(c.unit) - commitLSN, len(c.unit) - endLSN} {
				binary.BigEndian.PutUint64(c.unit[at:], c.commit)
			}
		}
	}
	return n, nil
}

// copyData wraps a pgoutput message as the stream carries it.
func copyData(msg []byte) []byte {
	data := newMessage('w').u64(1).u64(1).u64(0)
	data.Write(msg)
	return append(binary.BigEndian.AppendUint32([]byte{'d'}, uint32(4+data.Len())), data.Bytes()...)
}

// streaming returns a connection that streams what read yields; deadlines are
// set on a real one.
func streaming(b *testing.B, unit []byte) *Conn {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	server, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	go func() { _, _ = io.Copy(io.Discard, server) }()
	config, err := pgconn.ParseConfig("postgres://u@127.0.0.1/d")
	if err != nil {
		b.Fatal(err)
	}
	pg, err := pgconn.Construct(&pgconn.HijackedConn{Conn: &endless{Conn: client, unit: unit, commit: 100}, Config: config})
	if err != nil {
		b.Fatal(err)
	}
	return &Conn{pg: pg, reported: time.Now().Add(time.Hour)} // no reports
}

// One transaction of one row, from the connection's bytes to the sink.
func BenchmarkReadTransaction(b *testing.B) {
	var unit bytes.Buffer
	for _, msg := range [][]byte{begin(100), outboxRow(true), commit(100, 108)} {
		unit.Write(copyData(msg))
	}
	s := &settling{tracker: NewTracker(0)}
	r := NewReader(streaming(b, unit.Bytes()), Options{
		Schema: "posthorn", Table: "outbox", Columns: outboxColumns, Tracker: s.tracker, Sink: s, Lease: NewLease(),
	})
	r.opts.Lease.sent.Store(int64(24 * time.Hour)) // longer than any run
	if err := r.relation(fullRelation()[1:]); err != nil {
		b.Fatal(err)
	}
	r.opts.Sink = &limited{settling: s, reader: r, until: b.N}
	b.ReportAllocs()
	b.SetBytes(int64(unit.Len()))
	b.ResetTimer()
	if err := r.read(context.Background()); !errors.Is(err, errStopped) {
		b.Fatal(err)
	}
}

// limited stops the reader after so many events.
type limited struct {
	*settling
	reader *Reader
	until  int
}

func (s *limited) Offer(e *event.Event) bool {
	if s.n+1 == s.until {
		s.reader.StopReading()
	}
	return s.settling.Offer(e)
}
