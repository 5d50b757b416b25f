package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// serveLightly answers requests with as little work as it can, so that what is
// measured is the client. It ends with the test.
func serveLightly(tb testing.TB, config *tls.Config) (address string) {
	tb.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go answerLightly(c)
		}
	}()
	tb.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func answerLightly(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 32<<10)
	answer := []byte("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 08:00:00 GMT\r\nContent-Length: 2\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nok")
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if digits, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(digits)))
		}
		if len(line) > 2 {
			continue
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkSend compares attempts with what the same requests cost by net/http.
func BenchmarkSend(b *testing.B) {
	certificate := newCertificate(b, "server", nil, nil)
	servers := map[string]*tls.Config{"http": nil, "https": {Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}}
	for _, scheme := range []string{"http", "https"} {
		for _, size := range []int{512, 64 << 10} {
			for _, inFlight := range []int{1, 64} {
				for _, by := range []string{"lean", "net/http"} {
					b.Run(fmt.Sprintf("%s/%d-bytes/%d-in-flight/%s", scheme, size, inFlight, by), func(b *testing.B) {
						c, err := New(Options{Allow: loopback, Permit: func() bool { return true }})
						if err != nil {
							b.Fatal(err)
						}
						defer c.Close()
						target, err := c.Target(TLS{Insecure: true}, nil)
						if err != nil {
							b.Fatal(err)
						}
						q := &Request{
							Method: "POST", URL: &url.URL{Scheme: scheme, Host: serveLightly(b, servers[scheme]), Path: "/hooks"},
							Header: Header{
								{"Content-Type", "application/json"}, {"User-Agent", "posthorn/1.0"}, {"Webhook-Id", "b7a0a6cd-6f8b-4d6e-9b32-8e2e29d8a1c4"},
								{"Webhook-Timestamp", "1763798400"}, {"Webhook-Signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
							},
							Body: bytes.Repeat([]byte("x"), size), Timeout: 15 * time.Second, Target: target,
						}
						ctx, cancel := context.WithCancel(b.Context())
						defer cancel()
						send := func() error { return c.Send(ctx, q).Err }
						if by == "net/http" {
							send = func() error { return sendByNetHTTP(ctx, target.transport.Transport, q) }
						}
						var warm sync.WaitGroup // makes the connections
						for range inFlight {
							warm.Go(func() {
								if err := send(); err != nil {
									b.Error(err)
								}
							})
						}
						warm.Wait()
						b.ReportAllocs()
						b.ResetTimer()
						b.SetParallelism(max(inFlight/runtime.GOMAXPROCS(0), 1))
						if inFlight == 1 {
							for b.Loop() {
								if err := send(); err != nil {
									b.Fatal(err)
								}
							}
							return
						}
						b.RunParallel(func(p *testing.PB) {
							for p.Next() {
								if err := send(); err != nil {
									b.Error(err)
								}
							}
						})
					})
				}
			}
		}
	}
}

// sendByNetHTTP sends q as a program would that knows nothing of this package.
func sendByNetHTTP(ctx context.Context, transport *http.Transport, q *Request) error {
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	res, err := transport.RoundTrip(build(ctx, q, q.Header))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return err
}
