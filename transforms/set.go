package transforms

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// NewSet returns the Transform that sets what stands at paths of the payload to
// values, which are JSON texts.
//
// A member that an object lacks is added at its end, and objects on the way to
// it are made; those added together stand in the order of their paths. Nothing
// else is made: a path that leads to an array's element that does not exist, or
// into what is neither object nor array, null included, sets nothing. Neither
// does one that has an index or "*" below a member that is missing. "*" stands
// for what the payload has, never for what another path adds.
//
// A path that leads into the value of another is set in that value. Where paths
// with and without "*" mean the same value, the one that names a key in the
// first step in which they differ wins.
//
// A result more than 64 MiB larger than the payload is an error.
func NewSet(values map[string]string) (Transform, error) {
	tree := newPathTree()
	paths := slices.Sorted(maps.Keys(values))
	if err := tree.addAll(paths); err != nil {
		return nil, err
	}
	s := setting{
		values: make([][]byte, tree.size),
		keys:   make([][]byte, tree.size),
		makes:  make([]bool, tree.size),
	}
	for _, path := range paths {
		value, err := parseValue(values[path])
		if err != nil {
			return nil, pathError(path, fmt.Errorf("value: %w", err))
		}
		steps, err := parsePath(path)
		if err != nil {
			return nil, pathError(path, err)
		}
		s.values[tree.add(steps).id] = value
	}
	if err := s.prepare(tree.root); err != nil {
		return nil, err
	}
	return newEditor(tree, func() edit {
		s := s
		s.seen = make([]uint64, tree.size)
		return edit{entry: s.entry, end: s.end}
	}), nil
}

// parseValue returns a JSON text without white space between its tokens. It may
// be nested as deep as a payload, less what a path may lead down.
func parseValue(text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	s := scanner[string]{src: text, depth: maxPathSteps}
	if err := s.document(nil, nil); err != nil {
		return nil, err
	}
	return appendCompact(nil, []byte(text)), nil
}

// setting sets values. The slices are indexed by the steps' ids.
type setting struct {
	values [][]byte // of the paths that end there
	keys   [][]byte // the step's key as a JSON string, with the colon
	makes  []bool   // the step is made where it is missing

	seen []uint64 // in which object there was a member last
}

// prepare fills keys and makes for what follows at.
func (s *setting) prepare(at *step) error {
	if at.every != nil {
		if err := s.prepare(at.every); err != nil {
			return err
		}
	}
	s.makes[at.id] = at.ends
	for _, next := range at.keys {
		if err := s.prepare(next); err != nil {
			return err
		}
		quoted, err := quote(next.key)
		if err != nil {
			return err
		}
		s.keys[next.id] = append(quoted, ':')
		if s.makes[next.id] && !next.isIndex() {
			s.makes[at.id] = true
		}
	}
	return nil
}

func (s *setting) entry(w *pathWalk, e entry) (stays bool, err error) {
	for _, step := range w.steps[e.at:] {
		s.seen[step.id] = e.number
	}
	end := firstEnd(w.steps[e.at:])
	if end == nil {
		return true, w.follow(e.at)
	}
	w.peek()
	start := w.pos
	if err := w.skip(); err != nil {
		return true, err
	}
	w.cut(start, w.pos)
	return true, w.writeEdited(s.values[end.id], e.at)
}

// end adds the members that the object lacks.
func (s *setting) end(w *pathWalk, o object, at int, empty bool) error {
	return s.addMissing(w, o, at, empty, false)
}

// addMissing adds the members that the object lacks after the byte at of the
// payload. A made object gets none that might have been an array's element.
func (s *setting) addMissing(w *pathWalk, o object, at int, empty, made bool) error {
	for i := o.in; i < o.at; i++ {
		for _, next := range w.steps[i].keys {
			if s.seen[next.id] == o.number || !s.makes[next.id] || made && next.isIndex() {
				continue
			}
			w.cut(at, at)
			if !empty {
				w.write([]byte(","))
			}
			if err := s.add(w, o, next); err != nil {
				return err
			}
			empty = false
		}
	}
	return nil
}

// add writes a member of the object that has the key of next. It marks what
// leads there as seen.
func (s *setting) add(w *pathWalk, o object, next *step) error {
	w.write(s.keys[next.id])
	for _, step := range w.steps[o.in:o.at] {
		if same := step.named[next.key]; same != nil {
			s.seen[same.id] = o.number
			w.push(same, nil)
		}
	}
	defer func() { w.steps = w.steps[:o.at] }()
	if end := firstEnd(w.steps[o.at:]); end != nil {
		return w.writeEdited(s.values[end.id], o.at)
	}
	w.write([]byte("{"))
	if err := s.addMissing(w, w.enterObject(o.at), w.copied, true, true); err != nil {
		return err
	}
	w.write([]byte("}"))
	return nil
}
