package transforms

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// NewRename returns the Transform that gives the members at paths of the payload
// the new keys that names has for them. Only the key changes; the member stays
// where it is, and a repeated key is renamed wherever it stands. A path's last
// step is a key, and so is the new one, in the same notation: `\.` is a dot in
// it.
//
// Paths mean the payload as it came, so that two members may exchange their
// keys. A member that has the new key of another, and is not renamed itself, is
// removed. Of members with different keys that are renamed to the same key, the
// last stays. Where paths with and without "*" mean the same member, the one
// that names a key in the first step in which they differ wins.
//
// A result more than 64 MiB larger than the payload is an error.
func NewRename(names map[string]string) (Transform, error) {
	tree := newPathTree()
	paths := slices.Sorted(maps.Keys(names))
	if err := tree.addAll(paths); err != nil {
		return nil, err
	}
	r := renaming{names: make([]newName, tree.size), taken: make([]map[string]int, tree.size)}
	ids := make(map[levelKey]int)
	for _, path := range paths {
		if err := r.add(tree, ids, path, names[path]); err != nil {
			return nil, pathError(path, err)
		}
	}
	return newEditor(tree, func() edit {
		r := r
		r.winners = make([]winner, len(ids))
		return edit{entry: r.entry}
	}), nil
}

// levelKey is a key at the end of paths that have a number of steps.
type levelKey struct {
	depth int
	key   string
}

// newName is the new key of a member.
type newName struct {
	id     int    // of its levelKey
	quoted []byte // as a JSON string
}

// winner is the step whose members get a new key in an object.
type winner struct {
	object uint64
	step   *step
}

// renaming renames members. At one time at most one object is open at each
// level of paths, and so a levelKey needs one winner.
type renaming struct {
	names []newName        // by the id of the step where a path ends
	taken []map[string]int // by the id of the step before it: new key to levelKey

	winners []winner                 // by levelKey
	known   [maxPathSteps + 1]uint64 // by depth: the object whose winners are known
}

func (r *renaming) add(tree *pathTree, ids map[levelKey]int, path, to string) error {
	steps, err := parsePath(path)
	if err != nil {
		return err
	}
	last := len(steps) - 1
	if steps[last].every {
		return errors.New("its last step must be a key")
	}
	keys, err := parsePath(to)
	switch {
	case err != nil:
		return fmt.Errorf("new key %.64q: %w", to, err)
	case len(keys) > 1 || keys[0].every:
		return fmt.Errorf(`new key %.64q: it must be one key; \. is a dot in it and \* a star`, to)
	case keys[0] == steps[last]:
		return errors.New("the new key is the old one")
	}
	key := keys[0].key
	quoted, err := quote(key)
	if err != nil {
		return err
	}
	level := levelKey{depth: len(steps), key: key}
	id, ok := ids[level]
	if !ok {
		id = len(ids)
		ids[level] = id
	}
	r.names[tree.add(steps).id] = newName{id: id, quoted: quoted}
	parent := tree.add(steps[:last]).id
	if r.taken[parent] == nil {
		r.taken[parent] = make(map[string]int)
	}
	r.taken[parent][key] = id
	return nil
}

func (r *renaming) entry(w *pathWalk, e entry) (stays bool, err error) {
	if e.number == 0 {
		return true, w.follow(e.at)
	}
	named := firstEnd(w.steps[e.at:])
	id, taken := r.isTaken(w, e)
	if named == nil && !taken {
		return true, w.follow(e.at)
	}
	if err := r.look(w, e); err != nil {
		return true, err
	}
	if named == nil {
		if r.winners[id].object == e.number {
			return false, w.skip()
		}
		return true, w.follow(e.at)
	}
	name := r.names[named.id]
	if r.winners[name.id].step != named {
		return false, w.skip()
	}
	w.cut(e.quoted.start, e.quoted.end)
	w.write(name.quoted)
	return true, w.follow(e.at)
}

// isTaken reports whether a path of the entry's object has the entry's key as
// its new one.
func (r *renaming) isTaken(w *pathWalk, e entry) (id int, taken bool) {
	for _, s := range w.steps[e.in:e.at] {
		if id, taken = r.taken[s.id][string(e.key)]; taken {
			break
		}
	}
	return id, taken
}

// look reads the keys of the rest of the entry's object and notes which members
// get the new keys. It does so once in an object: at its first entry that may
// change.
func (r *renaming) look(w *pathWalk, e entry) error {
	depth := w.steps[e.in].depth
	if r.known[depth] == e.number {
		return nil
	}
	r.known[depth] = e.number
	ahead := w.scanner
	ahead.pos = e.start
	for more := true; more; {
		quoted, err := ahead.key()
		if err != nil {
			return err
		}
		key := stringText(ahead.src[quoted.start:quoted.end])
		for _, s := range w.steps[e.in:e.at] {
			if named := s.named[string(key)]; named != nil && named.ends {
				r.winners[r.names[named.id].id] = winner{object: e.number, step: named}
				break
			}
		}
		if err := ahead.value(nil, nil); err != nil {
			return err
		}
		if more, err = ahead.next('}'); err != nil {
			return err
		}
	}
	return nil
}
