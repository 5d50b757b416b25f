package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with the configuration. It never holds the value
// of a secret or of a reference such as ${NAME}.
type Problem struct {
	File    string `json:"file"`           // the file as it was named, or the environment variable
	Line    int    `json:"line,omitempty"` // counting from 1; 0 for an environment variable
	Key     string `json:"key,omitempty"`  // such as endpoints[0].timeout; empty for the whole file
	Message string `json:"message"`
}

// String returns the problem as one line: posthorn.yaml:12: log.level: must be ….
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problem returns a problem of the value to which names lead, such as "plugins"
// and "redact", or where it is not given, of what stands around it.
func (c *Config) Problem(message string, names ...string) Problem {
	at := c.origin()
	for _, name := range names {
		at = at.field(name)
	}
	return newProblem(at, message)
}

func newProblem(p place, message string) Problem {
	return Problem{File: p.node.file, Line: p.node.line, Key: p.key(), Message: message}
}

// Error reports everything that is wrong with a configuration. Test for it
// with errors.As.
type Error struct {
	Problems []Problem // the file's by line, then the environment's by name
}

// Error returns the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds what one Error lists: a file of the wrong kind can be
// wrong in every line.
const maxProblems = 100

// problems collects what is wrong.
type problems struct {
	list []Problem
	keys map[string]bool // those that have a problem already
}

// add reports a problem at p. A key has one problem at most: what is reported
// first is the cause of the rest.
func (ps *problems) add(p place, format string, args ...any) {
	if ps.keys[p.key()] {
		return
	}
	if ps.keys == nil {
		ps.keys = make(map[string]bool)
	}
	ps.keys[p.key()] = true
	ps.list = append(ps.list, newProblem(p, fmt.Sprintf(format, args...)))
}

// err returns the problems as an *Error, or nil when there are none.
func (ps *problems) err() error {
	if len(ps.list) == 0 {
		return nil
	}
	return &Error{Problems: ps.sorted()}
}

// sorted returns the problems in order, at most maxProblems and one that says
// how many more there are.
func (ps *problems) sorted() []Problem {
	slices.SortStableFunc(ps.list, func(a, b Problem) int {
		if fromFile := cmp.Compare(min(b.Line, 1), min(a.Line, 1)); fromFile != 0 {
			return fromFile
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	list := ps.list
	if more := len(list) - maxProblems; more > 0 {
		list = append(list[:maxProblems:maxProblems], Problem{File: list[0].File, Message: fmt.Sprintf("%d more problems are not shown", more)})
	}
	return list
}
