package egress

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// deafHTTP2 answers a request's head, reads nothing of its body, and keeps the
// connection busy with frames that nobody knows.
func deafHTTP2(c net.Conn, stop <-chan struct{}) {
	if _, err := io.CopyN(io.Discard, c, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(c, c)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = framer.WriteWindowUpdate(0, 1<<31-1-65535)
	stream := uint32(0)
	for stream == 0 {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if head, ok := frame.(*http2.HeadersFrame); ok {
			stream = head.StreamID
		}
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	<-ticker.C // by now the body is stuck
	var head bytes.Buffer
	_ = hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true})
	_ = framer.WriteData(stream, false, make([]byte, 8<<10))
	for framer.WriteRawFrame(0xfe, 0, 0, nil) == nil {
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

// TestHTTP2ServerThatTakesNoBodyEndsWithTheAttempt has a body larger than the
// kernel buffers, which holds the transport in a write without deadline.
func TestHTTP2ServerThatTakesNoBodyEndsWithTheAttempt(t *testing.T) {
	certificate := newCertificate(t, "server", nil, nil)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	stop, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		deafHTTP2(c, stop)
		_ = c.Close()
	}()
	defer func() { close(stop); _ = listener.Close(); <-served }()
	c := newClient(t, Options{Allow: loopback})
	q := insecure(t, c, "https://"+listener.Addr().String())
	q.Body, q.Timeout = make([]byte, 16<<20), 300*time.Millisecond
	r := c.Send(t.Context(), q)
	if r.Err == nil || r.Err.Error() != "no complete answer within 300ms" || r.Total > q.Timeout+time.Second {
		t.Errorf("got %v after %s", r.Err, r.Total)
	}
}

// TestHandshakeEndsWithItsAttempt has a server that takes connections and says
// nothing: they must not gather.
func TestHandshakeEndsWithItsAttempt(t *testing.T) {
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := newClient(t, Options{Allow: loopback})
	q := newRequest(t, "https://"+listener.Addr().String())
	q.Header, q.Timeout = Header{}, 100*time.Millisecond
	if r := c.Send(t.Context(), q); r.Err == nil || r.Err.Error() != "no complete answer within 100ms" {
		t.Errorf("got %+v", r)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil { // to its end
		t.Errorf("the connection is open after its attempt: %v", err)
	}
}
