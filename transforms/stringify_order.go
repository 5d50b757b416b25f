package transforms

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

const (
	// fewMembers is up to how many members each key of an object is compared
	// with each other one, which is faster than hashing them.
	fewMembers = 16

	// keptMembers bounds what a stringifier keeps for the next one: room for so
	// many members, 24 bytes each, and the like of everything else.
	keptMembers = 4096
)

// order puts the members of objects in the order that ECMAScript gives them. Its
// positions are indexes of the buffer that its methods take.
type order struct {
	members []member // of the objects that are being read, the innermost's last
	table   []uint32 // for finding repeated keys, see unite
	moves   []move
	moved   []member // of the moves, in their new order
	result  []byte   // of arrange
}

// member is where a member of an object stands: its key in quotes from key to
// colon, its value after the colon up to end.
type member struct{ key, colon, end int }

func (m member) name(buf []byte) []byte { return buf[m.key:m.colon] }

// move is an object that stands at a span, and whose members shall be
// moved[first:last] and no others.
type move struct {
	span
	first, last int
}

// reset makes the order ready for another text. It reports false if the order
// has grown so large that it is not worth keeping.
func (o *order) reset() bool {
	if cap(o.members) > keptMembers || cap(o.moves) > keptMembers || cap(o.moved) > keptMembers ||
		cap(o.table) > 4*keptMembers || cap(o.result) > 64*keptMembers {
		return false
	}
	o.members, o.moves, o.moved, o.result = o.members[:0], o.moves[:0], o.moved[:0], o.result[:0]
	return true
}

// settle takes the object that stands in buf from start to its end, whose
// members are those from first on, and notes it as a move if they have to
// change.
func (o *order) settle(buf []byte, start, first int) {
	members := o.members[first:]
	unique := o.unite(buf, members)
	if len(unique) < len(members) || !isOrdered(buf, unique) {
		o.moves = append(o.moves, o.move(buf, span{start, len(buf)}, unique))
	}
	o.members = o.members[:first]
}

// unite makes one member of those that have the same key, in the place of the
// first and with the value of the last. It works in the members' memory. Equal
// keys are equal bytes, as strings are already written in the one way that
// ECMAScript writes them.
func (o *order) unite(buf []byte, members []member) []member {
	if len(members) > fewMembers {
		return o.uniteMany(buf, members)
	}
	unique := members[:0]
	seen := uint64(0) // the marks of unique
next:
	for _, m := range members {
		name := m.name(buf)
		mark := uint64(1) << mark(name)
		if seen&mark != 0 {
			for i := range unique {
				if bytes.Equal(name, unique[i].name(buf)) {
					unique[i] = m
					continue next
				}
			}
		}
		seen |= mark
		unique = append(unique, m)
	}
	return unique
}

// mark returns a number from 0 to 63 that mostly differs for different keys of
// one object.
func mark(name []byte) int {
	n := len(name)
	return (n + 3*int(name[1]) + 5*int(name[n/2]) + 11*int(name[n-2])) & 63
}

// seed keeps senders from choosing keys that collide.
var seed = maphash.MakeSeed()

// uniteMany does what unite does by a hash table with linear probing. It holds
// the number of the unique member, counting from 1, and 0 where none is. It is
// used for one object at a time.
func (o *order) uniteMany(buf []byte, members []member) []member {
	size := 1 << bits.Len(uint(len(members)+len(members)/2))
	if size > cap(o.table) {
		o.table = make([]uint32, size)
	}
	table := o.table[:size]
	clear(table)
	unique := members[:0]
	for _, m := range members {
		name := m.name(buf)
		slot := maphash.Bytes(seed, name) & uint64(size-1)
		for table[slot] != 0 && !bytes.Equal(unique[table[slot]-1].name(buf), name) {
			slot = (slot + 1) & uint64(size-1)
		}
		if i := table[slot]; i != 0 {
			unique[i-1] = m
			continue
		}
		unique = append(unique, m)
		table[slot] = uint32(len(unique))
	}
	return unique
}

// isOrdered reports whether the members that are array indexes come first and
// ascend.
func isOrdered(buf []byte, members []member) bool {
	var last []byte
	for i, m := range members {
		name := m.name(buf)
		if !isArrayIndex(name) {
			last = nil
			continue
		}
		if i > 0 && (last == nil || compareIndexes(last, name) > 0) {
			return false
		}
		last = name
	}
	return true
}

// isArrayIndex reports whether a key in quotes is an array index: a number from
// 0 to 2^32-2, written without leading zeros.
func isArrayIndex(name []byte) bool {
	const highest = `"4294967294"`
	if c := name[1]; c < '0' || c > '9' || c == '0' && len(name) > len(`"0"`) || len(name) > len(highest) {
		return false
	}
	if skipDigits(name, 1) < len(name)-1 {
		return false
	}
	return len(name) < len(highest) || string(name) <= highest
}

// compareIndexes compares array indexes in quotes by their numbers.
func compareIndexes(a, b []byte) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
}

// move returns the move that puts members in order.
func (o *order) move(buf []byte, at span, members []member) move {
	m := move{span: at, first: len(o.moved)}
	for _, member := range members {
		if isArrayIndex(member.name(buf)) {
			o.moved = append(o.moved, member)
		}
	}
	slices.SortFunc(o.moved[m.first:], func(a, b member) int {
		return compareIndexes(a.name(buf), b.name(buf))
	})
	for _, member := range members {
		if !isArrayIndex(member.name(buf)) {
			o.moved = append(o.moved, member)
		}
	}
	m.last = len(o.moved)
	return m
}

// arrange carries out the moves in buf from start to its end.
func (o *order) arrange(buf []byte, start int) []byte {
	slices.SortFunc(o.moves, func(a, b move) int { return cmp.Compare(a.start, b.start) })
	o.copy(buf, span{start, len(buf)})
	return append(buf[:start], o.result...)
}

// copy appends what stands at a span to the result, carrying out the moves in
// it.
func (o *order) copy(buf []byte, from span) {
	for {
		// Not simply the next move: those in values that are left out are not
		// carried out.
		i, _ := slices.BinarySearchFunc(o.moves, from.start, func(m move, start int) int {
			return cmp.Compare(m.start, start)
		})
		if i == len(o.moves) || o.moves[i].start >= from.end {
			break
		}
		m := o.moves[i]
		o.result = append(o.result, buf[from.start:m.start]...)
		from.start = m.end
		separator := byte('{')
		for _, member := range o.moved[m.first:m.last] {
			o.result = append(o.result, separator)
			o.copy(buf, span{member.key, member.end})
			separator = ','
		}
		o.result = append(o.result, '}')
	}
	o.result = append(o.result, buf[from.start:from.end]...)
}
