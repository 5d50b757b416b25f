// Package compose tests the relay's image among other containers: hosts of
// their own that are killed, replaced, and cut off from each other.
//
// It needs a Docker Engine with Compose. `make test-compose` runs it, and
// `make test` leaves it out.
package compose

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The images that the tests build.
const (
	relayImage    = "posthorn-test/relay"
	olderImage    = "posthorn-test/relay-older"
	pluginImage   = "posthorn-test/relay-redact"
	appImage      = "posthorn-test/app"
	peerImage     = "posthorn-test/peer"
	poolerImage   = "posthorn-test/pgbouncer"
	olderVersion  = "0.0.0-older"
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
	os.Exit(m.Run())
}

// prepare looks for Docker and builds the images; those that the tests are
// about are built by Docker, of their own Dockerfiles.
func prepare() error {
	if _, err := execute(nil, "docker", "compose", "version"); err != nil {
		if _, err := exec.LookPath("docker-compose"); err != nil {
			return fmt.Errorf("install Docker Compose: %w", err)
		}
		composeCommand = []string{"docker-compose"}
	}
	folder, err := os.MkdirTemp("", "posthorn-compose-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := buildImage(peerImage, folder, "peer", "./integration/compose/peer", "",
		"FROM scratch\nCOPY peer /peer\nENTRYPOINT [\"/peer\"]\n"); err != nil {
		return err
	}
	if _, err := execute(nil, "docker", "build", "--quiet", "--build-arg", "VERSION="+testedVersion, "--tag", relayImage, root); err != nil {
		return err
	}
	// Nothing is released yet: the older version is the same source by another name.
	return buildImage(olderImage, folder, "posthorn", "./cmd/posthorn", olderVersion,
		"FROM "+relayImage+"\nCOPY posthorn /usr/local/bin/posthorn\n")
}

// buildImage makes an image of a program that is built outside of it.
func buildImage(image, folder, program, source, version, dockerfile string) error {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", filepath.Join(folder, program), source)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", program, err, text)
	}
	if err := os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return err
	}
	_, err := execute(nil, "docker", "build", "--quiet", "--tag", image, folder)
	return err
}
