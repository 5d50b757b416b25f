package plugins

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	envRole = "PLUGIN_TEST_ROLE" // what the test binary is, where it runs itself
	patient = time.Minute        // a wait that ends a test which would hang
)

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "plugin":
		Serve(TransformerFunc(obey))
		fmt.Fprintln(stderr, "tidied up")
	case "relay":
		relay()
	default:
		goleak.VerifyTestMain(m)
	}
}

// obey does what an event's type says.
func obey(ctx context.Context, e *Event) error {
	switch command, argument, _ := strings.Cut(e.Type, " "); command {
	case "payload":
		e.Payload = []byte(argument)
	case "skip":
		return Skip(argument)
	case "reject":
		return Reject(errors.New(argument))
	case "panic":
		panic(argument)
	case "grow":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		e.Payload = []byte(`"` + strings.Repeat("x", n) + `"`)
	case "left":
		deadline, _ := ctx.Deadline()
		return Skip(time.Until(deadline).String())
	case "print":
		fmt.Println("printed to stdout:", argument)
		fmt.Fprintln(os.Stderr, "printed to stderr:", argument)
		slog.Info("logged by default: " + argument)
		Logger().Warn("logged: "+argument, "event", e.ID)
	case "signal":
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGINT), syscall.Kill(os.Getpid(), syscall.SIGTERM))
	}
	return nil
}

// relay starts a plugin as Posthorn does, says on stdout that it runs, and waits
// to be killed. What is open as descriptor 3 it passes on.
func relay() {
	cmd := exec.Command(os.Args[0])
	if os.Getenv("PLUGIN_TEST_SCRIPT") != "" {
		cmd = exec.Command("/bin/sh", "-c", `"$0"; exit 0`, os.Args[0])
	}
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "held")}
	cmd.Env = append(pluginEnv(os.Getenv(plugin.EnvUnixSocketDir)), wire.EnvParent+"="+strconv.Itoa(os.Getpid()))
	client := plugin.NewClient(clientConfig(cmd, wire.Version1))
	if _, err := connect(client); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("running")
	select {}
}

// transformerPlugin is the host's side of the plugin.
type transformerPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (transformerPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.ErrUnsupported
}

func (transformerPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return pluginv1.NewTransformerClient(conn), nil
}

func pluginEnv(socketDir string) []string {
	return []string{envRole + "=plugin", plugin.EnvUnixSocketDir + "=" + socketDir}
}

func clientConfig(cmd *exec.Cmd, versions ...int) *plugin.ClientConfig {
	sets := map[int]plugin.PluginSet{}
	for _, v := range versions {
		sets[v] = plugin.PluginSet{wire.Set: transformerPlugin{}}
	}
	return &plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: sets,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		Cmd:              cmd,
		StartTimeout:     patient,
		Logger:           hclog.NewNullLogger(),
	}
}

func connect(client *plugin.Client) (pluginv1.TransformerClient, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	if err := protocol.Ping(); err != nil {
		return nil, err
	}
	transformer, err := protocol.Dispense(wire.Set)
	if err != nil {
		return nil, err
	}
	return transformer.(pluginv1.TransformerClient), nil
}

// start runs the test binary as a plugin until the test ends; edit may be nil.
func start(tb testing.TB, edit func(*plugin.ClientConfig)) (*plugin.Client, pluginv1.TransformerClient) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = pluginEnv(tb.TempDir())
	config := clientConfig(cmd, wire.Version1)
	if edit != nil {
		edit(config)
	}
	client := plugin.NewClient(config)
	tb.Cleanup(client.Kill)
	transformer, err := connect(client)
	if err != nil {
		tb.Fatal(err)
	}
	return client, transformer
}

func events(types ...string) *pluginv1.TransformRequest {
	r := &pluginv1.TransformRequest{}
	for _, t := range types {
		r.Events = append(r.Events, &pluginv1.Event{Id: "1", Type: t, Payload: []byte(`{}`)})
	}
	return r
}

func TestPluginAnswersByGRPC(t *testing.T) {
	client, transformer := start(t, nil)
	response, err := transformer.Transform(t.Context(), events("none", `payload {"a": 1}`, "skip a test", "reject never", "panic now", "payload oops"))
	if err != nil {
		t.Fatal(err)
	}
	want := []*pluginv1.Result{
		unchanged, changeOf(&pluginv1.Change{Payload: []byte(`{"a": 1}`)}), skipOf("a test"), failure("never", true),
		failure("panicked", false), failure("payload is not JSON", false),
	}
	if diff := cmp.Diff(want, response.GetResults(), protocmp.Transform()); diff != "" {
		t.Errorf("the results differ (-want +got):\n%s", diff)
	}
	if got := client.NegotiatedVersion(); got != wire.Version1 {
		t.Errorf("protocol version %d was negotiated, want %d", got, wire.Version1)
	}
}

func TestTransformerGetsNineTenthsOfTheCallsTime(t *testing.T) {
	_, transformer := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	response, err := transformer.Transform(ctx, events("left"))
	if err != nil {
		t.Fatal(err)
	}
	left, err := time.ParseDuration(response.GetResults()[0].GetSkip().GetReason())
	if err != nil || left > 54*time.Minute || left < 50*time.Minute {
		t.Errorf("of an hour %v are left to the transformer (%v), want 54m", left, err)
	}
}

func TestMessagesAreLimited(t *testing.T) {
	_, transformer := start(t, func(c *plugin.ClientConfig) {
		c.Cmd.Env = append(c.Cmd.Env, wire.EnvMaxMessage+"=100000")
	})
	tests := []struct {
		name    string
		request *pluginv1.TransformRequest
		want    codes.Code
	}{
		{"request above", events("none " + strings.Repeat("x", 100000)), codes.ResourceExhausted},
		{"results above together", events("grow 60000", "grow 60000"), codes.ResourceExhausted},
		{"one result above", events("grow 100000"), codes.OK},
		{"both below", events("grow 40000", "grow 40000"), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			response, err := transformer.Transform(t.Context(), tt.request)
			if status.Code(err) != tt.want {
				t.Errorf("got the error %v, want %v", err, tt.want)
			}
			if err == nil && len(response.GetResults()) != len(tt.request.GetEvents()) {
				t.Errorf("got %d results for %d events", len(response.GetResults()), len(tt.request.GetEvents()))
			}
		})
	}
}

// lines collects what is written to it.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	want []string
	all  chan struct{} // closed once all of want were written
}

func newLines(want ...string) *lines { return &lines{want: want, all: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	missing := func(w string) bool { return !bytes.Contains(l.text.Bytes(), []byte(w)) }
	if len(l.want) > 0 && !slices.ContainsFunc(l.want, missing) {
		l.want = nil
		close(l.all)
	}
	return len(p), nil
}

func (l *lines) wait(t *testing.T) {
	t.Helper()
	select {
	case <-l.all:
	case <-time.After(patient):
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Errorf("%q did not come; what came: %s", l.want, l.text.Bytes())
	}
}

func TestWhatPluginsPrintReachesTheHost(t *testing.T) {
	stdout, synced := newLines("printed to stdout: hello\n"), newLines("printed to stderr: hello\n")
	own := newLines("logged by default: hello\n",
		`"@level":"warn","@message":"logged: hello","event":"1"}`,
		`"@level":"error","@message":"transform panicked","event":"1","panic":"a word","stack":"panic(`, "plugins.obey(")
	_, transformer := start(t, func(c *plugin.ClientConfig) {
		c.SyncStdout, c.SyncStderr, c.Stderr = stdout, synced, own
	})
	if _, err := transformer.Transform(t.Context(), events("print hello", "panic a word")); err != nil {
		t.Fatal(err)
	}
	stdout.wait(t)
	synced.wait(t)
	own.wait(t)
}

func TestServeReturnsWhenTheHostStopsIt(t *testing.T) {
	own := newLines("tidied up\n")
	client, transformer := start(t, func(c *plugin.ClientConfig) { c.Stderr = own })
	if _, err := transformer.Transform(t.Context(), events("none")); err != nil {
		t.Fatal(err)
	}
	client.Kill()
	own.wait(t)
}

func TestSignalsThatStopARelayAreIgnored(t *testing.T) {
	_, transformer := start(t, nil)
	for range 2 {
		if _, err := transformer.Transform(t.Context(), events("signal")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVersionIsNegotiated(t *testing.T) {
	tests := []struct {
		name    string
		asked   []int
		want    int
		wantErr string
	}{
		{"the only one", []int{1}, 1, ""},
		{"a newer host that still speaks it", []int{1, 2}, 1, ""},
		{"a newer host that does not", []int{2}, 0, "Plugin version: 1, Client versions: [2]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = pluginEnv(t.TempDir())
			client := plugin.NewClient(clientConfig(cmd, tt.asked...))
			t.Cleanup(client.Kill)
			_, err := connect(client)
			if tt.wantErr == "" && (err != nil || client.NegotiatedVersion() != tt.want) {
				t.Errorf("got version %d and the error %v, want version %d", client.NegotiatedVersion(), err, tt.want)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got the error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestProgramExitsWhereItCannotServe(t *testing.T) {
	cookie := wire.CookieKey + "=" + wire.CookieValue
	tests := []struct {
		name string
		env  []string
		want string
	}{
		{"run by hand", nil, "This program is a plugin of Posthorn"},
		{"another cookie", []string{wire.CookieKey + "=1"}, "This program is a plugin of Posthorn"},
		{"size", []string{cookie, wire.EnvMaxMessage + "=16MiB"}, `POSTHORN_PLUGIN_MAX_MESSAGE: must be a number of bytes, got "16MiB"`},
		{"size of nothing", []string{cookie, wire.EnvMaxMessage + "=0"}, `POSTHORN_PLUGIN_MAX_MESSAGE: must be a number of bytes, got "0"`},
		{"parent", []string{cookie, wire.EnvParent + "=-1"}, `POSTHORN_PLUGIN_PARENT: must be a process id, got "-1"`},
		{"no socket folder", []string{cookie, plugin.EnvUnixSocketDir + "=" + filepath.Join(t.TempDir(), "absent")}, "no such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append([]string{envRole + "=plugin"}, tt.env...)
			var out, diagnosis bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &diagnosis
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("got %v, want exit status 1", err)
			}
			if out.Len() != 0 || !strings.Contains(diagnosis.String(), tt.want) {
				t.Errorf("printed %q and on stderr %q, want %q there", out.String(), diagnosis.String(), tt.want)
			}
		})
	}
}

func TestPluginDoesNotOutliveAKilledRelay(t *testing.T) {
	tests := []struct{ name, script string }{{"started by the relay", ""}, {"started by a script", "1"}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sockets := t.TempDir()
			held, hold, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = []string{envRole + "=relay", "PLUGIN_TEST_SCRIPT=" + tt.script, plugin.EnvUnixSocketDir + "=" + sockets}
			cmd.ExtraFiles = []*os.File{hold}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			hold.Close()
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if line != "running\n" {
				t.Errorf("the relay says %q, %v", line, err)
			}
			if got := len(files(t, sockets)); got != 1 {
				t.Errorf("%d files in the socket folder while the plugin runs, want its socket", got)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed

			// The pipe ends when the last process that has it open is gone.
			if err := held.SetReadDeadline(time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			if _, err := held.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the plugin still runs: %v", err)
			}
			if left := files(t, sockets); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func files(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// BenchmarkNoOp sends batches to a plugin that changes nothing and reports the
// events a second, process boundary and TLS included.
func BenchmarkNoOp(b *testing.B) {
	_, transformer := start(b, nil)
	payload := []byte(`{"text": "` + strings.Repeat("x", 1000) + `"}`)
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			request := &pluginv1.TransformRequest{}
			for range size {
				e := committed()
				e.Payload = payload
				request.Events = append(request.Events, e)
			}
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), patient)
				response, err := transformer.Transform(ctx, request)
				cancel()
				if err != nil || len(response.GetResults()) != size {
					b.Fatalf("got %d results and the error %v", len(response.GetResults()), err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
