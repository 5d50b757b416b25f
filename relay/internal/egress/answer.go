package egress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"

	"golang.org/x/net/http/httpguts"
)

// head is what counts of an answer's head.
type head struct {
	status     int
	retryAfter string
	length     int64 // of the body
	close      bool  // the receiver closes the connection
	size       int   // of the head itself
}

var (
	connection       = []byte("Connection")
	contentLength    = []byte("Content-Length")
	retryAfter       = []byte("Retry-After")
	trailer          = []byte("Trailer")
	transferEncoding = []byte("Transfer-Encoding")
	upgrade          = []byte("Upgrade")
)

// nameBytes are the bytes that a field's name may hold.
var nameBytes = func() (all [256]bool) {
	for c := range all {
		all[c] = httpguts.IsTokenRune(rune(c)) && c < 0x80
	}
	return all
}()

// parseHead parses the head of a plain answer at the beginning of b: complete,
// by HTTP/1.1, final, in the form that everybody gives it, and with the body's
// length where there is a body. It is not ok with anything else, which may be
// right all the same: it never takes what http.ReadResponse does not, and
// never understands it otherwise.
func parseHead(b []byte) (h head, ok bool) {
	const version = "HTTP/1.1 "
	if len(b) < len(version)+5 || string(b[:len(version)]) != version {
		return h, false
	}
	for _, c := range b[len(version) : len(version)+3] {
		if c < '0' || c > '9' {
			return h, false
		}
		h.status = h.status*10 + int(c-'0')
	}
	if after := b[len(version)+3:]; h.status < 200 || after[0] != ' ' && string(after[:2]) != "\r\n" {
		return h, false
	}
	h.length = -1
	for first, again := true, false; ; first = false {
		end := bytes.IndexByte(b[h.size:], '\n')
		if end < 1 || b[h.size+end-1] != '\r' {
			return h, false
		}
		line := b[h.size : h.size+end-1]
		h.size += end + 1
		switch {
		case first:
		case len(line) == 0:
			return h.bodied()
		default:
			if again, ok = h.field(line, again); !ok {
				return h, false
			}
		}
	}
}

// bodied returns h with the length of its body, if that is known.
func (h head) bodied() (head, bool) {
	if h.status == http.StatusNoContent {
		h.length = 0
	}
	return h, h.length >= 0 && h.status != http.StatusNotModified
}

// field takes a line of the header into account. again is whether Retry-After
// was among those before.
func (h *head) field(line []byte, again bool) (bool, bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return again, false
	}
	name, value := line[:colon], line[colon+1:]
	for _, c := range name {
		if !nameBytes[c] {
			return again, false
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return again, false
		}
	}
	value = bytes.Trim(value, " \t")
	switch {
	case bytes.EqualFold(name, contentLength):
		return again, h.length < 0 && h.setLength(value)
	case bytes.EqualFold(name, retryAfter):
		if !again {
			h.retryAfter = string(value)
		}
		return true, true
	case bytes.EqualFold(name, connection):
		isClose := bytes.EqualFold(value, []byte("close"))
		h.close = h.close || isClose
		return again, isClose || bytes.EqualFold(value, []byte("keep-alive"))
	case bytes.EqualFold(name, transferEncoding), bytes.EqualFold(name, upgrade), bytes.EqualFold(name, trailer):
		return again, false
	}
	return again, true
}

// setLength takes a length of 1 to 18 digits.
func (h *head) setLength(digits []byte) bool {
	if len(digits) < 1 || len(digits) > 18 {
		return false
	}
	h.length = 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
		h.length = h.length*10 + int64(c-'0')
	}
	return true
}

// readAny reads any answer into r, with interim ones before it, by net/http. It
// reports whether the connection can be used again, if nothing else was sent.
func (c *conn) readAny(r *Response) (keep bool, err error) {
	for {
		res, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // closing it would read it to its end, however far that is
		switch {
		case err != nil && c.left <= 0:
			return false, errLongHead
		case err != nil:
			return false, err
		case res.StatusCode >= 100 && res.StatusCode <= 199 && res.StatusCode != http.StatusSwitchingProtocols:
			continue
		}
		r.Status, r.RetryAfter = res.StatusCode, res.Header.Get("Retry-After")
		if res.StatusCode == http.StatusSwitchingProtocols {
			return false, nil
		}
		c.left = math.MaxInt64
		excerpt, ended, err := readExcerpt(res.Body)
		r.Excerpt = excerpt
		return ended && !res.Close && res.StatusCode > 199, err
	}
}

// inBody says that err came up after the head.
func inBody(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read body: %w", err)
}
