package transforms

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/itchyny/gojq"
)

// maxJQMatches bounds how many matches of a regular expression there are in a
// text, times the groups that each has, times the text's bytes: gojq counts the
// characters in front of each from the text's beginning.
const maxJQMatches = 512 << 20

// boundMatches returns the guard of a call whose pattern and flags are literals,
// nil if it needs none. flags says which argument they are, 0 if none is.
func (j *jq) boundMatches(f *gojq.Func, flags int) *gojq.Query {
	pattern, how := jqPattern(f, flags)
	if !strings.Contains(how, "g") || f.Name == "test" {
		return nil
	}
	if strings.Contains(how, "i") {
		pattern = "(?i)" + pattern
	}
	if strings.Contains(how, "m") {
		pattern = "(?s)" + pattern
	}
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil // gojq says so when it gets there
	}
	name := fmt.Sprintf("_fit_matches_%d", len(j.guards))
	j.guards = append(j.guards, gojq.WithFunction(name, 0, 0, jqFits("the text has too many matches for its length", func(input any, _ []any) bool {
		text, _ := input.(string)
		return jqMatchesFit(compiled, text)
	})))
	return jqCall(name)
}

// jqPattern returns a call's pattern and all of its flags.
func jqPattern(f *gojq.Func, flags int) (pattern, how string) {
	switch f.Name {
	case "gsub", "scan", "splits", "split":
		how = "g"
	}
	text := func(q *gojq.Query) string {
		if jqText(q) {
			return q.Term.Str.Str
		}
		return "" // null
	}
	if flags > 0 {
		how += text(f.Args[flags])
	}
	q := f.Args[0]
	if q.Term.Type != gojq.TermTypeArray {
		return text(q), how
	}
	if q = q.Term.Array.Query; q.Op == gojq.OpComma {
		return text(q.Left), how + text(q.Right)
	}
	return text(q), how
}

func jqMatchesFit(pattern *regexp.Regexp, text string) bool {
	each := len(text) * (1 + pattern.NumSubexp())
	if each == 0 || len(text) < maxJQMatches/each {
		return true
	}
	most := maxJQMatches / each
	return len(pattern.FindAllStringIndex(text, most+1)) <= most
}
