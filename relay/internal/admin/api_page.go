package admin

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// PageInput says which page of a list is wanted. Exported, as huma wants of what
// is embedded.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"At most so many."`
	Cursor string `query:"cursor" maxLength:"600" doc:"The page before's next: where this page begins."`
}

// Cursors are base64url of a list's letter and where in it the page before
// ended. Whoever sends one may have made it up.
const (
	deliveryList = 'd' // then microseconds since 1970 and the delivery's id
	endpointList = 'e' // then the endpoint's name, NUL and id
	eventList    = 't' // then the event's type
	auditList    = 'a' // then the entry's id
	replayList   = 'r' // then microseconds since 1970 and the replay's id
)

func badCursor() error { return invalid("query.cursor", "is no next of a page of this list") }

func writeCursor(list byte, place string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{list}, place...))
}

// readCursor returns where the page before ended: "" without a cursor.
func readCursor(list byte, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	place, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(place) < 2 || place[0] != list {
		return "", badCursor()
	}
	return string(place[1:]), nil
}

// lastMicrosecond is the last of the year 9999, since 1970.
const lastMicrosecond = 253402300799999999

// writePlaceCursor returns the cursor of a list that is ordered by time and id.
func writePlaceCursor(list byte, c ledger.Cursor) string {
	place := binary.BigEndian.AppendUint64(nil, uint64(c.CreatedAt.UnixMicro()))
	return writeCursor(list, string(append(place, c.ID[:]...)))
}

func readPlaceCursor(list byte, cursor string) (c ledger.Cursor, err error) {
	place, err := readCursor(list, cursor)
	if err != nil || place == "" {
		return c, err
	}
	if len(place) != 8+len(c.ID) {
		return c, badCursor()
	}
	at := binary.BigEndian.Uint64([]byte(place))
	if at > lastMicrosecond {
		return c, badCursor()
	}
	return ledger.Cursor{CreatedAt: time.UnixMicro(int64(at)), ID: uuid.UUID([]byte(place[8:]))}, nil
}

// page sorts items by their places and returns those that follow the place of
// the cursor, at most limit of them, and the next page's cursor, "" at the end.
func page[T any](in *PageInput, list byte, items []T, placeOf func(*T) string) (part []T, next string, err error) {
	after, err := readCursor(list, in.Cursor)
	if err != nil {
		return nil, "", err
	}
	type placed struct {
		place string
		item  *T
	}
	var rest []placed
	for i := range items {
		if place := placeOf(&items[i]); place > after {
			rest = append(rest, placed{place, &items[i]})
		}
	}
	slices.SortFunc(rest, func(a, b placed) int { return strings.Compare(a.place, b.place) })
	part = []T{} // an array, not null
	for _, p := range rest[:min(len(rest), in.Limit)] {
		part = append(part, *p.item)
	}
	if len(rest) > in.Limit {
		next = writeCursor(list, rest[in.Limit-1].place)
	}
	return part, next, nil
}

// checkText returns the problem of a text that is not one line: Postgres takes
// neither NUL nor what is not UTF-8.
func checkText(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid(field, "is one line of text")
	}
	return nil
}

// checkID returns the id that text is.
func checkID(field, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return uuid.Nil, invalid(field, "is a UUID")
	}
	return id, nil
}

// checkTime returns the problem of a time that Postgres does not know.
func checkTime(field string, at time.Time) error {
	if !at.IsZero() && (at.Year() < 1 || at.Year() > 9999) {
		return invalid(field, "is a time of the years 1 to 9999")
	}
	return nil
}

// parseTime returns the time that text, as in RFC 3339, is: zero for "".
func parseTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, invalid(field, "is a time such as 2026-05-22T09:30:00Z")
	}
	return at, nil
}

// excerpt returns the beginning of a text that may be long, or no text.
func excerpt(b []byte) string { return excerptOf(b, int64(len(b))) }

// excerptOf is excerpt of a text of size bytes, of which b is all or the
// beginning.
func excerptOf(b []byte, size int64) string {
	if len(b) > maxText {
		return strings.ToValidUTF8(string(b[:maxText]), "") + fmt.Sprintf("… (%d bytes)", max(size, int64(len(b))))
	}
	return string(b)
}
