// Package wire holds what a plugin and its host must agree on beside
// plugin.proto.
package wire

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-plugin"
)

// The environment variable that says that Posthorn started the program, and its
// value. They are no secret: they tell a plugin that a person has started it.
const (
	CookieKey   = "POSTHORN_PLUGIN"
	CookieValue = "posthorn-transformer"
)

// What the host tells a plugin by its environment, beside what go-plugin does.
const (
	EnvMaxMessage = "POSTHORN_PLUGIN_MAX_MESSAGE" // bytes of one message, both ways; decimal
	EnvParent     = "POSTHORN_PLUGIN_PARENT"      // process id of the relay; decimal
)

// Set is the name of the only plugin in each version's set.
const Set = "transformer"

// Version1 is the protocol of plugin.proto's package posthorn.plugin.v1.
const Version1 = 1

// DefaultMaxMessage are the bytes of a message where EnvMaxMessage says nothing.
const DefaultMaxMessage = 16 << 20

// maxLine bounds Line's result, in bytes.
const maxLine = 1000

// Handshake returns how the host's and the plugin's go-plugin know each other.
// Versions are negotiated by VersionedPlugins on both sides, hence it has none.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}

// Versions returns the protocol versions that this release speaks, oldest first.
func Versions() []int { return []int{Version1} }

// Mismatch returns what is wrong with a plugin of a version that is none of
// Versions.
func Mismatch(version int) string {
	spoken := strings.Trim(fmt.Sprint(Versions()), "[]")
	return fmt.Sprintf("speaks protocol version %d, this Posthorn speaks version %s", version, spoken)
}

// Line returns text as people should read it, with a delivery: one line of
// printable, valid UTF-8 of at most 1000 bytes.
func Line(text string) string {
	var b strings.Builder
	space := false
	for _, r := range text { // yields U+FFFD where it is not UTF-8
		if !unicode.IsPrint(r) || r == ' ' {
			space = b.Len() > 0
			continue
		}
		n := utf8.RuneLen(r)
		if space {
			n++
		}
		if b.Len()+n > maxLine-len("…") {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}
