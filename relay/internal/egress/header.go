package egress

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Header is the fields of a request, name and value, in the order and spelling
// in which they are sent. Names are looked up in any spelling.
type Header [][2]string

// ErrInvalidHeader reports that a field cannot be sent: its name is no token of
// RFC 9110, or its value holds a line break or another control character.
var ErrInvalidHeader = errors.New("its name or value holds characters that no header may")

// Get returns the first value of a field, or "" if there is none.
func (h Header) Get(name string) string {
	for i := range h {
		if strings.EqualFold(h[i][0], name) {
			return h[i][1]
		}
	}
	return ""
}

// Values returns all values of a field.
func (h Header) Values(name string) []string {
	var all []string
	for i := range h {
		if strings.EqualFold(h[i][0], name) {
			all = append(all, h[i][1])
		}
	}
	return all
}

// Has reports whether a field is there.
func (h Header) Has(name string) bool {
	return slices.ContainsFunc(h, func(field [2]string) bool { return strings.EqualFold(field[0], name) })
}

// Add puts a field behind the others.
func (h *Header) Add(name, value string) { *h = append(*h, [2]string{name, value}) }

// Del removes all values of a field.
func (h *Header) Del(name string) {
	*h = slices.DeleteFunc(*h, func(field [2]string) bool { return strings.EqualFold(field[0], name) })
}

// Set puts a field behind the others, in place of all its values.
func (h *Header) Set(name, value string) {
	if h.Has(name) {
		h.Del(name)
	}
	h.Add(name, value)
}

// HTTP returns the fields as net/http has them, with names as they are spelt.
func (h Header) HTTP() http.Header {
	all := make(http.Header, len(h))
	for _, field := range h {
		all[field[0]] = append(all[field[0]], field[1])
	}
	return all
}

// clone returns a copy with room for one more field.
func (h Header) clone() Header {
	return append(make(Header, 0, len(h)+1), h...)
}

// check returns an error that is ErrInvalidHeader if a field cannot be sent.
func (h Header) check() error {
	for i := range h {
		if !httpguts.ValidHeaderFieldName(h[i][0]) || !httpguts.ValidHeaderFieldValue(h[i][1]) {
			return fmt.Errorf("header %s: %w", clean(h[i][0]), ErrInvalidHeader)
		}
	}
	return nil
}

// appendTo appends the fields as HTTP/1.1 has them to b.
func (h Header) appendTo(b []byte) []byte {
	for i := range h {
		if isOwn(h[i][0]) {
			continue
		}
		b = append(b, h[i][0]...)
		b = append(b, ": "...)
		b = append(b, strings.Trim(h[i][1], " \t")...)
		b = append(b, "\r\n"...)
	}
	return b
}

// isOwn reports whether a field is the client's own, since it says where a
// request ends or which host it is for.
func isOwn(name string) bool {
	switch len(name) {
	case len("Host"):
		return strings.EqualFold(name, "Host")
	case len("Trailer"):
		return strings.EqualFold(name, "Trailer")
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}
