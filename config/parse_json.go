package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sort"
)

// jsonDocument reads JSON token by token: the decoder alone would drop
// repeated keys and every position.
type jsonDocument struct {
	*builder
	decoder *json.Decoder
	lines   lineIndex
}

// parseJSON reads one JSON value. It returns nil when the text is no JSON,
// which it reports.
func (b *builder) parseJSON(data []byte) *node {
	d := jsonDocument{builder: b, decoder: json.NewDecoder(bytes.NewReader(data)), lines: indexLines(data)}
	d.decoder.UseNumber()
	root, err := d.value("", 0, 0)
	if err == nil {
		if _, err = d.decoder.Token(); errors.Is(err, io.EOF) {
			return root
		}
		if err == nil {
			err = errors.New("something stands behind the value")
		}
	}
	message, offset := err.Error(), d.decoder.InputOffset()
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		message, offset = "it ends too early", int64(len(data))
	}
	b.problems.add(place{node: &node{file: b.file, line: d.lines.at(int(offset))}}, "is not valid JSON: %s", message)
	return nil
}

// value reads the next value. keyLine is the line of its key, or 0 in a list.
func (d *jsonDocument) value(key string, keyLine, depth int) (*node, error) {
	token, err := d.decoder.Token()
	if err != nil {
		return nil, err
	}
	line := keyLine
	if line == 0 {
		line = d.lines.at(int(d.decoder.InputOffset()))
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			return d.list(key, line, depth)
		}
		return d.object(key, line, depth)
	case string:
		return d.node(text, t, key, line, depth), nil
	case json.Number:
		return d.node(number, t.String(), key, line, depth), nil
	case bool:
		name := "false"
		if t {
			name = "true"
		}
		return d.node(boolean, name, key, line, depth), nil
	default:
		return d.node(null, "", key, line, depth), nil
	}
}

func (d *jsonDocument) list(key string, line, depth int) (*node, error) {
	result := d.node(list, "", key, line, depth)
	for i := 0; d.decoder.More(); i++ {
		if d.full {
			return result, errTooMuch
		}
		item, err := d.value(itemKey(key, i), 0, depth+1)
		if err != nil {
			return nil, err
		}
		result.items = append(result.items, item)
	}
	_, err := d.decoder.Token() // the closing bracket
	return result, err
}

func (d *jsonDocument) object(key string, line, depth int) (*node, error) {
	result := d.node(object, "", key, line, depth)
	for d.decoder.More() {
		if d.full {
			return result, errTooMuch
		}
		token, err := d.decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder takes nothing else for a key
		child, err := d.value(fieldKey(key, name), d.lines.at(int(d.decoder.InputOffset())), depth+1)
		if err != nil {
			return nil, err
		}
		d.put(result, key, name, child)
	}
	_, err := d.decoder.Token() // the closing brace
	return result, err
}

// errTooMuch ends the reading of a document that is past its bounds.
var errTooMuch = errors.New("it is past the bounds of a configuration")

// lineIndex holds the offsets of a text's newlines.
type lineIndex []int

func indexLines(data []byte) lineIndex {
	var index lineIndex
	for i, c := range data {
		if c == '\n' {
			index = append(index, i)
		}
	}
	return index
}

// at returns the line, counting from 1, that holds the byte before offset.
func (l lineIndex) at(offset int) int { return sort.SearchInts(l, offset-1) + 1 }
