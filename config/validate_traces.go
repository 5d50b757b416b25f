package config

import (
	"maps"
	"slices"
	"strings"
)

func (v *validator) traces(p place) {
	t := &v.cfg.Traces
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		at := p.field("headers").field(name)
		if problem := headerProblem(name); problem != "" {
			v.problems.add(at, "%s", problem)
		}
		v.credential(at, t.Headers[name].Reveal())
	}
	if at := p.field("service"); t.Service == "" || len(t.Service) > 255 || !isPrintable(t.Service) {
		v.problems.add(at, "must be 1 to 255 printable bytes, got %s", shown(at.node))
	}
	at := p.field("url")
	if t.URL == "" {
		return
	}
	parsed := v.anyURL(at, t.URL, "http", "https")
	switch {
	case parsed == nil:
	case parsed.RawQuery != "" || parsed.ForceQuery || strings.Contains(t.URL.Reveal(), "#"):
		v.problems.add(at, "must have no query (?…) and no fragment (#…)")
	case strings.HasSuffix(strings.TrimSuffix(parsed.Path, "/"), "/v1/traces"):
		v.problems.add(at, "must be the collector's base, without /v1/traces")
	case (parsed.User != nil || len(t.Headers) > 0) && sentInClear(parsed):
		v.warnings.add(at, clearText)
	}
}
