package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	watchInterval = 250 * time.Millisecond // between two looks for the relay
	orphanGrace   = 2 * time.Second        // for main to end by itself once the relay has gone
	windowSize    = 1 << 20                // bytes under way before the other side has read them
)

const byHand = `This program is a plugin of Posthorn, which starts it itself. Name it in posthorn.yaml:

plugins:
  example: {path: %s}
transforms:
  - {match: ["*"], plugin: example}
`

// Serve runs t as a plugin of Posthorn; main calls it. It returns when Posthorn
// stops the plugin or has gone; main should return soon then, or the process is
// killed. It exits with status 1 if the program was not started by Posthorn, or
// cannot be reached by it.
//
// Nothing may be written to os.Stdout before. Afterwards os.Stdout and os.Stderr
// lead to the relay's log, as does [Logger]. The signals that stop a relay,
// SIGINT and SIGTERM, are ignored: terminals and service managers send them to
// its plugins, too, which it still needs for a moment.
func Serve(t Transformer) {
	if os.Getenv(wire.CookieKey) != wire.CookieValue {
		fmt.Fprintf(os.Stderr, byHand, os.Args[0])
		os.Exit(1)
	}
	maxMessage, parent, err := environment()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM) // go-plugin ignores SIGINT

	running := false
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{
			wire.Version1: {wire.Set: &served{server: newServer(t, maxMessage)}},
		},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			running = true
			server := grpc.NewServer(append(options,
				grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
				grpc.InitialWindowSize(windowSize), grpc.InitialConnWindowSize(windowSize))...)
			if parent != 0 {
				go watch(parent, server)
			}
			return server
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: stderr, JSONFormat: true}),
	})
	if !running { // go-plugin has logged why
		os.Exit(1)
	}
}

// environment returns what the host says: the bytes of a message, and the
// process id of the relay, 0 if it does not want to be watched.
func environment() (maxMessage, parent int, err error) {
	maxMessage = wire.DefaultMaxMessage
	if text := os.Getenv(wire.EnvMaxMessage); text != "" {
		if maxMessage, err = strconv.Atoi(text); err != nil || maxMessage <= 0 {
			return 0, 0, fmt.Errorf("%s: must be a number of bytes, got %q", wire.EnvMaxMessage, text)
		}
	}
	if text := os.Getenv(wire.EnvParent); text != "" {
		if parent, err = strconv.Atoi(text); err != nil || parent <= 0 {
			return 0, 0, fmt.Errorf("%s: must be a process id, got %q", wire.EnvParent, text)
		}
	}
	return maxMessage, parent, nil
}

// watch stops server once the relay has gone, so that no plugin outlives it,
// and ends the process if that does not. It does not return before.
func watch(relay int, server *grpc.Server) {
	// The relay is no parent where a shell script starts the plugin. The process
	// that is found is the relay for good, even if its id is used again.
	process, err := os.FindProcess(relay)
	parent := os.Getppid()
	for err == nil && os.Getppid() == parent && !errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		time.Sleep(watchInterval)
	}
	time.AfterFunc(orphanGrace, func() { os.Exit(1) })
	server.Stop()
}

// served is a server as go-plugin wants it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (s *served) GRPCServer(_ *plugin.GRPCBroker, registrar *grpc.Server) error {
	pluginv1.RegisterTransformerServer(registrar, s.server)
	return nil
}

// GRPCClient is the host's side, which plugins do not have.
func (s *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}
