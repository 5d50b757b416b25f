// Command plugin-redact is a plugin of Posthorn. It masks the numbers of payment
// cards, wherever they stand in a payload: the built-in redact wants to be told
// the paths.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"

	"github.com/posthorn/posthorn/plugins"
)

const (
	shortest, longest = 13, 19 // digits of a card
	shown             = 4      // of them that stay, at the end
)

var (
	scalar = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?[0-9][-+.0-9Ee]*`) // each text and number of a JSON document
	groups = regexp.MustCompile(`\b[0-9]+(?:[ -][0-9]+)*\b`)
	group  = regexp.MustCompile(`[0-9]+`)
)

func main() {
	plugins.Serve(plugins.TransformerFunc(redact))
}

// redact masks the card numbers of an event's payload. All else, also a payload
// without any, keeps its bytes.
func redact(_ context.Context, e *plugins.Event) error {
	if masked := scalar.ReplaceAllFunc(e.Payload, maskScalar); !bytes.Equal(masked, e.Payload) {
		e.Payload = masked
	}
	return nil
}

// maskScalar returns a JSON text or number with its card numbers masked. A
// number becomes a text, since no number has asterisks.
func maskScalar(raw []byte) []byte {
	text := string(raw)
	if raw[0] == '"' && json.Unmarshal(raw, &text) != nil {
		return raw
	}
	masked := groups.ReplaceAllStringFunc(text, maskCards)
	if masked == text {
		return raw
	}
	quoted, err := json.Marshal(masked)
	if err != nil { // no text has one
		return raw
	}
	return quoted
}

// maskCards returns groups of digits with the cards in them masked: groups that
// follow each other and have as many digits as a card, and its check digit.
func maskCards(text string) string {
	all := group.FindAllStringIndex(text, -1)
	masked := []byte(text)
	for i, first := range all {
		digits := 0
		for _, last := range all[i:] {
			if digits += last[1] - last[0]; digits > longest {
				break
			}
			if card := text[first[0]:last[1]]; digits >= shortest && luhn(card) {
				maskCard(masked[first[0]:last[1]], digits-shown)
			}
		}
	}
	return string(masked)
}

// maskCard masks the first n digits of a card.
func maskCard(card []byte, n int) {
	for i := 0; n > 0; i++ {
		if card[i] != ' ' && card[i] != '-' {
			card[i] = '*'
			n--
		}
	}
}

// luhn reports whether the last of the digits is the check digit of the others,
// as it is on every payment card.
func luhn(digits string) bool {
	sum, double := 0, false
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i] == ' ' || digits[i] == '-' {
			continue
		}
		n := int(digits[i] - '0')
		if double {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum, double = sum+n, !double
	}
	return sum%10 == 0
}
