package transforms

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

const (
	defaultMask = "***"
	minSecret   = 16 // bytes
)

// RedactOptions says which values NewRedact hides, and how.
type RedactOptions struct {
	Paths []string
	// Mode is "mask" (the default) or "hash".
	Mode string
	// Mask is the text that stands for a value with mode mask; "***" if empty.
	Mask string
	// Secret is the key for mode hash, at least 16 bytes.
	Secret []byte
}

// NewRedact returns the Transform that hides the values at paths of the payload.
// With mode mask a value becomes the JSON string of Mask. With mode hash it
// becomes "hmac-sha256:" and the hexadecimal HMAC-SHA256 of what the value is: a
// string's text, else its JSON without white space between tokens. So the same
// value is recognised under the same secret, while the string "1" and the number
// 1 look alike. null stays null in both.
//
// An object or array is hidden whole, with what other paths mean in it.
func NewRedact(o RedactOptions) (Transform, error) {
	tree := newPathTree()
	if err := tree.addAll(o.Paths); err != nil {
		return nil, err
	}
	switch o.Mode {
	case "", "mask":
		if len(o.Secret) > 0 {
			return nil, errors.New("a secret is for mode hash")
		}
		mask, err := quote(cmp.Or(o.Mask, defaultMask))
		if err != nil {
			return nil, fmt.Errorf("mask: %w", err)
		}
		hide := func([]byte) []byte { return mask }
		return newEditor(tree, func() edit { return redact(hide) }), nil
	case "hash":
		switch {
		case o.Mask != "":
			return nil, errors.New("a mask is for mode mask")
		case len(o.Secret) < minSecret:
			return nil, fmt.Errorf("a secret of at least %d bytes is needed for mode hash", minSecret)
		}
		secret := bytes.Clone(o.Secret)
		return newEditor(tree, func() edit {
			h := hasher{hmac: hmac.New(sha256.New, secret)}
			return redact(h.hide)
		}), nil
	default:
		return nil, fmt.Errorf("mode %q is unknown; there are mask and hash", o.Mode)
	}
}

// redact returns the edit that puts what hide yields for a value in its place.
func redact(hide func(value []byte) []byte) edit {
	return edit{entry: func(w *pathWalk, e entry) (stays bool, err error) {
		if firstEnd(w.steps[e.at:]) == nil {
			return true, w.follow(e.at)
		}
		isNull := w.peek() == 'n'
		start := w.pos
		if err := w.skip(); err != nil {
			return true, err
		}
		if !isNull {
			w.replace(start, hide(w.src[start:w.pos]))
		}
		return true, nil
	}}
}

// hasher keeps what one hash after the other needs.
type hasher struct {
	hmac    hash.Hash
	sum     [sha256.Size]byte
	compact []byte
	quoted  []byte
}

// hide returns the hash of a valid value as a JSON string, until it is called
// again.
func (h *hasher) hide(value []byte) []byte {
	h.hmac.Reset()
	if value[0] == '"' {
		h.hmac.Write(stringText(value))
	} else {
		h.compact = appendCompact(h.compact[:0], value)
		h.hmac.Write(h.compact)
		if cap(h.compact) > maxKeptBuffer {
			h.compact = nil
		}
	}
	h.quoted = append(h.quoted[:0], `"hmac-sha256:`...)
	h.quoted = hex.AppendEncode(h.quoted, h.hmac.Sum(h.sum[:0]))
	h.quoted = append(h.quoted, '"')
	return h.quoted
}
