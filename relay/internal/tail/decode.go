package tail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// The messages of pgoutput, protocol version 1, that can reach us with
// publish = 'insert' and messages on. The formats are in
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgRelation = 'R'
	msgInsert   = 'I'
	msgMessage  = 'M'
	msgType     = 'Y'
	msgOrigin   = 'O'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
)

// errTruncated is returned for a message that ends before its fields do.
var errTruncated = errors.New("message ends too early")

// maxColumns is what a Postgres table can have.
const maxColumns = 1600

// beginMessage opens a transaction.
type beginMessage struct {
	commit event.LSN // LSN of the commit record, known from the start
	time   time.Time // commit time
}

// commitMessage closes a transaction.
type commitMessage struct {
	commit, end event.LSN
}

// relation describes a table whose rows follow.
type relation struct {
	id           uint32
	schema, name string
	columns      []column
}

type column struct {
	name string
	typ  uint32 // OID
}

// value is one column of a row. Its bytes belong to the message's buffer.
type value struct {
	data []byte
	null bool // also for an unchanged TOAST value, which an insert never has
}

// logicalMessage is what pg_logical_emit_message wrote.
type logicalMessage struct {
	transactional bool
	prefix        string
	content       []byte
}

// reader takes fields off a message; the first error sticks.
type reader struct {
	src []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.src) {
		r.err = errTruncated
		return nil
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text() string {
	end := bytes.IndexByte(r.src, 0)
	if r.err != nil || end < 0 {
		r.err = errTruncated
		return ""
	}
	return string(r.take(end + 1)[:end])
}

// time reads microseconds since 2000-01-01 UTC.
func (r *reader) time() time.Time {
	const epoch = 946684800 * 1_000_000
	return time.UnixMicro(int64(r.uint64()) + epoch).UTC()
}

func decodeBegin(src []byte) (beginMessage, error) {
	r := reader{src: src}
	m := beginMessage{commit: event.LSN(r.uint64()), time: r.time()}
	r.take(4) // xid
	return m, r.err
}

func decodeCommit(src []byte) (commitMessage, error) {
	r := reader{src: src}
	r.byte() // flags, unused
	m := commitMessage{commit: event.LSN(r.uint64()), end: event.LSN(r.uint64())}
	r.time()
	return m, r.err
}

func decodeRelation(src []byte) (*relation, error) {
	r := reader{src: src}
	rel := &relation{id: r.uint32(), schema: r.text(), name: r.text()}
	r.byte() // replica identity
	n := r.uint16()
	if r.err == nil && n > maxColumns {
		return nil, fmt.Errorf("relation of %d columns", n)
	}
	for range n {
		r.byte() // part of the key?
		c := column{name: r.text(), typ: r.uint32()}
		r.take(4) // type modifier
		if r.err != nil {
			break
		}
		rel.columns = append(rel.columns, c)
	}
	return rel, r.err
}

// decodeInsert returns the row's table and its values, appended to row[:0].
func decodeInsert(src []byte, row []value) (uint32, []value, error) {
	r := reader{src: src}
	id := r.uint32()
	if kind := r.byte(); r.err == nil && kind != 'N' {
		return 0, nil, fmt.Errorf("insert with a tuple of kind %q", kind)
	}
	n := r.uint16()
	if r.err == nil && n > maxColumns {
		return 0, nil, fmt.Errorf("row of %d columns", n)
	}
	row = row[:0]
	for range n {
		switch kind := r.byte(); kind {
		case 'n', 'u':
			row = append(row, value{null: true})
		case 't':
			row = append(row, value{data: r.take(int(r.uint32()))})
		default:
			if r.err == nil {
				r.err = fmt.Errorf("column of kind %q", kind)
			}
		}
		if r.err != nil {
			return 0, nil, r.err
		}
	}
	return id, row, r.err
}

func decodeMessage(src []byte) (logicalMessage, error) {
	r := reader{src: src}
	m := logicalMessage{transactional: r.byte()&1 != 0}
	r.uint64() // LSN of the message
	m.prefix = r.text()
	m.content = r.take(int(r.uint32()))
	return m, r.err
}
