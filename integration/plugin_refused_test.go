package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// noPlugin is a plugin that can never run.
type noPlugin struct {
	name  string
	make  func(t *testing.T, path string) (settings string)
	wants []string // regular expressions
}

func script(text string) func(*testing.T, string) string {
	return func(t *testing.T, path string) string {
		writeScript(t, path, text)
		return ""
	}
}

var noPlugins = []noPlugin{
	{"missing", func(*testing.T, string) string { return "" }, []string{`names no file|does not exist`}},
	{"folder", func(t *testing.T, path string) string {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return ""
	}, []string{"is a folder"}},
	{"without run bit", func(t *testing.T, path string) string {
		writeScript(t, path, "exit 0")
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		return ""
	}, []string{`is not executable`, `chmod \+x`}},
	{"another sha256", func(t *testing.T, path string) string {
		writeScript(t, path, "exit 0")
		return fmt.Sprintf("sha256: %q", strings.Repeat("0", 64))
	}, []string{"sha256", hexSum("#!/bin/sh\nexit 0\n")}},
	{"/bin/true", func(t *testing.T, path string) string {
		if err := os.Symlink("/bin/true", path); err != nil {
			t.Fatal(err)
		}
		return ""
	}, []string{`is it a Posthorn plugin\?`}},
	{"prints something", script("echo hello; echo 'to stderr' >&2; exec /bin/sleep 100"),
		[]string{"printed something else where a plugin makes its handshake", "hello"}},
	{"prints nothing", func(t *testing.T, path string) string {
		writeScript(t, path, "exec /bin/sleep 100")
		return "start_timeout: 300ms"
	}, []string{"printed nothing within 300ms"}},
	{"ends at once", script("echo 'no licence' >&2; exit 7"), []string{"exit status 7", "no licence"}},
	{"neither script nor program", func(t *testing.T, path string) string {
		if err := os.WriteFile(path, []byte("\x00\x01\x02"), 0o755); err != nil {
			t.Fatal(err)
		}
		return ""
	}, []string{"is no program for this system"}},
	{"another protocol version", func(t *testing.T, path string) string {
		binary, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		writeScript(t, path, fmt.Sprintf("%s=raw %s=/ exec %q", programVariable, speakVariable, binary))
		return ""
	}, []string{"speaks protocol version 2, this Posthorn speaks version 1"}},
}

func hexSum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestProgramThatIsNoPluginIsRefused(t *testing.T) {
	const config = `
plugins: {redact: %s}
transforms: [{match: ["*"], plugin: redact}]
endpoints: [{name: a, url: "http://127.0.0.1:1/a", events: ["*"]}]
`
	db := newDatabase(t)
	initialise(t, db, "endpoints: []")
	for _, n := range noPlugins {
		t.Run(n.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			settings := []string{"env: {}"}
			if more := n.make(t, path); more != "" {
				settings = append(settings, more)
			}
			written := fmt.Sprintf(config, pluginAt(path, nil, settings[1:]...))
			for _, args := range [][]string{{"check"}, run} {
				code, output := runToEnd(t, db, written, nil, args...)
				if code != 3 { // the configuration's
					t.Errorf("posthorn %v ended with %d, not 3", args, code)
				}
				for _, want := range append(n.wants, "redact") {
					if !regexp.MustCompile(want).MatchString(output) {
						t.Errorf("posthorn %v does not say %q:\n%s", args, want, output)
					}
				}
			}
		})
	}
}
