package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAProgramThatIsNoPluginIsRefusedWithAReason(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := func(name, content string) string { return file(name, "#!/bin/sh\n"+content, 0o755) }
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	const handshake = "echo '1|%s'; exec sleep 1000"
	cert := strings.Repeat("A", 60)

	tests := []struct {
		name   string
		kind   string
		change func(o *Options)
		want   []string
	}{
		{"missing", "", func(o *Options) { o.Path = dir + "/none" }, []string{dir + "/none does not exist"}},
		{"in PATH only", "", func(o *Options) { o.Path = "sh" }, []string{"/plugins/host/sh does not exist"}},
		{"below a file", "", func(o *Options) { o.Path = file("f", "", 0o644) + "/x" }, []string{"does not exist"}},
		{"folder", "", func(o *Options) { o.Path = dir }, []string{dir + " is a folder"}},
		{"device", "", func(o *Options) { o.Path = "/dev/null" }, []string{"not a regular file"}},
		{"no run bit", "", func(o *Options) { o.Path = file("plain", "x", 0o644) }, []string{"/plain is not executable", "chmod +x"}},
		{
			"wrong sum", "", func(o *Options) { o.Path, o.SHA256 = script("ok", "exit"), sum("other") },
			[]string{"wrong sha256", "expected " + sum("other"), "found " + sum("#!/bin/sh\nexit")},
		},
		{"no program", "", func(o *Options) { o.Path = file("text", "hello", 0o755) }, []string{"/text is no program for this system"}},
		{"no interpreter", "", func(o *Options) { o.Path = file("lost", "#!/nowhere/sh\n", 0o755) }, []string{"/lost cannot be run", "interpreter"}},
		{
			"exits", "", func(o *Options) { o.Path = script("exits", "echo no licence >&2; exit 5") },
			[]string{"ended with exit status 5", "is it a Posthorn plugin?", `stderr: "no licence"`},
		},
		{
			"exits with much to say", "", func(o *Options) {
				o.Path = script("says", "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done >&2; exit 5")
			}, []string{`stderr: "line 0 line 1`, "line 499\""},
		},
		{"prints", "", func(o *Options) { o.Path = script("prints", "echo hello; exec sleep 1000") }, []string{"printed something else", `stdout: "hello"`}},
		{"prints without end", "", func(o *Options) { o.Path = "/usr/bin/yes"; o.Args = []string{strings.Repeat("y", 20000)} }, []string{"printed something else", `"yyy`}},
		{"closes stdout", "", func(o *Options) { o.Path = script("closes", "exec >&-; exec sleep 1000") }, []string{"closed its standard output"}},
		{"silent", "silent", func(o *Options) { o.StartTimeout = 300 * time.Millisecond }, []string{"printed nothing within 300ms"}},
		{"other version", "version2", nil, []string{"speaks protocol version 2, this Posthorn speaks version 1"}},
		{"net/rpc", "netrpc", nil, []string{"offers no gRPC"}},
		{"other handshake", "", func(o *Options) {
			o.Path = script("core", strings.ReplaceAll(fmt.Sprintf(handshake, "1|unix|/x|grpc|"+cert), "'1|", "'2|"))
		}, []string{"version 2 of go-plugin's handshake"}},
		{"no mutual TLS", "", func(o *Options) { o.Path = script("open", fmt.Sprintf(handshake, "1|unix|/x|grpc")) }, []string{"no certificate"}},
		{"answers anybody", "trusting", nil, []string{"did not ask for Posthorn's certificate", "mutual TLS"}},
		{"elsewhere", "", func(o *Options) { o.Path = script("far", fmt.Sprintf(handshake, "1|tcp|192.0.2.1:80|grpc|"+cert)) }, []string{"loopback"}},
		{"by name", "", func(o *Options) { o.Path = script("name", fmt.Sprintf(handshake, "1|tcp|localhost:80|grpc|"+cert)) }, []string{"loopback"}},
		{"broken certificate", "", func(o *Options) { o.Path = script("cert", fmt.Sprintf(handshake, "1|unix|/x|grpc|"+cert)) }, []string{"cert"}},
		{"no socket folder", "", func(o *Options) { o.SocketDir = dir + "/none" }, []string{"socket_dir: folder", "does not exist"}},
		{"socket folder is a file", "", func(o *Options) { o.SocketDir = file("s", "", 0o644) }, []string{"socket_dir: ", "is not a folder"}},
		{"socket folder is read-only", "", func(o *Options) { o.SocketDir = "/proc" }, []string{"socket_dir: folder /proc is not writable"}},
		{"socket folder's path is long", "", func(o *Options) {
			o.SocketDir = filepath.Join(dir, strings.Repeat("x", 100))
			if err := os.Mkdir(o.SocketDir, 0o755); err != nil {
				t.Fatal(err)
			}
		}, []string{"socket_dir: ", "of at most 65"}},
		{"no working folder", "", func(o *Options) { o.Dir = dir + "/none" }, []string{"dir: folder", "does not exist"}},
		{"reserved variable", "", func(o *Options) { o.Env = []string{"PLUGIN_MIN_PORT=1"} }, []string{"PLUGIN_MIN_PORT is set by Posthorn"}},
		{"no variable", "", func(o *Options) { o.Env = []string{"x"} }, []string{"NAME=value"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.kind)
			if tt.change != nil {
				tt.change(&o)
			}
			o.Instances = 2
			p, err := Start(t.Context(), o)
			if err == nil {
				p.Close(t.Context())
				t.Fatal("it was started")
			}
			if !isAbout(err, tt.want...) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 700 {
				t.Errorf("got %q, want %q", err, tt.want)
			}
		})
	}
}

func TestAStartThatIsGivenUpLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, options(t, "silent")); !isAbout(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
}

func TestARelativePathIsToTheRelaysFolder(t *testing.T) {
	o := options(t, "")
	relative, err := filepath.Rel(mustWd(t), o.Path)
	if err != nil {
		t.Fatal(err)
	}
	o.Path, o.Dir = relative, "/"
	start(t, o)
}

func mustWd(t *testing.T) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return wd
}

func TestBackoffDoublesToItsLimit(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 10: 30 * time.Second, 1000: 30 * time.Second,
	} {
		if got := backoff(failures, maxBackoff); got != want {
			t.Errorf("backoff(%d) = %s, want %s", failures, got, want)
		}
	}
}
