package transforms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

const (
	// maxGrowth is how much longer than its payload an edit's result may be, in
	// bytes: one configured value may be put in at any number of places.
	maxGrowth = 64 << 20
	// maxKeptBuffer is how much memory for results is kept from one message to
	// the next, in bytes.
	maxKeptBuffer = 1 << 20
)

var errGrown = errors.New("the result is too much larger than the payload")

// edit is what a kind of transform does where its paths lead.
type edit struct {
	// entry is called for each entry of an object or array on a path. It reads
	// the value that is next, by follow or skip, and reports whether the entry
	// stays. If it does not, entry changes nothing of it.
	entry func(w *pathWalk, e entry) (stays bool, err error)
	// end, if not nil, is called when an object on a path has been read. New
	// members belong after the byte at, where its last one or its bracket ends.
	end func(w *pathWalk, o object, at int, empty bool) error
}

// object is an object or array on a path.
type object struct {
	number uint64 // counts objects, from 1; 0 for an array
	in, at int    // w.steps[in:at] lead to it
}

// entry is a member of an object or an element of an array. w.steps[at:] lead to
// it.
type entry struct {
	object
	start  int    // where it begins
	quoted span   // where its key stands; the zero span in an array
	key    []byte // the key's text
}

// newEditor returns a Transform that edits payloads at the paths of tree. begin
// returns an edit for the use of one goroutine at a time.
func newEditor(tree *pathTree, begin func() edit) Transform {
	walks := sync.Pool{New: func() any { return &pathWalk{root: tree.root, edit: begin()} }}
	return Each(func(_ context.Context, m *Message) error {
		w := walks.Get().(*pathWalk)
		defer walks.Put(w)
		payload, err := w.run(m.Payload)
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		m.Payload = payload
		return nil
	})
}

// pathWalk reads a payload once, edits it where paths lead, and skips the rest.
// What is not edited is copied in whole stretches.
//
// At each place it keeps the steps that lead there. There is more than one where
// paths with "*" and paths with keys mean the same place: the one that names a
// key in the first step in which they differ comes first.
type pathWalk struct {
	scanner[[]byte]
	root *step
	edit edit

	steps   []*step // for each object and array that is open, then for the entry
	objects uint64  // how many were entered, in all payloads

	out    []byte
	copied int // how much of src is in out or was cut
	limit  int // bytes of out
}

// run returns the edited payload, or payload itself if there was nothing to
// edit.
func (w *pathWalk) run(payload []byte) ([]byte, error) {
	w.scanner = scanner[[]byte]{src: payload}
	w.steps = append(w.steps[:0], w.root)
	w.out, w.copied, w.limit = w.out[:0], 0, len(payload)+maxGrowth
	defer w.forget()
	if err := w.follow(0); err != nil {
		return nil, err
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	if w.copied == 0 {
		return payload, nil
	}
	w.cut(len(payload), len(payload))
	if len(w.out) > w.limit {
		return nil, errGrown
	}
	return bytes.Clone(w.out), nil
}

// forget drops what is of no use to the next payload.
func (w *pathWalk) forget() {
	w.src = nil
	if cap(w.out) > maxKeptBuffer {
		w.out = nil
	}
}

// follow reads the value that is next; w.steps[in:] lead to it.
func (w *pathWalk) follow(in int) error {
	if !w.leads(in) {
		return w.skip()
	}
	switch w.peek() {
	case '{':
		return w.object(in)
	case '[':
		return w.array(in)
	default:
		return w.skip()
	}
}

// leads reports whether a path goes on after one of w.steps[in:].
func (w *pathWalk) leads(in int) bool {
	for _, s := range w.steps[in:] {
		if s.leads() {
			return true
		}
	}
	return false
}

// skip reads the value that is next and changes nothing of it.
func (w *pathWalk) skip() error { return w.value(nil, nil) }

func (w *pathWalk) object(in int) error {
	e := entry{object: w.enterObject(in)}
	l := list{end: w.pos + 1}
	empty, err := w.enter('}')
	if err != nil {
		return err
	}
	for more := !empty; more; {
		w.peek()
		e.start = w.pos
		if e.quoted, err = w.key(); err != nil {
			return err
		}
		e.key = stringText(w.src[e.quoted.start:e.quoted.end])
		for _, s := range w.steps[e.in:e.at] {
			w.push(s.named[string(e.key)], s.every)
		}
		if err := w.visit(&l, e); err != nil {
			return err
		}
		if more, err = w.next('}'); err != nil {
			return err
		}
	}
	if w.edit.end != nil {
		return w.edit.end(w, e.object, l.end, empty)
	}
	return nil
}

// enterObject returns the next object, to which w.steps[in:] lead.
func (w *pathWalk) enterObject(in int) object {
	w.objects++
	return object{number: w.objects, in: in, at: len(w.steps)}
}

func (w *pathWalk) array(in int) error {
	if empty, err := w.enter(']'); err != nil || empty {
		return err
	}
	e := entry{object: object{in: in, at: len(w.steps)}}
	l := list{}
	for i := 0; ; i++ {
		w.peek()
		e.start = w.pos
		for _, s := range w.steps[e.in:e.at] {
			w.push(s.elements[i], s.every)
		}
		if err := w.visit(&l, e); err != nil {
			return err
		}
		if more, err := w.next(']'); err != nil || !more {
			return err
		}
	}
}

func (w *pathWalk) push(named, every *step) {
	if named != nil {
		w.steps = append(w.steps, named)
	}
	if every != nil {
		w.steps = append(w.steps, every)
	}
}

// list is what is known of the entries of one object or array so far.
type list struct {
	end     int  // where the last one ends
	stays   bool // one of them stays
	removed bool // one of them does not
}

// visit reads the rest of an entry and edits it, and takes w.steps back to what
// led to its list. An entry that goes takes the comma before it along, or the
// comma after it when none before it stays.
func (w *pathWalk) visit(l *list, e entry) error {
	if l.removed && !l.stays {
		w.copied = e.start
	}
	stays, err := w.edit.entry(w, e)
	if err != nil {
		return err
	}
	switch {
	case stays:
		l.stays = true
	case l.stays:
		w.cut(l.end, w.pos)
	default:
		w.cut(e.start, w.pos)
	}
	l.removed = l.removed || !stays
	l.end = w.pos
	w.steps = w.steps[:e.at]
	if len(w.out) > w.limit {
		return errGrown
	}
	return nil
}

// cut copies src up to start, which it may have done already, and leaves out
// what follows up to end.
func (w *pathWalk) cut(start, end int) {
	if start > w.copied {
		w.write(w.src[w.copied:start])
	}
	w.copied = end
}

// write appends text to the result. The first text that makes it too large is
// its last.
func (w *pathWalk) write(text []byte) {
	if len(w.out) <= w.limit {
		w.out = append(w.out, text...)
	}
}

// replace puts text in the place of src from start to where the walk is.
func (w *pathWalk) replace(start int, text []byte) {
	w.cut(start, w.pos)
	w.write(text)
}

// writeEdited appends a valid value after editing it as if it stood in the
// payload, where w.steps[in:] lead.
func (w *pathWalk) writeEdited(value []byte, in int) error {
	if !w.leads(in) {
		w.write(value)
		return nil
	}
	payload, copied := w.scanner, w.copied
	w.scanner, w.copied = scanner[[]byte]{src: value, depth: payload.depth}, 0
	err := w.follow(in)
	w.cut(len(value), len(value))
	w.scanner, w.copied = payload, copied
	return err
}
