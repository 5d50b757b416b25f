package signing

import "fmt"

// newStripe is the hmac scheme as Stripe has it, in
// https://docs.stripe.com/webhooks#verify-manually: the first pair is the time,
// each further one a signature, in hex.
func newStripe(o Options) (method, error) {
	return newPreset(o, Options{
		Header: "Stripe-Signature", Content: timestampPart + "." + bodyPart, Value: "t=" + timestampPart + ",v1=" + signaturePart,
	})
}

// newGitHub is the hmac scheme as GitHub has it, in
// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
func newGitHub(o Options) (method, error) {
	return newPreset(o, Options{Header: "X-Hub-Signature-256", Content: bodyPart, Value: "sha256=" + signaturePart})
}

// newPreset returns the hmac scheme with the preset's options, of which o may
// change the header.
func newPreset(o, preset Options) (method, error) {
	if err := checkFixed(o, fieldAlgorithm, fieldEncoding, fieldContent, fieldValue); err != nil {
		return nil, err
	}
	preset.Prefix = o.Prefix
	preset.Scheme = o.Scheme
	preset.Header = orDefault(o.Header, preset.Header)
	return newHMAC(preset)
}

// field is one of Options, and its name in the configuration.
type field struct {
	name string
	of   func(Options) string
}

var (
	fieldHeader    = field{"header", func(o Options) string { return o.Header }}
	fieldAlgorithm = field{"algorithm", func(o Options) string { return o.Algorithm }}
	fieldEncoding  = field{"encoding", func(o Options) string { return o.Encoding }}
	fieldContent   = field{"content", func(o Options) string { return o.Content }}
	fieldValue     = field{"value", func(o Options) string { return o.Value }}
)

// checkFixed refuses fields that the scheme fixes.
func checkFixed(o Options, fields ...field) error {
	for _, f := range fields {
		if f.of(o) != "" {
			return fmt.Errorf("%s: must be empty, %s fixes it", f.name, o.Scheme)
		}
	}
	return nil
}
