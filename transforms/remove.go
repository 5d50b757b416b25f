package transforms

// NewRemove returns the Transform that removes what stands at paths from the
// payload, with its key and its comma; an array's later elements move up.
// Indexes count the elements of the payload as it came. Where a path leads into
// what another removes, it is gone with it. A path that leads nowhere removes
// nothing.
func NewRemove(paths []string) (Transform, error) {
	tree := newPathTree()
	if err := tree.addAll(paths); err != nil {
		return nil, err
	}
	return newEditor(tree, func() edit { return edit{entry: remove} }), nil
}

func remove(w *pathWalk, e entry) (stays bool, err error) {
	if firstEnd(w.steps[e.at:]) != nil {
		return false, w.skip()
	}
	return true, w.follow(e.at)
}
