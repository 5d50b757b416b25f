package ledger

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sqlCopy takes the deliveries that are final with their first news, which is
// nearly all: one new row each. Beside INSERT … ON CONFLICT it costs the server
// half, and the relay next to nothing.
const sqlCopy = `COPY posthorn.deliveries (created_at, id, endpoint_id, event_id, type, tenant, key, lsn, index, state, attempts, status, error,
  request_method, request_headers, request_body, payload, headers, event_created_at) FROM STDIN (FORMAT binary); COMMIT`

// copyColumns is how many columns sqlCopy names.
const copyColumns = 19

// copied reports whether the record goes by sqlCopy.
func (r *Record) copied() bool { return r.State.Final() && !r.Stored }

// sendCopy commits the statements of b, which begin with BEGIN, together with
// the rows of batch that are copied.
func (l *Ledger) sendCopy(ctx context.Context, b *pgx.Batch, batch []*Record) error {
	return l.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		err := conn.SendBatch(ctx, b).Close()
		if err == nil {
			_, err = conn.Conn().PgConn().CopyFrom(ctx, &rowReader{ledger: l, batch: batch}, sqlCopy)
		}
		if err != nil && !conn.Conn().IsClosed() {
			_, _ = conn.Exec(ctx, `ROLLBACK`) // else the pool closes the connection, which does the same
		}
		return err
	})
}

// rowReader reads as what sqlCopy is given: the rows of batch that are copied,
// in the binary format, of which it holds one at a time. The format is in
// https://www.postgresql.org/docs/current/sql-copy.html.
type rowReader struct {
	ledger *Ledger
	batch  []*Record // what is left of it
	begun  bool
	ended  bool
	buffer []byte
	rest   []byte // of buffer
}

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // without flags and extension
	copyTrailer = "\xff\xff"
)

// Read fills p as long as there are rows. It returns no error but io.EOF.
func (r *rowReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.rest) == 0 && !r.next() {
			return n, io.EOF
		}
		taken := copy(p[n:], r.rest)
		n, r.rest = n+taken, r.rest[taken:]
	}
	return n, nil
}

// next encodes what comes next, and returns false after the last.
func (r *rowReader) next() bool {
	b := r.buffer[:0]
	if !r.begun {
		r.begun = true
		b = append(b, copyHeader...)
	}
	for len(r.batch) > 0 && !r.batch[0].copied() {
		r.batch = r.batch[1:]
	}
	switch {
	case len(r.batch) > 0:
		b = r.ledger.appendRow(b, r.batch[0])
		r.batch = r.batch[1:]
	case !r.ended:
		r.ended = true
		b = append(b, copyTrailer...)
	}
	r.buffer, r.rest = b, b
	return len(b) > 0
}

// appendRow appends the delivery's row as sqlCopy takes it.
func (l *Ledger) appendRow(b []byte, r *Record) []byte {
	e, keep := r.Event, l.keep(r)
	b = binary.BigEndian.AppendUint16(b, copyColumns)
	b = appendTime(b, e.CommittedAt)
	b = appendBytes(b, r.ID[:])
	b = appendBytes(b, r.Endpoint[:])
	b = appendBytes(b, e.ID[:])
	b = appendBytes(b, e.Type)
	b = appendText(b, e.Tenant)
	b = appendText(b, e.Key)
	b = appendInt8(b, int64(e.Position.LSN))
	b = appendInt8(b, e.Position.Index)
	b = appendBytes(b, r.State)
	b = appendInt4(b, r.Attempts)
	if r.Status == 0 {
		b = appendNull(b)
	} else {
		b = appendInt4(b, r.Status)
	}
	b = appendText(b, clean(r.Error, errorLimit))
	if keep.method == nil {
		b = appendNull(appendNull(b))
	} else {
		b = appendBytes(appendBytes(b, *keep.method), *keep.requestHeaders)
	}
	for _, column := range [][]byte{keep.body, keep.payload, keep.headers} {
		if column == nil {
			b = appendNull(b)
		} else {
			b = appendBytes(b, column)
		}
	}
	if keep.createdAt == nil {
		return appendNull(b)
	}
	return appendTime(b, *keep.createdAt)
}

func appendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendText appends a text for which "" stands for none.
func appendText(b []byte, v string) []byte {
	if v == "" {
		return appendNull(b)
	}
	return appendBytes(b, v)
}

func appendInt4(b []byte, v int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func appendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

// epoch2000 is where the server's times begin, in microseconds since 1970.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func appendTime(b []byte, t time.Time) []byte { return appendInt8(b, t.UnixMicro()-epoch2000) }
