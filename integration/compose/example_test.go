package compose

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each example's one command, in a fresh clone, ends in events that arrive and
// verify. The first builds the image, unless Docker remembers how.
func TestComposeExamplesDeliver(t *testing.T) {
	clone := filepath.Join(folder(t), "posthorn")
	if _, err := execute(nil, "git", "clone", "--quiet", root, clone); err != nil {
		t.Fatal(err)
	}
	for _, example := range []string{"compose", "byro", "danbyte", "bindbee", "offly"} {
		t.Run(example, func(t *testing.T) {
			s := newStackOf(t, []string{filepath.Join(clone, "examples", example, "compose.yaml")},
				map[string]string{"POSTHORN_IMAGE": exampleTag, "POSTHORN_VERSION": testedVersion})
			s.remove()
			begin := time.Now()
			s.compose("up", "--build", "--detach")
			running := time.Now()
			eventually(t, time.Minute, func() error {
				got := s.output(100, "receiver")
				if strings.Contains(got, "signature ✗") {
					t.Fatal(got)
				}
				if !strings.Contains(got, "signature ✓") {
					return fmt.Errorf("the receiver says:\n%s", got)
				}
				return nil
			})
			t.Logf("FIGURE examples/%s: image and containers made in %s, the first event delivered %s later",
				example, running.Sub(begin).Round(100*time.Millisecond), time.Since(running).Round(100*time.Millisecond))
		})
	}
}
