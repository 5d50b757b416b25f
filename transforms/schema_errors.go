package transforms

import (
	"cmp"
	"errors"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

const (
	maxViolations    = 3   // that an error names
	maxViolationKey  = 64  // bytes of a key in a location
	maxViolationText = 300 // bytes of a location
)

// violation is one place where a value is not as a schema has it.
type violation struct {
	location []string
	keyword  string
}

// violationError returns an error that names the first violations, in the order
// of their locations.
func violationError(err *jsonschema.ValidationError) error {
	var all []violation
	collectViolations(err, &all)
	slices.SortFunc(all, func(a, b violation) int {
		return cmp.Or(slices.CompareFunc(a.location, b.location, compareKeys), cmp.Compare(a.keyword, b.keyword))
	})
	all = slices.CompactFunc(all, func(a, b violation) bool {
		return slices.Equal(a.location, b.location) && a.keyword == b.keyword
	})
	texts := make([]string, 0, maxViolations+1)
	for i, v := range all {
		if i == maxViolations {
			texts = append(texts, "and more")
			break
		}
		texts = append(texts, v.String())
	}
	return errors.New(strings.Join(texts, "; "))
}

// compareKeys compares indexes as numbers.
func compareKeys(a, b string) int {
	if i, j := index(a), index(b); i >= 0 && j >= 0 {
		return cmp.Compare(i, j)
	}
	return cmp.Compare(a, b)
}

// collectViolations appends what err consists of. What stands under anyOf, oneOf,
// contains and propertyNames is left out: it does not have to hold by itself.
func collectViolations(err *jsonschema.ValidationError, all *[]violation) {
	at := err.InstanceLocation
	add := func(keyword string, keys ...string) {
		if len(keys) == 0 {
			*all = append(*all, violation{at, keyword})
		}
		for _, key := range keys {
			*all = append(*all, violation{append(slices.Clip(at), key), keyword})
		}
	}
	switch k := err.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range err.Causes {
			collectViolations(cause, all)
		}
	case *kind.Required:
		add("required", k.Missing...)
	case *kind.DependentRequired:
		add("dependentRequired", k.Missing...)
	case *kind.Dependency:
		add("dependencies", k.Missing...)
	case *kind.AdditionalProperties:
		add("additionalProperties", k.Properties...)
	case *kind.PropertyNames:
		add("propertyNames", k.Property)
	case *kind.FalseSchema:
		add(falseKeyword(err.SchemaURL))
	case *kind.Not:
		add("not")
	case *kind.RefCycle:
		add("$ref")
	default:
		if keywords := err.ErrorKind.KeywordPath(); len(keywords) > 0 {
			add(keywords[0])
			return
		}
		add("schema")
	}
}

// falseKeyword returns the keyword that a schema false, which allows nothing,
// stands behind.
func falseKeyword(location string) string {
	above, last := path.Split(location)
	above = path.Base(above)
	switch {
	case strings.HasPrefix(last, "#"):
		return "false" // the whole schema
	case index(last) >= 0, above == "properties", above == "patternProperties", above == "dependentSchemas":
		return above
	}
	return last
}

// String names the place and the keyword, such as "at /lines/0/amount: minimum".
// The root is "at the root".
func (v violation) String() string {
	var location strings.Builder
	for _, key := range v.location {
		step := "/" + showKey(key)
		if location.Len()+len(step) > maxViolationText {
			location.WriteString("/…")
			break
		}
		location.WriteString(step)
	}
	if location.Len() == 0 {
		location.WriteString("the root")
	}
	return "at " + location.String() + ": " + v.keyword
}

// showKey returns a key as a step of a JSON Pointer (RFC 6901), bounded and
// without what cannot be shown.
func showKey(key string) string {
	cut := ""
	if len(key) > maxViolationKey {
		end := maxViolationKey
		for end > 0 && !utf8.RuneStart(key[end]) {
			end--
		}
		key, cut = key[:end], "…"
	}
	key = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, key)
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) + cut
}
