package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	stopTimeout = 5 * time.Second        // from the request to stop to the kill
	healthPause = 100 * time.Millisecond // between two checks of a process that is not ready yet
	windowSize  = 1 << 20                // bytes under way before the other side has read them
	maxMetadata = 64 << 10               // bytes of a response's headers and trailers
)

// process is one process of a plugin.
type process struct {
	runner  *execRunner
	conn    *grpc.ClientConn
	sum     string // of its file
	started time.Time
	ready   atomic.Bool    // it passed its first health check: no connection to it is made any more
	output  sync.WaitGroup // what reads its redirected stdout and stderr

	succeeded atomic.Int64 // calls

	// Plugin.mu guards these.
	calls  map[*call]struct{} // in flight
	why    string             // it is out of service
	shared bool               // there was more than one call in flight when it went out of service
}

// errConnectionLost reports that a process lost the connection over which it
// became ready: it is replaced.
var errConnectionLost = errors.New("the connection was lost")

// endedError says what became of the process that a call was on.
type endedError struct{ reason string }

func (e *endedError) Error() string { return "its process " + e.reason }

// startError says why a program did not become a plugin's process.
type startError struct {
	text string // what is wrong
	said string // what the program wrote, quoted; may be empty
}

func (e *startError) Error() string { return e.text + e.said }

// start starts a process and waits until it passes a health check. When it fails
// nothing is left of it.
func (p *Plugin) start(ctx context.Context) (_ *process, err error) {
	o := &p.options
	sum, err := o.checkFiles()
	if err != nil {
		return nil, err
	}
	r := newRunner(o, p.output)
	proc := &process{runner: r, sum: sum, started: time.Now(), calls: map[*call]struct{}{}}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, errStartTimeout)
	defer cancel()
	unbind := context.AfterFunc(ctx, r.kill)
	defer func() {
		if err == nil && unbind() {
			return
		}
		unbind()
		r.kill()
		proc.release()
		if whole.Err() != nil {
			err = fmt.Errorf("start: %w", context.Cause(whole))
		} else {
			err = r.startError(o.StartTimeout, context.Cause(ctx), err)
		}
	}()
	config := clientConfig(o, r)
	address, err := plugin.NewClient(config).Start()
	if err != nil {
		return nil, err
	}
	asked := requireMutual(config.TLSConfig)
	// go-plugin's own connection has no deadlines, opens streams that are not
	// needed, and leaks when a process dies while it is made.
	proc.conn, err = grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if proc.ready.Load() {
				return nil, errConnectionLost // else whether the process is replaced would depend on who is faster
			}
			return (&net.Dialer{}).DialContext(ctx, address.Network(), address.String())
		}),
		grpc.WithTransportCredentials(credentials.NewTLS(config.TLSConfig)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.MaxMessage), grpc.MaxCallSendMsgSize(o.MaxMessage)),
		grpc.WithInitialWindowSize(windowSize), grpc.WithInitialConnWindowSize(windowSize),
		grpc.WithMaxHeaderListSize(maxMetadata), grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	proc.output.Go(proc.readOutput)
	if err := proc.awaitHealth(ctx); err != nil {
		return nil, fmt.Errorf("did not pass a health check: %w", err)
	}
	if !asked.Load() {
		return nil, errNoMutualTLS
	}
	proc.ready.Store(true)
	p.logger.LogAttrs(ctx, slog.LevelInfo, "plugin process started", slog.Int("pid", r.pid), slog.String("sha256", sum))
	return proc, nil
}

// clientConfig is how go-plugin makes the handshake and the certificates.
func clientConfig(o *Options, r *execRunner) *plugin.ClientConfig {
	versions := map[int]plugin.PluginSet{}
	for _, version := range wire.Versions() {
		versions[version] = plugin.PluginSet{}
	}
	return &plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: versions,
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			r.prepare(spec.Env, socketDir)
			return r, nil
		},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     o.StartTimeout + time.Minute, // the runner is killed before
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: o.SocketDir},
		Logger:           hclog.NewNullLogger(),
	}
}

// awaitHealth asks for the process's health until it is well. It gives up when
// the process or ctx ends, or when there is nobody to ask.
func (proc *process) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-proc.runner.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		err := proc.health(ctx, grpc.WaitForReady(true))
		if !errors.Is(err, errNotServing) {
			return err
		}
		select {
		case <-time.After(healthPause):
		case <-ctx.Done():
			return err
		}
	}
}

var errNotServing = errors.New("it says that it is not serving")

// health returns why the process is not well, or nil.
func (proc *process) health(ctx context.Context, options ...grpc.CallOption) error {
	answer, err := grpc_health_v1.NewHealthClient(proc.conn).
		Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName}, options...)
	if err != nil {
		return errors.New(wire.Line(status.Convert(err).Message()))
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return errNotServing
	}
	return nil
}

// healthy reports whether a running process says within timeout that it is well.
func (proc *process) healthy(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return proc.health(ctx) == nil
}

// stop asks a process to end and kills it when ctx ends, or after 5 s. It returns
// when it has ended.
func (proc *process) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	// The answer may be lost: the plugin closes its connections.
	err := proc.conn.Invoke(ctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) == codes.Unimplemented {
		proc.runner.terminate()
	}
	select {
	case <-proc.runner.exited:
	case <-ctx.Done():
		proc.runner.kill()
		<-proc.runner.exited
	}
}

// release waits for the end of a process that was killed or ended, and lets go of
// what belonged to it.
func (proc *process) release() {
	proc.runner.wait()
	if proc.conn != nil {
		_ = proc.conn.Close()
	}
	proc.output.Wait()
	proc.runner.removeSockets()
}
