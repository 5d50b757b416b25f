package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	maxType        = 255     // bytes
	maxHeaders     = 100     // of an event
	maxHeaderValue = 8 << 10 // bytes
	maxHeaderName  = 255     // bytes
)

// apply applies a plugin's answer to the events, or sets their errors. An error
// says that the answer as a whole is none; nothing is changed then.
func (b *batch) apply(reply []byte) error {
	results, err := splitResponse(reply, len(b.events))
	if err != nil {
		return err
	}
	for i, result := range results {
		*b.errs[i] = apply(b.events[i], result)
	}
	return nil
}

// splitResponse returns the messages of a TransformResponse's results, of which
// there must be want. They are decoded one by one: what is wrong with one of them
// is not another event's fault, and small bytes cannot become large memory.
func splitResponse(reply []byte, want int) ([][]byte, error) {
	const field = 1 // TransformResponse.results
	results := make([][]byte, 0, want)
	count := 0
	for len(reply) > 0 {
		number, kind, n := protowire.ConsumeTag(reply)
		if n < 0 {
			return nil, errors.New("answered with what is no message of the protocol")
		}
		size := protowire.ConsumeFieldValue(number, kind, reply[n:])
		if size < 0 {
			return nil, errors.New("answered with what is no message of the protocol")
		}
		if number == field && kind == protowire.BytesType {
			if count++; count <= want {
				result, _ := protowire.ConsumeBytes(reply[n:])
				results = append(results, result)
			}
		}
		reply = reply[n+size:]
	}
	if count != want {
		return nil, fmt.Errorf("answered with %d results for %d events", count, want)
	}
	return results, nil
}

// apply applies one result to its event. With an error the event is unchanged.
func apply(e *plugins.Event, message []byte) error {
	if err := checkShape(message, e.Headers); err != nil {
		return err
	}
	var result pluginv1.Result
	if proto.Unmarshal(message, &result) != nil {
		return errors.New("answered with a result that is no message of the protocol, or whose texts are not UTF-8")
	}
	switch outcome := result.GetOutcome().(type) {
	case *pluginv1.Result_Change:
		return change(e, outcome.Change)
	case *pluginv1.Result_Skip:
		return plugins.Skip(cut(wire.Line(outcome.Skip.GetReason()), maxMessageText))
	case *pluginv1.Result_Failure:
		text := cut(wire.Line(outcome.Failure.GetMessage()), maxMessageText)
		if text == "" {
			text = "failed without saying why"
		}
		if outcome.Failure.GetFinal() {
			return plugins.Reject(errors.New(text))
		}
		return errors.New(text)
	}
	return errors.New("answered with a result that is neither change nor skip nor failure")
}

// checkShape returns an error if a result would need much more memory than it
// has bytes when it is decoded. What is no message of the protocol is let through.
func checkShape(message []byte, before map[string]string) error {
	const outcomes, changeField, headersField, valuesField = 3, 1, 3, 1
	found := 0
	for outcome := range protowire.Number(outcomes) {
		n, _ := lookUp(message, outcome+1)
		found += n
	}
	if found > 1 {
		return errors.New("answered with a result of more than one outcome")
	}
	_, change := lookUp(message, changeField)
	times, headers := lookUp(change, headersField)
	if times > 1 {
		return errors.New("answered with headers more than once in a result")
	}
	n, _ := lookUp(headers, valuesField)
	return checkHeaderCount(n, before)
}

// lookUp returns how often a message has a field of bytes, and the last of them.
func lookUp(message []byte, field protowire.Number) (count int, last []byte) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			break
		}
		if number == field && kind == protowire.BytesType {
			count++
			last, _ = protowire.ConsumeBytes(message[n:])
		}
		message = message[n+size:]
	}
	return count, last
}

// change applies a change if all of it is valid.
func change(e *plugins.Event, c *pluginv1.Change) error {
	if c.Type != nil {
		if err := checkType(c.GetType()); err != nil {
			return err
		}
	}
	if c.Payload != nil {
		if !utf8.Valid(c.Payload) {
			return errors.New("answered with a payload that is not UTF-8")
		}
		if !json.Valid(c.Payload) {
			return errors.New("answered with a payload that is not JSON")
		}
	}
	if c.Headers != nil {
		if err := checkHeaders(c.Headers.GetValues(), e.Headers); err != nil {
			return err
		}
		e.Headers = c.Headers.GetValues()
	}
	if c.Type != nil {
		e.Type = c.GetType()
	}
	if c.Payload != nil {
		e.Payload = c.Payload
	}
	return nil
}

func checkType(text string) error {
	if text == "" || len(text) > maxType {
		return fmt.Errorf("answered with a type of %d bytes: must be 1 to %d", len(text), maxType)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return errors.New("answered with a type that is not printable")
		}
	}
	return nil
}

// checkHeaderCount returns an error unless an event may have so many headers.
func checkHeaderCount(n int, before map[string]string) error {
	if n > max(maxHeaders, len(before)) {
		return fmt.Errorf("answered with %d headers: at most %d are allowed", n, maxHeaders)
	}
	return nil
}

// checkHeaders returns an error unless an event may have these headers, of which
// there are not too many. What it had before it may keep.
func checkHeaders(headers, before map[string]string) error {
	for name, value := range headers {
		if old, ok := before[name]; ok && old == value {
			continue
		}
		if !isToken(name) || len(name) > maxHeaderName {
			return fmt.Errorf("answered with a header name that is none of HTTP's: %q", cut(wire.Line(name), 64))
		}
		if len(value) > maxHeaderValue {
			return fmt.Errorf("answered with a value of %d bytes for header %s: at most %d are allowed", len(value), name, maxHeaderValue)
		}
		for _, r := range value {
			if unicode.IsControl(r) {
				return fmt.Errorf("answered with a control character in header %s", name)
			}
		}
	}
	return nil
}

// isToken reports whether text is a token of RFC 9110, section 5.6.2.
func isToken(text string) bool {
	for _, r := range text {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', strings.ContainsRune("!#$%&'*+-.^_`|~", r):
		default:
			return false
		}
	}
	return text != ""
}
