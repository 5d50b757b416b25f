package compose

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	maxImage = 40e6 // bytes
	maxStop  = 10 * time.Second
)

func TestImageIsSmallAndHardened(t *testing.T) {
	var images []struct {
		Size   int64
		Config struct {
			User   string
			Labels map[string]string
		}
	}
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", relayImage(t))), &images); err != nil || len(images) != 1 {
		t.Fatalf("inspect the image: %v", err)
	}
	image := images[0]
	if image.Size >= maxImage {
		t.Errorf("the image has %d bytes", image.Size)
	}
	if image.Config.User != "65532:65532" {
		t.Errorf("the image's user is %q", image.Config.User)
	}
	if got := image.Config.Labels["org.opencontainers.image.version"]; got != testedVersion {
		t.Errorf("the image's version is labelled %q", got)
	}
	version := docker(t, "run", "--rm", relayTag, "version")
	if !strings.HasPrefix(version, "posthorn "+testedVersion+" ") {
		t.Errorf("the image runs %s", version)
	}

	// No Postgres is there: it waits for one, healthy, and stops in time.
	config := write(t, folder(t), "posthorn.yaml", []byte("database: {url: 'postgres://nobody@127.0.0.1:1/nothing'}\nendpoints: []\n"))
	_, _ = execute(nil, "docker", "rm", "--force", "posthorn-test-image") // what a run that was killed left
	id := strings.TrimSpace(docker(t, "run", "--detach", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp",
		"--name", "posthorn-test-image", "--volume", config+":/etc/posthorn/posthorn.yaml:ro", relayTag))
	t.Cleanup(func() { docker(t, "rm", "--force", id) })
	eventually(t, time.Minute, func() error {
		_, err := execute(nil, "docker", "exec", id, "posthorn", "health")
		return err
	})
	eventually(t, time.Minute, func() error {
		if got := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.Health.Status}}", id)); got != "healthy" {
			return fmt.Errorf("Docker finds it %s", got)
		}
		return nil
	})
	begin := time.Now()
	docker(t, "stop", id)
	took := time.Since(begin)
	if code := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.ExitCode}}", id)); code != "0" || took >= maxStop {
		t.Errorf("it stopped with %s after %s", code, took)
	}
	t.Logf("FIGURE image: %.1f MB, user %s, %s, healthy on a read-only root without capabilities, stopped after %s",
		float64(image.Size)/1e6, image.Config.User, strings.TrimSpace(version), took.Round(10*time.Millisecond))
}

// Another base is built on, not built over: its authorities stay.
func TestImageMayHaveAnotherBase(t *testing.T) {
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	relayImage(t) // whose layers it has
	base := folder(t)
	write(t, base, "ca.crt", []byte("the base's own\n"))
	write(t, base, "Dockerfile", []byte("FROM scratch\nCOPY ca.crt "+authorities+"\n"))
	docker(t, "build", "--quiet", "--tag", baseTag, base)
	docker(t, "build", "--quiet", "--build-arg", "VERSION="+testedVersion, "--build-arg", "BASE_IMAGE="+baseTag, "--tag", basedTag, root)
	if got := docker(t, "run", "--rm", basedTag, "version"); !strings.HasPrefix(got, "posthorn "+testedVersion+" ") {
		t.Errorf("the image runs %s", got)
	}
	id := strings.TrimSpace(docker(t, "create", basedTag))
	defer docker(t, "rm", id)
	copied := filepath.Join(base, "copied.crt")
	docker(t, "cp", id+":"+authorities, copied)
	if got, err := os.ReadFile(copied); string(got) != "the base's own\n" {
		t.Errorf("the base's authorities became %.100q (%v)", got, err)
	}
}

// The plugin's image is the example's, run as hardened as the relay's.
func TestPluginImageTransforms(t *testing.T) {
	t.Parallel()
	// In a copy of the example's folder, which stays as it is.
	dockerfile, err := os.ReadFile(root + "/examples/plugin-redact/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	example := folder(t)
	write(t, example, "Dockerfile", dockerfile)
	if err := buildProgram(root, "./examples/plugin-redact", "", filepath.Join(example, "redact")); err != nil {
		t.Fatal(err)
	}
	docker(t, "build", "--quiet", "--build-arg", "POSTHORN_IMAGE="+relayImage(t), "--tag", pluginTag, example)
	config, err := os.ReadFile("posthorn.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config = append(config, "\nplugins: {redact: {path: /plugins/redact}}\ntransforms: [{match: ['*'], plugin: redact}]\n"...)
	s := newStack(t, map[string]string{"RELAY_IMAGE": pluginTag, "RELAY_CONFIG": write(t, folder(t), "posthorn.yaml", config)})
	s.start()
	s.write(100, both...)
	s.waitMore(200)
	s.kill("relay-a")
	s.revive("relay-a")
	s.waitMore(200)
	f := s.check(both...)
	for _, r := range s.received() {
		if r.Event.Card != "**** **** **** 1111" {
			t.Fatalf("the receiver got the card %q", r.Event.Card)
		}
	}
	t.Logf("FIGURE plugin image, relay killed: %s, every card number masked", f)
}
