// Package compose tests the relay's image among other containers: hosts of
// their own that are killed, replaced, and cut off from each other.
//
// It needs a Docker Engine with Compose. `make test-compose` runs it, and
// `make test` leaves it out.
package compose

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// Names of images; those of the tests are not the ones that users build.
const (
	relayTag      = "posthorn-test/relay"
	olderTag      = "posthorn-test/relay-older"
	pluginTag     = "posthorn-test/relay-redact"
	baseTag       = "posthorn-test/base"
	basedTag      = "posthorn-test/relay-based"
	exampleTag    = "posthorn-test/example"
	poolerTag     = "posthorn-test/pgbouncer"
	peerImage     = "posthorn-test/peer"
	testedVersion = "0.0.0-tested"
)

// root is the repository.
const root = "../.."

// composeCommand is how Docker Compose is called here: as a plugin of Docker,
// or as the program that it was before.
var composeCommand = []string{"docker", "compose"}

func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "the tests with containers:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func prepare() error {
	if _, err := execute(nil, "docker", "compose", "version"); err != nil {
		if _, err := exec.LookPath("docker-compose"); err != nil {
			return errors.New("there is no Docker Compose")
		}
		composeCommand = []string{"docker-compose"}
	}
	return imageOf(peerImage, root, "./integration/compose/peer", "", "FROM scratch\nCOPY program /peer\nENTRYPOINT [\"/peer\"]\n")
}

// relayImage returns the relay's image, of these sources. Building it is left
// to the test that needs it first, which may be the one that measures that.
func relayImage(t testing.TB) string { return built(t, relayTag, buildRelay) }

// olderImage returns the image of an older relay, and its version.
func olderImage(t testing.TB) (image, version string) {
	relayImage(t)
	return built(t, olderTag, buildOlder), older.version
}

func built(t testing.TB, image string, build func() error) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return image
}

var buildRelay = sync.OnceValue(func() error {
	_, err := execute(nil, "docker", "build", "--quiet", "--build-arg", "VERSION="+testedVersion, "--tag", relayTag, root)
	return err
})

// older is what is upgraded from: nothing is released yet, so it is a commit
// from before there was an image; where the repository has no history, as in a
// shallow clone, the same sources by another name.
var older = struct{ commit, version string }{"f77a70c", "0.0.0-older"}

var buildOlder = sync.OnceValue(func() error {
	folder, err := os.MkdirTemp("", "posthorn-older-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	source := filepath.Join(folder, "source")
	if _, err := execute(nil, "git", "-C", root, "cat-file", "-e", older.commit+"^{commit}"); err != nil {
		source, older.version = root, older.version+"-of-the-same-sources"
	} else {
		older.version += "-" + older.commit
		if _, err := execute(nil, "git", "clone", "--quiet", "--no-checkout", root, source); err != nil {
			return err
		}
		if _, err := execute(nil, "git", "-C", source, "checkout", "--quiet", older.commit); err != nil {
			return err
		}
	}
	return imageOf(olderTag, source, "./cmd/posthorn", older.version, "FROM "+relayTag+"\nCOPY program /usr/local/bin/posthorn\n")
})

// imageOf makes an image with a program of source that is built outside of it.
func imageOf(image, source, command, version, dockerfile string) error {
	folder, err := os.MkdirTemp("", "posthorn-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := buildProgram(source, command, version, filepath.Join(folder, "program")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return err
	}
	_, err = execute(nil, "docker", "build", "--quiet", "--tag", image, folder)
	return err
}

// buildProgram builds a command of source for containers.
func buildProgram(source, command, version, output string) error {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", output, command)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", command, err, strings.TrimSpace(string(text)))
	}
	return nil
}
