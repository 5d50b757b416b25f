package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const maxQuote = 200 // bytes of what a program wrote, in an error

var (
	errStartTimeout = errors.New("start timeout")
	errNoHandshake  = errors.New("closed its standard output without a handshake: is it a Posthorn plugin?")
	errNoMutualTLS  = errors.New("did not ask for Posthorn's certificate: Posthorn's plugins must use mutual TLS")
	errOtherLine    = errors.New("printed something else where a plugin makes its handshake: is it a Posthorn plugin?")
)

// checkHandshake returns an error unless line is the handshake of a plugin that
// this Posthorn can talk to: go-plugin's version, the protocol's version, network,
// address, "grpc", and a certificate, with bars between.
func checkHandshake(line string) error {
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 4 {
		return errOtherLine
	}
	core, err := strconv.Atoi(parts[0])
	if err != nil {
		return errOtherLine
	}
	version, err := strconv.Atoi(parts[1])
	if err != nil {
		return errOtherLine
	}
	spoken := false
	for _, v := range wire.Versions() {
		spoken = spoken || v == version
	}
	switch {
	case core != plugin.CoreProtocolVersion:
		return fmt.Errorf("speaks version %d of go-plugin's handshake, this Posthorn speaks version %d", core, plugin.CoreProtocolVersion)
	case !spoken:
		return errors.New(wire.Mismatch(version))
	case len(parts) < 5 || parts[4] != string(plugin.ProtocolGRPC):
		return errors.New("offers no gRPC")
	case !reachable(parts[2], parts[3]):
		return errors.New("listens neither on a Unix socket nor on a loopback address")
	case len(parts) < 6 || len(parts[5]) <= 50: // what go-plugin takes for no certificate
		return errors.New("sent no certificate in its handshake: Posthorn's plugins must use mutual TLS")
	}
	return nil
}

// reachable reports whether an address is one on this machine, without a name
// to be looked up.
func reachable(network, address string) bool {
	switch network {
	case "unix":
		return filepath.IsAbs(address)
	case "tcp":
		at, err := netip.ParseAddrPort(address)
		return err == nil && at.Addr().IsLoopback()
	}
	return false
}

// requireMutual returns what becomes true when a server asks for the certificate
// of config, which is a client's. One that does not would answer anybody on this
// machine.
func requireMutual(config *tls.Config) *atomic.Bool {
	asked := &atomic.Bool{}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		return &config.Certificates[0], nil
	}
	return asked
}

// startError returns why the program did not become a plugin's process. It has
// ended. cause is why the start was given up, nil if it was not; err is what
// went wrong then.
func (r *execRunner) startError(timeout time.Duration, cause, err error) error {
	if !r.started {
		return r.execError(err)
	}
	timedOut := errors.Is(cause, errStartTimeout)
	connected := r.line != "" && r.lineErr == nil
	e := &startError{said: quote("stderr", r.said.text(maxQuote))}
	switch {
	case r.lineErr != nil && r.line != "":
		e.text = r.lineErr.Error()
		if errors.Is(r.lineErr, errOtherLine) {
			e.said = quote("stdout", wire.Line(r.line)) + e.said
		}
	case r.endedItself() && connected:
		e.text = r.end() + " before it passed a health check"
	case r.endedItself():
		e.text = r.end() + " before it made a handshake: is it a Posthorn plugin?"
	case timedOut && connected:
		e.text = fmt.Sprintf("did not pass a health check within %s", timeout)
		if err != nil {
			e.text = fmt.Sprintf("%s (%s)", e.text, cut(wire.Line(err.Error()), maxQuote))
		}
	case timedOut:
		e.text = fmt.Sprintf("printed nothing within %s, where a plugin makes its handshake: is it a Posthorn plugin?", timeout)
	case r.lineErr != nil:
		e.text = r.lineErr.Error()
	default:
		e.text = cut(wire.Line(err.Error()), maxQuote)
	}
	return e
}

// execError returns why the process could not be started at all.
func (r *execRunner) execError(err error) error {
	path := r.cmd.Path
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("start timeout was over before the program could be started")
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("file %s is no program for this system: it was built for another one, or is a script without an interpreter in its first line", path)
	case errors.Is(err, syscall.ENOENT):
		// That the file itself exists was checked before.
		return fmt.Errorf("file %s cannot be run: its interpreter or loader does not exist", path)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("file %s may not be run: permission denied by its mode or its mount", path)
	case errors.Is(err, syscall.ETXTBSY):
		return fmt.Errorf("file %s cannot be run while it is being written", path)
	}
	return fmt.Errorf("start %s: %w", path, bare(err))
}

// quote returns what a program wrote as a part of an error, nothing for nothing.
func quote(stream, text string) string {
	if text = cut(text, maxQuote); text == "" {
		return ""
	}
	return fmt.Sprintf("; its %s: %q", stream, text)
}
