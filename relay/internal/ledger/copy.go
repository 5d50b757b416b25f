package ledger

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sqlCopy takes the deliveries that are final with their first news, which is
// nearly all: one new row each. Beside INSERT … ON CONFLICT it costs the server
// half, and the relay next to nothing.
const sqlCopy = `COPY posthorn.deliveries (created_at, id, endpoint_id, event_id, type, tenant, key, lsn, index, state, attempts, status, error,
  request_method, request_headers, request_body, payload, headers, event_created_at) FROM STDIN (FORMAT binary)`

// copyColumns is how many columns sqlCopy names.
const copyColumns = 19

// copied reports whether the record goes by sqlCopy.
func (r *Record) copied() bool { return r.State.Final() && !r.Stored }

// sendCopy runs sql, in which one statement is sqlCopy, after the statements of
// before, if there are any. They begin and commit one transaction. Without
// before all goes in one round trip.
func (l *Ledger) sendCopy(ctx context.Context, before *pgx.Batch, sql string, batch []*Record) error {
	return l.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		if before != nil {
			err = conn.SendBatch(ctx, before).Close()
		}
		if err == nil {
			err = l.copyRows(ctx, conn.Conn(), sql, batch)
		}
		if err != nil && !conn.Conn().IsClosed() {
			_, _ = conn.Exec(ctx, `ROLLBACK`) // else the pool closes the connection, which does the same
		}
		return err
	})
}

// copyRows runs sql, in which one statement is sqlCopy, and gives it the rows
// of batch that are copied. They are sent with it, without waiting until the
// server asks for them: if it does not get there, it drops them.
func (l *Ledger) copyRows(ctx context.Context, conn *pgx.Conn, sql string, batch []*Record) (err error) {
	pg := conn.PgConn()
	stop := context.AfterFunc(ctx, func() { _ = pg.Conn().SetDeadline(time.Unix(1, 0)) })
	done := false
	defer func() {
		if !stop() || !done { // nobody can use it any more
			_ = conn.Close(ctx)
		}
	}()
	unsent := l.sendRows(pg.Conn(), sql, batch)
	if unsent != nil && ctx.Err() == nil {
		_ = pg.Conn().SetReadDeadline(time.Now().Add(lastWord))
	}
	for {
		message, failed := pg.ReceiveMessage(context.Background()) // ctx ends it, see above
		if failed != nil {
			if codeOf(failed) != "" { // the server said why it ended the connection
				return failed
			}
			return cmp.Or(err, unsent, failed)
		}
		switch message := message.(type) {
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.ReadyForQuery:
			done = unsent == nil
			return cmp.Or(err, unsent)
		}
	}
}

// lastWord is how long to look for what the server said before it hung up.
const lastWord = time.Second

// sendRows sends sql and the rows of batch that are copied.
func (l *Ledger) sendRows(out io.Writer, sql string, batch []*Record) error {
	rows := copyStream{out: out, buffer: l.copyBuffer}
	rows.begin(sql)
	for _, r := range batch {
		if r.copied() {
			rows.buffer = l.appendRow(rows.buffer, r)
			if err := rows.rowEnds(); err != nil {
				return fmt.Errorf("send rows: %w", err)
			}
		}
	}
	if err := rows.end(); err != nil {
		return fmt.Errorf("send rows: %w", err)
	}
	if l.copyBuffer = rows.buffer[:0]; cap(l.copyBuffer) > 2*copyChunk {
		l.copyBuffer = nil
	}
	return nil
}

// copyStream writes a query and rows in COPY's binary format to a connection.
// The messages are in https://www.postgresql.org/docs/current/protocol-message-formats.html,
// the format in https://www.postgresql.org/docs/current/sql-copy.html.
type copyStream struct {
	out     io.Writer
	buffer  []byte // what is not sent yet
	message int    // where its last message, which holds rows, begins
}

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // without flags and extension
	copyTrailer = "\xff\xff"
	copyData    = "d\x00\x00\x00\x00" // its length is set when it is complete
	copyDone    = "c\x00\x00\x00\x04"

	// copyChunk is how many bytes are sent at once, unless a row is longer.
	copyChunk = 128 << 10
)

// begin puts the query and the start of the rows.
func (s *copyStream) begin(sql string) {
	s.buffer = append(s.buffer[:0], 'Q')
	s.buffer = binary.BigEndian.AppendUint32(s.buffer, uint32(len(sql)+5))
	s.buffer = append(append(s.buffer, sql...), 0)
	s.message = len(s.buffer)
	s.buffer = append(append(s.buffer, copyData...), copyHeader...)
}

// rowEnds sends what there is, if that is enough.
func (s *copyStream) rowEnds() error {
	if len(s.buffer) < copyChunk {
		return nil
	}
	err := s.send("")
	s.message, s.buffer = 0, append(s.buffer[:0], copyData...)
	return err
}

// end sends the rest.
func (s *copyStream) end() error {
	s.buffer = append(s.buffer, copyTrailer...)
	return s.send(copyDone)
}

// send completes the last message and sends all, with what follows it.
func (s *copyStream) send(next string) error {
	binary.BigEndian.PutUint32(s.buffer[s.message+1:], uint32(len(s.buffer)-s.message-1))
	s.buffer = append(s.buffer, next...)
	_, err := s.out.Write(s.buffer)
	return err
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
