package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestHeaderIsLookedUpInAnySpelling(t *testing.T) {
	h := Header{{"b", "1"}, {"A", "2"}, {"B", "3"}}
	if h.Get("B") != "1" || h.Get("a") != "2" || h.Get("c") != "" || h.Has("c") || !h.Has("a") || !slices.Equal(h.Values("b"), []string{"1", "3"}) {
		t.Errorf("got %q, %q, %q, %q", h.Get("B"), h.Get("a"), h.Get("c"), h.Values("b"))
	}
	if all := h.HTTP(); len(all) != 3 || !slices.Equal(all["b"], []string{"1"}) { //nolint:staticcheck // as it is spelt
		t.Errorf("got %v", all)
	}
	copied := h.clone()
	copied.Set("b", "4")
	copied.Add("a", "5")
	if want := (Header{{"A", "2"}, {"b", "4"}, {"a", "5"}}); !slices.Equal(copied, want) {
		t.Errorf("got %v, want %v", copied, want)
	}
	if want := (Header{{"b", "1"}, {"A", "2"}, {"B", "3"}}); !slices.Equal(h, want) {
		t.Errorf("the copied header became %v", h)
	}
}

func TestFieldsThatNoHeaderCarriesAreNotSent(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	for _, field := range [][2]string{
		{"X-A", "a\r\nX-Evil: 1"}, {"X-A", "a\n"}, {"X-A", "a\rb"}, {"X-A", "\x00"}, {"X-A", "\x7f"},
		{"", "a"}, {"X A", "a"}, {"X-A:", "a"}, {"X\r\nY", "a"}, {"Ü", "a"},
	} {
		for _, scheme := range []string{"http", "https"} {
			c := newClient(t, Options{Allow: loopback})
			q := insecure(t, c, strings.Replace(server.URL, "https", scheme, 1))
			q.Header = append(q.Header, field)
			if r := c.Send(t.Context(), q); !errors.Is(r.Err, ErrInvalidHeader) || strings.ContainsAny(r.Err.Error(), "\r\n") || r.Connect != 0 {
				t.Errorf("%q by %s: got %v", field, scheme, r.Err)
			}
		}
	}
}

// TestRequestOnTheWire has the bytes of a request that could be misunderstood.
func TestRequestOnTheWire(t *testing.T) {
	tests := []struct {
		name, target, want string
		header             Header
	}{
		{
			"in order and as spelt", "/a%2Fb?c=%20d#e",
			"POST /a%2Fb?c=%20d HTTP/1.1\r\nHost: HOST\r\nX-odd-Case: 1\r\nb: 2\r\nA: \r\nb: 3\r\nContent-Length: 7\r\n\r\n",
			Header{{"X-odd-Case", "1"}, {"b", " 2\t"}, {"A", ""}, {"b", "3"}},
		},
		{
			"what is the client's own", "",
			"POST / HTTP/1.1\r\nHost: HOST\r\nX-A: ü\r\nContent-Length: 7\r\n\r\n",
			Header{{"host", "evil.example"}, {"Content-Length", "1"}, {"TRANSFER-ENCODING", "chunked"}, {"Trailer", "X"}, {"X-A", "ü"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			address := serveConns(t, func(c net.Conn, _ <-chan struct{}) {
				var head bytes.Buffer
				in := bufio.NewReader(io.TeeReader(io.LimitReader(c, int64(len(tt.want)-len("HOST")+len(c.LocalAddr().String()))), &head))
				_, _ = io.Copy(io.Discard, in)
				got <- head.String()
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			})
			q := newRequest(t, "http://"+address+tt.target)
			q.Header = tt.header
			r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q)
			if want := strings.Replace(tt.want, "HOST", address, 1); r.Err != nil || <-got != want {
				t.Errorf("got %v, want %q", r.Err, want)
			}
		})
	}
}

func TestRequestsThatCannotBeMadeAreNotSent(t *testing.T) {
	for _, change := range []func(*Request){
		func(q *Request) { q.Method = "" },
		func(q *Request) { q.Method = "PO ST" },
		func(q *Request) { q.Method = "POST / HTTP/1.1\r\nX" },
		func(q *Request) { q.URL.Host = "" },
		func(q *Request) { q.URL.Scheme = "ftp" },
		func(q *Request) { q.URL.RawQuery = "a\r\nb" },
	} {
		q := newRequest(t, "http://127.0.0.1:1/")
		change(q)
		if r := newClient(t, Options{Allow: loopback}).Send(t.Context(), q); r.Err == nil || r.Connect != 0 {
			t.Errorf("%s %v: got %+v", q.Method, q.URL, r)
		}
	}
}
