package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/posthorn/posthorn/plugins"
)

// The test binary is the plugins of its tests, too. That a relay started it is
// told by pluginCookie, what it is then by these variables.
const (
	pluginCookie    = "POSTHORN_PLUGIN"
	programVariable = "TEST_PROGRAM" // of programs
	labelVariable   = "TEST_LABEL"   // what marks payloads
	callsVariable   = "TEST_CALLS"   // the file to which the ids of the events are added
	gateVariable    = "TEST_GATE"    // while this file exists the program does not begin to serve
	speakVariable   = "TEST_SPEAK"   // while this file exists the program speaks protocol version 2
	releaseVariable = "TEST_RELEASE" // the file that those wait for which are told to
)

var programs = map[string]func(){
	"marker": func() { plugins.Serve(plugins.TransformerFunc(mark)) },
	"no-op": func() {
		plugins.Serve(plugins.TransformerFunc(func(context.Context, *plugins.Event) error { return nil }))
	},
	"raw": serveRaw,
}

func servePlugin() {
	for gate := os.Getenv(gateVariable); gate != "" && exists(gate); {
		time.Sleep(10 * time.Millisecond)
	}
	programs[os.Getenv(programVariable)]()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// order is what a payload tells the plugin to do.
type order struct {
	Do string `json:"do"`
}

// mark does what the payload says, then marks it.
func mark(_ context.Context, e *plugins.Event) error {
	if err := noteCall(e.ID); err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(e.Payload, &o); err != nil {
		return plugins.Reject(err)
	}
	switch o.Do {
	case "environment":
		return describe(e)
	case "not UTF-8":
		e.Payload = json.RawMessage("\"\xff\"")
		return nil
	case "error":
		return errors.New("no luck")
	case "reject":
		return plugins.Reject(errors.New("never"))
	case "skip":
		return plugins.Skip("not wanted")
	}
	if misdeed, ok := misdeeds[o.Do]; ok {
		misdeed()
	}
	e.Payload = marked(e.Payload)
	return nil
}

// marked returns an object that says by whom it was made, and is another one
// each time.
func marked(payload []byte) []byte {
	rest := bytes.TrimSpace(payload[1:])
	if rest[0] != '}' {
		rest = append([]byte{','}, rest...)
	}
	return fmt.Appendf(nil, `{"by":%q,"pid":%d,"nonce":%q%s`, os.Getenv(labelVariable), os.Getpid(), rand.Text(), rest)
}

func noteCall(id string) error {
	name := os.Getenv(callsVariable)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(id + "\n")
	return errors.Join(err, f.Close())
}

// surroundings is what a plugin sees of the system.
type surroundings struct {
	Environment []string `json:"environment"`
	Folder      string   `json:"folder"`
	Arguments   []string `json:"arguments"`
}

func describe(e *plugins.Event) error {
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	e.Payload, err = json.Marshal(surroundings{os.Environ(), folder, os.Args[1:]})
	return err
}

const (
	flood  = 100 << 20 // bytes
	hoard  = 512 << 20 // bytes at which a leak ends that nobody stops
	leaked = 200 << 20 // bytes at which one is noticed
)

// misdeeds are what a plugin's author did wrong. Those that return do so after
// the deed began.
var misdeeds = map[string]func(){
	"panic":              func() { panic("boom") },
	"panic in goroutine": func() { go panic("boom"); select {} },
	"exit":               func() { os.Exit(3) },
	"hang":               func() { select {} },
	"leak":               func() { go leak() },
	"stderr": func() {
		write(os.Stderr, "a line that says nothing, and then says it again, and again\n", flood/2)
		write(os.NewFile(2, "stderr"), "a line that never ends ", flood/2)
	},
	"wait": func() {
		for !exists(os.Getenv(releaseVariable)) {
			time.Sleep(10 * time.Millisecond)
		}
	},
}

// leak takes 10 MB of memory after the other.
func leak() {
	var kept [][]byte
	for len(kept)*10<<20 < hoard {
		block := make([]byte, 10<<20)
		for i := 0; i < len(block); i += 4 << 10 {
			block[i] = 1 // else it has no memory
		}
		kept = append(kept, block)
		time.Sleep(5 * time.Millisecond)
	}
	select {}
}

func write(w io.Writer, text string, size int) {
	block := []byte(strings.Repeat(text, 1000))
	for written := 0; written < size; written += len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// rawPlugin answers what no SDK would let it. Only the first field of a
// request's messages matters to it.
type rawPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func serveRaw() {
	version := 1
	if speak := os.Getenv(speakVariable); speak != "" && exists(speak) {
		version = 2
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: pluginCookie, MagicCookieValue: os.Getenv(pluginCookie)},
		VersionedPlugins: map[int]plugin.PluginSet{version: {"transformer": rawPlugin{}}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.ForceServerCodecV2(bytesCodec{encoding.GetCodecV2("proto")}))...)
		},
	})
}

// GRPCClient is the relay's side.
func (rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// GRPCServer registers the service of plugin.proto.
func (rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "posthorn.plugin.v1.Transformer",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Transform", Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var request []byte
			if err := read(&request); err != nil {
				return nil, err
			}
			answer, err := rawAnswer(request)
			return &answer, err
		}}},
	}, nil)
	return nil
}

// rawAnswer returns a TransformResponse, or what is none.
func rawAnswer(request []byte) ([]byte, error) {
	var results [][]byte
	change := func(payload []byte) {
		result := message(1, message(2, payload)) // Result.change, Change.payload
		results = append(results, message(1, result))
	}
	events := fields(request, 1) // TransformRequest.events
	half := false
	for _, event := range events {
		payload := fields(event, payloadField)[0]
		var o order
		if err := json.Unmarshal(payload, &o); err != nil {
			return nil, err
		}
		switch o.Do {
		case "garbage":
			return bytes.Repeat([]byte{0xff}, 12), nil
		case "status":
			return nil, errors.New("no luck with all of them")
		case "not UTF-8":
			change([]byte("\"\xff\""))
		case "not JSON":
			change([]byte("{"))
		case "exit":
			os.Exit(3)
		default:
			change(marked(payload))
			half = half || o.Do == "half a batch"
		}
	}
	if half {
		results = results[:len(results)/2]
	}
	return slices.Concat(results...), nil
}

// payloadField is Event.payload in plugin.proto.
const payloadField = 7

// fields returns the values of a message's field.
func fields(b []byte, want protowire.Number) (values [][]byte) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if number == want {
			value, _ := protowire.ConsumeBytes(b[n:])
			values = append(values, value)
		}
		b = b[n+size:]
	}
	return values
}

func message(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// bytesCodec leaves *[]byte as it is, beside messages.
type bytesCodec struct{ encoding.CodecV2 }

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(*[]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
