package transforms

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxPath      = 256  // bytes of a path
	maxPathSteps = 32   // steps of a path
	maxPaths     = 1000 // paths of one transform
)

// pathStep is one step of a path.
type pathStep struct {
	key   string // of a member; an element's index if it writes one
	every bool   // the step is "*": every member or element
}

// parsePath returns the steps of a path into a payload: keys and array indexes
// from 0, separated by dots, and "*" for every member or element, as in
// "lines.*.cost". A backslash makes a dot, a star or a backslash part of a key.
// A number is a key in an object and an index in an array. An empty key cannot
// be written. The error quotes nothing of the path.
func parsePath(path string) ([]pathStep, error) {
	switch {
	case len(path) > maxPath:
		return nil, fmt.Errorf("it is longer than %d bytes", maxPath)
	case !utf8.ValidString(path):
		return nil, errors.New("it is not UTF-8")
	}
	var steps []pathStep
	var key strings.Builder
	star := false // an unescaped one stands in this step
	for i := 0; i <= len(path); i++ {
		switch {
		case i == len(path) || path[i] == '.':
			switch {
			case key.Len() == 0:
				return nil, errors.New("it has an empty step")
			case star && key.Len() > 1:
				return nil, errors.New(`a * is a step of its own; \* is the character`)
			case len(steps) == maxPathSteps:
				return nil, fmt.Errorf("it has more than %d steps", maxPathSteps)
			case star:
				steps = append(steps, pathStep{every: true})
			default:
				steps = append(steps, pathStep{key: key.String()})
			}
			key.Reset()
			star = false
			continue
		case path[i] == '*':
			star = true
		case path[i] == '\\':
			if i++; i == len(path) || !strings.ContainsRune(`.*\`, rune(path[i])) {
				return nil, errors.New(`a backslash stands before ., * and \ only`)
			}
		}
		key.WriteByte(path[i])
	}
	return steps, nil
}

// pathTree is a set of paths, each of which is a way from the root to a step
// where a path ends.
type pathTree struct {
	root *step
	size int // how many steps there are, the root included
}

// step is one step of the paths that begin in the same way.
type step struct {
	id       int // from 0 to the tree's size
	depth    int // 0 for the root
	key      string
	named    map[string]*step // what follows, by key
	keys     []*step          // the same in the order in which it came
	elements map[int]*step    // those whose key writes an index
	every    *step            // what follows for "*"
	ends     bool             // a path ends here
}

// leads reports whether a path goes on after s.
func (s *step) leads() bool { return len(s.keys) > 0 || s.every != nil }

// isIndex reports whether the step may mean an element of an array.
func (s *step) isIndex() bool { return index(s.key) >= 0 }

// newPathTree returns a tree with no path.
func newPathTree() *pathTree { return &pathTree{root: &step{}, size: 1} }

// addAll adds paths, of which there has to be one.
func (t *pathTree) addAll(paths []string) error {
	switch {
	case len(paths) == 0:
		return errors.New("at least one path is needed")
	case len(paths) > maxPaths:
		return fmt.Errorf("there are %d paths, but %d is the most", len(paths), maxPaths)
	}
	for _, path := range paths {
		steps, err := parsePath(path)
		if err != nil {
			return pathError(path, err)
		}
		t.add(steps).ends = true
	}
	return nil
}

// pathError says which path is wrong. Of one that is too long it shows the
// beginning.
func pathError(path string, err error) error {
	if len(path) > maxPath {
		return fmt.Errorf("path %q…: %w", path[:32], err)
	}
	return fmt.Errorf("path %q: %w", path, err)
}

// add returns the step that steps lead to.
func (t *pathTree) add(steps []pathStep) *step {
	at := t.root
	for _, s := range steps {
		next := at.named[s.key]
		if s.every {
			next = at.every
		}
		if next == nil {
			next = at.grow(s, t.size)
			t.size++
		}
		at = next
	}
	return at
}

func (s *step) grow(to pathStep, id int) *step {
	next := &step{id: id, depth: s.depth + 1, key: to.key}
	if to.every {
		s.every = next
		return next
	}
	if s.named == nil {
		s.named = make(map[string]*step)
	}
	s.named[to.key] = next
	s.keys = append(s.keys, next)
	if i := index(to.key); i >= 0 {
		if s.elements == nil {
			s.elements = make(map[int]*step)
		}
		s.elements[i] = next
	}
	return next
}

// firstEnd returns the first of steps at which a path ends, or nil.
func firstEnd(steps []*step) *step {
	for _, s := range steps {
		if s.ends {
			return s
		}
	}
	return nil
}
