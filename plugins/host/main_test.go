package host

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/posthorn/posthorn/plugins"
	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

// The test binary is the plugins, too, and a relay that is killed. kindVariable
// says which.
const (
	kindVariable  = "TEST_KIND"
	relayVariable = "TEST_RELAY" // the socket folder of the relay's plugins
)

var kinds = map[string]func(){
	"":         func() { plugins.Serve(plugins.TransformerFunc(obey)) },
	"raw":      func() { serveRaw(1) },
	"version2": func() { serveRaw(2) },
	"foreign":  func() { serveForeign(tls.RequireAndVerifyClientCert) },
	"trusting": func() { serveForeign(tls.NoClientCert) },
	"silent":   func() { select {} },
	"no-op": func() {
		plugins.Serve(plugins.TransformerFunc(func(context.Context, *plugins.Event) error { return nil }))
	},
	"netrpc": func() {
		plugin.Serve(&plugin.ServeConfig{HandshakeConfig: wire.Handshake(), VersionedPlugins: map[int]plugin.PluginSet{1: {}}})
	},
}

func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) == wire.CookieValue {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1) // keeps "select {}" from being a deadlock
		kinds[os.Getenv(kindVariable)]()
		return
	}
	if dir := os.Getenv(relayVariable); dir != "" {
		relay(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// order is a payload that the test plugin obeys.
type order struct {
	Do   string `json:"do"`
	Text string `json:"text,omitempty"`
	Pid  int    `json:"pid,omitempty"`
}

// obey does what the payload says, and answers in the payload.
func obey(ctx context.Context, e *plugins.Event) error {
	var o order
	if err := json.Unmarshal(e.Payload, &o); err != nil {
		return plugins.Reject(err)
	}
	if misdeed, ok := misdeeds[o.Do]; ok {
		misdeed()
	}
	switch o.Do {
	case "error":
		return errors.New(o.Text)
	case "reject":
		return plugins.Reject(errors.New(o.Text))
	case "skip":
		return plugins.Skip(o.Text)
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	case "type":
		e.Type = o.Text
	case "payload":
		e.Payload = json.RawMessage(o.Text)
	case "headers":
		e.Headers = maps.Clone(e.Headers)
		e.Headers["X-Text"] = o.Text
	case "environment":
		o.Text = strings.Join(os.Environ(), "\n")
	case "files":
		paths, _ := filepath.Glob("/proc/self/fd/*")
		for _, path := range paths {
			to, _ := os.Readlink(path)
			o.Text += to + "\n"
		}
	case "folder":
		o.Text, _ = os.Getwd()
	case "arguments":
		o.Text = strings.Join(os.Args[1:], " ")
	case "stdin":
		read, err := io.ReadAll(os.Stdin)
		o.Text = fmt.Sprint(len(read), err)
	case "grandchild":
		child := exec.Command("/bin/sleep", "1000")
		child.Stdout, child.Stderr = os.NewFile(1, ""), os.NewFile(2, "")
		if err := child.Start(); err != nil {
			return err
		}
		o.Text = fmt.Sprint(child.Process.Pid)
	case "log":
		plugins.Logger().Warn("hello", "secret", false, "n", 3)
		fmt.Println("printed")
		fmt.Fprintln(os.Stderr, "complained")
	}
	if o.Do != "payload" {
		o.Pid = os.Getpid()
		e.Payload, _ = json.Marshal(o)
	}
	return nil
}

var leaked [][]byte

var misdeeds = map[string]func(){
	"panic":  func() { go panic("boom"); select {} },
	"exit":   func() { os.Exit(3) },
	"hang":   func() { select {} },
	"stderr": func() { flood(os.Stderr) },
	"fd 2":   func() { flood(os.NewFile(2, "")) },
	"leak": func() {
		// The address space stands for memory: nothing is written to it.
		limit := syscall.Rlimit{Cur: 4 << 30, Max: 4 << 30}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
			panic(err)
		}
		for {
			leaked = append(leaked, make([]byte, 64<<20))
		}
	},
	"close": func() {
		closeSockets(func(int) bool { return true })
		select {}
	},
	"hang up": func() { // one can connect again
		closeSockets(func(fd int) bool {
			_, err := syscall.Getpeername(fd)
			return err == nil
		})
		select {}
	},
}

// closeSockets closes those of the process's sockets that which names.
func closeSockets(which func(fd int) bool) {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		var n int
		if to, _ := os.Readlink(fd); !strings.HasPrefix(to, "socket:") {
			continue
		}
		if fmt.Sscan(filepath.Base(fd), &n); which(n) {
			syscall.Shutdown(n, syscall.SHUT_RDWR)
			syscall.Close(n)
		}
	}
}

// flood writes 100 MB.
func flood(w io.Writer) {
	block := bytes.Repeat([]byte("this is a line that says nothing, and then says it again, and again\n"), 1000)
	for written := 0; written < 100e6; written += len(block) {
		w.Write(block)
	}
}

// rawPlugin answers with what the SDK would not let through.
type rawPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func serveRaw(version int) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{version: {wire.Set: rawPlugin{}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ForceServerCodecV2(eitherCodec{encoding.GetCodecV2("proto")}))...)
		},
	})
}

func (rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

func (rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: pluginv1.Transformer_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Transform", Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var request pluginv1.TransformRequest
			if err := read(&request); err != nil {
				return nil, err
			}
			return rawAnswer(&request)
		}}},
	}, nil)
	return nil
}

// rawAnswer returns a TransformResponse in bytes.
func rawAnswer(request *pluginv1.TransformRequest) (*[]byte, error) {
	var answer []byte
	add := func(result []byte) {
		answer = protowire.AppendTag(answer, 1, protowire.BytesType)
		answer = protowire.AppendBytes(answer, result)
	}
	message := func(field protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
	}
	for i, e := range request.GetEvents() {
		var o order
		if err := json.Unmarshal(e.GetPayload(), &o); err != nil {
			return nil, err
		}
		switch o.Do {
		case "half":
			answer = answer[:0]
			for range len(request.GetEvents()) / 2 {
				add(message(1, nil))
			}
			return &answer, nil
		case "twice":
			add(message(1, nil))
		case "garbage":
			garbage := []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
			return &garbage, nil
		case "status":
			return nil, fmt.Errorf("no tenant for event %d", i)
		case "huge":
			huge := make([]byte, 2<<20)
			return &huge, nil
		case "grow":
			add(message(1, message(2, fmt.Appendf(nil, `{"do":"grow","text":%q}`, strings.Repeat("x", 300<<10)))))
			continue
		case "nothing":
			add(nil)
			continue
		case "type":
			add(message(1, message(1, []byte(o.Text))))
			continue
		case "type not UTF-8":
			add(message(1, message(1, []byte("a\xff"))))
			continue
		case "payload not UTF-8":
			add(message(1, message(2, []byte("\"a\xff\""))))
			continue
		case "payload":
			add(message(1, message(2, []byte(o.Text))))
			continue
		}
		add(message(1, message(2, fmt.Appendf(nil, `{"do":%q,"pid":%d}`, o.Do, os.Getpid()))))
	}
	return &answer, nil
}

// eitherCodec takes raw bytes beside messages.
type eitherCodec struct{ encoding.CodecV2 }

func (c eitherCodec) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*[]byte); ok {
		return rawCodec{}.Marshal(v)
	}
	return c.CodecV2.Marshal(v)
}

// relay runs two plugins until it is killed: one that watches its parent and one
// that does not. It prints their process ids.
func relay(dir string) {
	for _, kind := range []string{"", "raw"} {
		p, err := Start(context.Background(), testOptions(kind, dir))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.running[0].runner.pid)
	}
	_, _ = io.ReadAll(os.Stdin)
}

func testOptions(kind, socketDir string) Options {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Options{
		Name: "tester", Path: path, SocketDir: socketDir, Env: []string{kindVariable + "=" + kind},
		Timeout: 10 * time.Second, StartTimeout: 30 * time.Second, Instances: 1, Batch: 256, MaxMessage: 1 << 20,
	}
}

// options returns options for a plugin of the test binary's.
func options(t testing.TB, kind string) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "posthorn") // t.TempDir() is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the socket folder: %v (%v)", left, err)
		}
		os.RemoveAll(dir)
	})
	return testOptions(kind, dir)
}

// start starts a plugin for the length of a test, and sees to it that nothing of
// it is left.
func start(t testing.TB, o Options) *Plugin {
	t.Helper()
	p, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pids := p.pids()
		p.Close(context.Background())
		for _, pid := range pids {
			if !gone(pid) {
				t.Errorf("process %d is left", pid)
			}
		}
	})
	return p
}

func (p *Plugin) pids() (pids []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.running {
		pids = append(pids, proc.runner.pid)
	}
	return pids
}

// gone reports whether there is no process of this id, not even a zombie.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for tick := time.NewTicker(5 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// orders returns an event for each order.
func orders(orders ...order) []*plugins.Event {
	events := make([]*plugins.Event, len(orders))
	for i, o := range orders {
		payload, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		events[i] = &plugins.Event{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Type: "test.made", CreatedAt: time.Unix(1, 0),
			Headers: map[string]string{"X-Was": "there"}, Payload: payload,
		}
	}
	return events
}

// do has the plugin obey one order.
func do(t testing.TB, p *Plugin, o order) (order, error) {
	t.Helper()
	events := orders(o)
	if err := p.Transform(t.Context(), events)[0]; err != nil {
		return order{}, err
	}
	return answered(t, events[0]), nil
}

func mustDo(t testing.TB, p *Plugin, what string) order {
	t.Helper()
	o, err := do(t, p, order{Do: what})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func answered(t testing.TB, e *plugins.Event) (o order) {
	t.Helper()
	if err := json.Unmarshal(e.Payload, &o); err != nil {
		t.Fatalf("%s: %v", e.Payload, err)
	}
	return o
}

// isAbout reports whether err's text begins with the plugin's name and holds all
// of texts.
func isAbout(err error, texts ...string) bool {
	return err != nil && strings.HasPrefix(err.Error(), "plugin tester: ") &&
		!slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(err.Error(), text) })
}
