package egress

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// answering is a connection from which an answer is read.
type answering struct {
	net.Conn
	io.Reader
}

func (a answering) Read(p []byte) (int, error) { return a.Reader.Read(p) }

// reading returns a connection on which answer has come, the first bytes of it
// at once, and then byte by byte if slowly.
func reading(answer []byte, slowly bool) *conn {
	var r io.Reader = bytes.NewReader(answer)
	if slowly {
		r = iotest.OneByteReader(r)
	}
	return newConn(answering{nil, r}, place{})
}

// plain are answers that are parsed without net/http, and odd are not.
var (
	plain = []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok",
		"HTTP/1.1 200 \r\nContent-Length: \t2 \r\n\r\nok",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nrest!",
		"HTTP/1.1 500 Oops\r\nConnection: Close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nRetry-After: 9\r\nContent-Length: 00004\r\n\r\nbusy",
		"HTTP/1.1 429 Slow\r\nRetry-After:\r\nretry-after: 9\r\nContent-Length: 4\r\n\r\nbu",
		"HTTP/1.1 799 Odd\rLine\r\nX!#$%&'*+-.^_`|~: \xff\t\"\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000),
		"HTTP/1.1 200 OK\r\nContent-Length: 69632\r\n\r\n" + strings.Repeat("x", 69632),
		"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
		"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
	}
	odd = []string{
		"", "H", "\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
		"HTTP/1.1 200 OK\r\n\r\nto the end",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\rX\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 199 Odd\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 304 Not Modified\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\nok",
		"HTTP/1.1 204 OK\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\n\xc3\xbc: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n1\r\no\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\no\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTrailer: A\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70000) + "\r\nContent-Length: 2\r\n\r\nok",
	}
)

func TestPlainAnswersNeedNoNetHTTP(t *testing.T) {
	for _, text := range plain {
		if _, ok := parseHead([]byte(text)); !ok {
			t.Errorf("not parsed: %.60q", text)
		}
	}
	for _, text := range odd {
		if h, ok := parseHead([]byte(text)[:min(len(text), 4<<10)]); ok {
			t.Errorf("%.60q: got %+v", text, h)
		}
	}
}

// FuzzAnswer reads answers as attempts do and by net/http alone: whatever is
// taken must be taken in the same way.
func FuzzAnswer(f *testing.F) {
	for _, text := range append(append([]string{}, plain...), odd...) {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, slowly bool) {
		ours, theirs := reading(answer, slowly), reading(answer, false)
		var got, want Response
		gotKeep, gotErr := ours.read(new(attempt), &got)
		theirs.left = headerBytes
		var wantKeep bool
		_, wantErr := theirs.in.Peek(1)
		if wantErr == nil {
			wantKeep, wantErr = theirs.readAny(&want)
		}
		if (gotErr == nil) != (wantErr == nil) || got.Status != want.Status || got.RetryAfter != want.RetryAfter || !bytes.Equal(got.Excerpt, want.Excerpt) {
			t.Fatalf("got  %d %q %q %v\nwant %d %q %q %v", got.Status, got.RetryAfter, got.Excerpt, gotErr, want.Status, want.RetryAfter, want.Excerpt, wantErr)
		}
		if gotKeep && (!wantKeep || gotErr != nil) {
			t.Fatal("the connection would be used again")
		}
		if rest, _ := io.ReadAll(ours.in); gotKeep {
			if left, _ := io.ReadAll(theirs.in); !bytes.Equal(rest, left) {
				t.Fatalf("%q follows, want %q", rest, left)
			}
		}
	})
}
