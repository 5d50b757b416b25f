package outbox

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits in bytes.
const (
	maxName    = 255
	maxKey     = 1 << 10
	maxHeaders = 64 << 10
	maxPayload = 256 << 20 // a message to Postgres has 1 GiB at most, and escaping can double it
)

// row is an event as its columns. Each is a string, or nil for NULL: the one
// type that every driver passes to a column of any type.
type row struct {
	id, eventType, payload string
	tenant, key, headers   any
}

func newRow(e Event) (row, error) {
	r := row{eventType: e.Type}
	var err error
	if r.id, err = eventID(e.ID); err != nil {
		return row{}, err
	}
	if e.Type == "" {
		return row{}, errors.New("type is empty")
	}
	if err := checkText("type", e.Type, maxName); err != nil {
		return row{}, err
	}
	if r.tenant, err = optional("tenant", e.Tenant, maxName); err != nil {
		return row{}, err
	}
	if r.key, err = optional("key", e.Key, maxKey); err != nil {
		return row{}, err
	}
	if r.payload, err = payloadText(e.Payload); err != nil {
		return row{}, err
	}
	if len(e.Headers) > 0 {
		headers, err := marshal(e.Headers)
		if err != nil || len(headers) > maxHeaders {
			return row{}, fmt.Errorf("headers have %d bytes as JSON, at most %d are allowed", len(headers), maxHeaders)
		}
		r.headers = headers
	}
	return r, nil
}

// eventID returns a given id in lower case, and a new one for none.
func eventID(id string) (string, error) {
	if id == "" {
		return newUUID(), nil
	}
	dashed := len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-'
	digits := strings.ReplaceAll(id, "-", "")
	if _, err := hex.DecodeString(digits); err != nil || !dashed || len(digits) != 32 {
		return "", fmt.Errorf("id is not a UUID such as %s", newUUID())
	}
	return strings.ToLower(id), nil
}

// optional returns nil, which is NULL, for empty text.
func optional(field, text string, limit int) (any, error) {
	if text == "" {
		return nil, nil
	}
	return text, checkText(field, text, limit)
}

// checkText refuses what Postgres would, since its error ends the transaction.
func checkText(field, text string, limit int) error {
	switch {
	case len(text) > limit:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", field, len(text), limit)
	case !utf8.ValidString(text):
		return fmt.Errorf("%s is not UTF-8", field)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%s holds a zero byte", field)
	}
	return nil
}

func payloadText(payload any) (string, error) {
	var text string
	switch p := payload.(type) {
	case nil:
		return "", errors.New("payload is nil")
	case json.RawMessage:
		text = string(p)
	case []byte:
		text = string(p)
	default:
		var err error
		if text, err = marshal(payload); err != nil {
			return "", fmt.Errorf("marshal payload of type %T: %w", payload, err)
		}
	}
	if len(text) > maxPayload {
		return "", fmt.Errorf("payload has %d bytes, at most %d are allowed", len(text), maxPayload)
	}
	// Also what was marshalled: a Marshaler is only checked for syntax.
	if !utf8.ValidString(text) {
		return "", errors.New("payload is not UTF-8")
	}
	if !json.Valid([]byte(text)) {
		return "", errors.New("payload is not valid JSON")
	}
	return text, nil
}

// marshal is json.Marshal without escaping <, > and &.
func marshal(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// columns are the row's values in the order of the statements.
func (r row) columns() [6]any {
	return [6]any{r.id, r.eventType, r.tenant, r.key, r.payload, r.headers}
}

// size is about how many bytes the row has in a statement.
func (r row) size() int {
	size := 0
	for _, c := range r.columns() {
		if text, ok := c.(string); ok {
			size += len(text)
		}
	}
	return size
}

// arrays returns the rows' columns as the text of six Postgres arrays. Drivers
// differ in how they take a slice, but they all take text.
func arrays(rows []row) []any {
	var columns [6]strings.Builder
	for i, r := range rows {
		for c, value := range r.columns() {
			b := &columns[c]
			b.WriteByte("{,"[min(i, 1)])
			text, ok := value.(string)
			if !ok {
				b.WriteString("NULL")
				continue
			}
			b.WriteByte('"')
			b.WriteString(escape.Replace(text))
			b.WriteByte('"')
		}
	}
	args := make([]any, len(columns))
	for c := range columns {
		columns[c].WriteByte('}')
		args[c] = columns[c].String()
	}
	return args
}

// escape is what a quoted element of an array's text needs.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
