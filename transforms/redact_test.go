package transforms

import (
	"strings"
	"testing"
)

func TestRedactMasks(t *testing.T) {
	tests := []struct {
		editTest
		paths, mask string
	}{
		{editTest{"text", `{"iban": "CH93" , "n":1.0}`, `{"iban": "***" , "n":1.0}`}, "iban", ""},
		{editTest{"whole values", `{"a":{"b":1},"c":[1 , 2],"d":true}`, `{"a":"***","c":"***","d":"***"}`}, "a c d", ""},
		{editTest{"null", `{"a":null,"b":{"c": null }}`, `{"a":null,"b":{"c": null }}`}, "a b.c", ""},
		{editTest{"mask of its own", `{"a":1}`, `{"a":"<\"hidden\">"}`}, "a", `<"hidden">`},
		{editTest{"repeated and escaped key", `{"a":1,"\u0061":2}`, `{"a":"***","\u0061":"***"}`}, "a", ""},
		{editTest{"in every element", `{"l":[{"a":1},{"a":2},3]}`, `{"l":[{"a":"***"},{"a":"***"},3]}`}, "l.*.a", ""},
		{editTest{"every element", `[1, null, [2]]`, `["***", null, "***"]`}, "*", ""},
		{editTest{"in what is hidden", `{"a":{"b":1},"c":{"b":1}}`, `{"a":"***","c":{"b":"***"}}`}, "a a.b *.b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewRedact(RedactOptions{Paths: strings.Fields(tt.paths), Mask: tt.mask})
			tt.run(t, transform, err)
		})
	}
}

func TestRedactHashes(t *testing.T) {
	// printf 'CH93 é' | openssl dgst -sha256 -hmac 0123456789abcdef, and so on.
	tests := []editTest{
		{"text", `{"a": "CH93 é"}`, `{"a": "hmac-sha256:5cbbcec1da389ae19f8e817f21af197cbb3299762b74f497539932c4efce8577"}`},
		{"text with escapes", `{"a":"CH93\u0020\u00e9"}`, `{"a":"hmac-sha256:5cbbcec1da389ae19f8e817f21af197cbb3299762b74f497539932c4efce8577"}`},
		{"number", `{"a":1.50}`, `{"a":"hmac-sha256:a056620904076ee8b9f0a3b2cd795080dbec4a8e6b91c7cd71eeec33e58f7290"}`},
		{"object", `{"a": { "b" : [ 1 , " " ] } }`, `{"a": "hmac-sha256:b74912f9ce99a7eec50e5086d5e9bf8e70b0a46978ad4964858f0ea9a8e7aec7" }`},
		{"compact object", `{"a":{"b":[1," "]}}`, `{"a":"hmac-sha256:b74912f9ce99a7eec50e5086d5e9bf8e70b0a46978ad4964858f0ea9a8e7aec7"}`},
		{"null", `{"a":null}`, `{"a":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			transform, err := NewRedact(RedactOptions{Paths: []string{"a"}, Mode: "hash", Secret: []byte("0123456789abcdef")})
			tt.run(t, transform, err)
		})
	}
}

func TestRedactKeepsItsSecret(t *testing.T) {
	secret := []byte("0123456789abcdef")
	transform, err := NewRedact(RedactOptions{Paths: []string{"a"}, Mode: "hash", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	clear(secret)
	editTest{"", `{"a":1.50}`, `{"a":"hmac-sha256:a056620904076ee8b9f0a3b2cd795080dbec4a8e6b91c7cd71eeec33e58f7290"}`}.run(t, transform, nil)
}

func TestRedactSaysWhatIsWrongWithItsOptions(t *testing.T) {
	tests := []struct {
		name string
		o    RedactOptions
		want string
	}{
		{"no path", RedactOptions{}, "at least one path is needed"},
		{"unknown mode", RedactOptions{Mode: "rot13"}, `mode "rot13" is unknown; there are mask and hash`},
		{"no secret", RedactOptions{Mode: "hash"}, "a secret of at least 16 bytes is needed for mode hash"},
		{"short secret", RedactOptions{Mode: "hash", Secret: []byte("0123456789abcde")}, "a secret of at least 16 bytes is needed for mode hash"},
		{"secret with mask", RedactOptions{Mode: "mask", Secret: []byte("0123456789abcdef")}, "a secret is for mode hash"},
		{"mask with hash", RedactOptions{Mode: "hash", Mask: "x", Secret: []byte("0123456789abcdef")}, "a mask is for mode mask"},
		{"mask that is not UTF-8", RedactOptions{Mask: "\xff"}, "mask: it is not UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name != "no path" {
				tt.o.Paths = []string{"a"}
			}
			if _, err := NewRedact(tt.o); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
