package dashboard

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// verifying says how a receiver verifies an endpoint's requests.
type verifying struct {
	Header string // which carries the signature
	What   string // a sentence
	Node   string // code for a receiver; "" where a library does it
	Shell  string // the same on a command line; "" for none
}

// verifyingOf returns how requests of an endpoint are verified, by the first of
// its signatures; nil where they are not signed. publicKey is that of its secret,
// "" where receivers have the secret itself.
func verifyingOf(effective json.RawMessage, hasSecret bool, publicKey string) *verifying {
	list := signaturesOf(effective, hasSecret)
	if len(list) == 0 {
		return nil
	}
	s := list[0]
	switch s.Scheme {
	case "hmac":
		return byHMAC(cmp.Or(s.Header, "X-Signature"), cmp.Or(s.Algorithm, "sha256"), cmp.Or(s.Encoding, "hex"), cmp.Or(s.Content, "{body}"), cmp.Or(s.Value, "{signature}"))
	case "github":
		return byHMAC(cmp.Or(s.Header, "X-Hub-Signature-256"), "sha256", "hex", "{body}", "sha256={signature}")
	case "stripe":
		return &verifying{Header: cmp.Or(s.Header, "Stripe-Signature"),
			What: "t=<unix seconds>,v1=<hex>: HMAC-SHA256, keyed by the secret, of the timestamp, a dot and the raw body. Refuse what is older than 5 minutes.",
			Node: "const event = stripe.webhooks.constructEvent(rawBody, req.header(" + quoteJS(cmp.Or(s.Header, "Stripe-Signature")) + "), process.env.WEBHOOK_SECRET);"}
	case "http-message":
		if s.Algorithm == ed25519 {
			return &verifying{Header: "Signature", What: "An HTTP message signature (RFC 9421), by an Ed25519 key whose public half receivers have, over the components that Signature-Input names, with the body's Content-Digest (RFC 9530)."}
		}
		return &verifying{Header: "Signature", What: "An HTTP message signature (RFC 9421) over the components that Signature-Input names, with the body's Content-Digest (RFC 9530)."}
	}
	prefix := cmp.Or(s.Prefix, "webhook")
	if publicKey != "" {
		return byPublicKey(prefix)
	}
	return &verifying{Header: prefix + "-signature",
		What: "Standard Webhooks: v1,<base64> is HMAC-SHA256 of id, dot, " + prefix + "-timestamp, dot and the raw body, keyed by the decoded secret. Refuse what is older than 5 minutes.",
		Node: "import { Webhook } from \"standardwebhooks\";\n\nconst event = new Webhook(process.env.WEBHOOK_SECRET).verify(rawBody, req.headers);"}
}

// ed25519 is the algorithm of signatures that receivers verify by a public key.
const ed25519 = "ed25519"

// shares reports whether receivers need the secret itself, of an endpoint whose
// secret is an Ed25519 key: one of its signatures takes it as any text.
func shares(effective json.RawMessage) bool {
	return slices.ContainsFunc(signaturesOf(effective, true), func(s signatureOf) bool {
		return s.Scheme != "standard-webhooks" && (s.Scheme != "http-message" || s.Algorithm != ed25519)
	})
}

// byPublicKey is verifying for Standard Webhooks by Ed25519.
func byPublicKey(prefix string) *verifying {
	return &verifying{Header: prefix + "-signature",
		What: "Standard Webhooks: v1a,<base64> is an Ed25519 signature of id, dot, " + prefix + "-timestamp, dot and the raw body, by the key whose public half receivers have. Refuse what is older than 5 minutes.",
		Node: fmt.Sprintf(`import crypto from "node:crypto";

// WEBHOOK_PUBLIC_KEY is whpk_ and base64. What stands before the key makes it SPKI.
const raw = Buffer.from(process.env.WEBHOOK_PUBLIC_KEY.slice("whpk_".length), "base64");
const key = crypto.createPublicKey({ key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]), format: "der", type: "spki" });

// Over the bytes that came, before any JSON is parsed:
function verify(rawBody, headers) {
  const sent = headers["%[1]s-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - sent) < 300)) return false;
  const signed = Buffer.concat([Buffer.from(headers["%[1]s-id"] + "." + sent + "."), rawBody]);
  return headers["%[1]s-signature"].split(" ").some((s) => s.startsWith("v1a,") && crypto.verify(null, signed, key, Buffer.from(s.slice(4), "base64")));
}`, prefix)}
}

// byHMAC is verifying for a plain HMAC.
func byHMAC(header, algorithm, encoding, content, value string) *verifying {
	v := &verifying{Header: header}
	signed := "the raw body"
	if content != "{body}" {
		signed = content + ", where {body} is the raw body"
	}
	v.What = fmt.Sprintf("%s HMAC-%s of %s, keyed by the secret.", encoding, strings.ToUpper(algorithm), signed)
	prefix, suffix, _ := strings.Cut(value, "{signature}")
	if content != "{body}" || suffix != "" || strings.Contains(prefix, "{") {
		v.What += " The header's value is " + value + "."
		return v
	}
	if prefix != "" {
		v.What += " The header's value is " + value + "."
	}
	v.Node = fmt.Sprintf(`import crypto from "node:crypto";

function verify(rawBody, header, secret) {
  const expected = %scrypto.createHmac(%q, secret).update(rawBody).digest(%q);
  const a = Buffer.from(expected), b = Buffer.from(header ?? "");
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

// Over the bytes that came, before any JSON is parsed:
verify(rawBody, req.header(%s), process.env.WEBHOOK_SECRET);`, prefixJS(prefix), algorithm, encoding, quoteJS(header))
	if encoding == "hex" {
		v.Shell = fmt.Sprintf(`openssl dgst -%s -hmac "$WEBHOOK_SECRET" < body.json`, algorithm)
	}
	return v
}

func prefixJS(prefix string) string {
	if prefix == "" {
		return ""
	}
	return quoteJS(prefix) + " + "
}

func quoteJS(text string) string { return fmt.Sprintf("%q", text) }

// curlOf returns a command that makes the request of a delivery once more, but
// for what is made at each attempt: signatures and authentication. Of a
// body of size bytes, body is at least the beginning.
func curlOf(r *ledger.Request, url string, body []byte, size int64) string {
	var b strings.Builder
	// curl would make several requests of a URL with brackets, and read the file
	// that a body names after an @.
	fmt.Fprintf(&b, "curl --globoff --request %s %s", quoteShell(r.Method), quoteShell(url))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " \\\n  --header %s", quoteShell(h[0]+": "+h[1]))
	}
	if size = max(size, int64(len(body))); size > maxText {
		fmt.Fprintf(&b, " \\\n  --data-binary @body.json # %s: too long to be written here", byteSize(size))
		return b.String()
	}
	fmt.Fprintf(&b, " \\\n  --data-raw %s", quoteShell(strings.ToValidUTF8(string(body), "\uFFFD")))
	return b.String()
}

// quoteShell returns text as one word of a shell, whatever is in it.
func quoteShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
