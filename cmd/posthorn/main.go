// Command posthorn relays the events of a transactional outbox in Postgres to
// webhook endpoints. Its documentation is posthorn --help.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the linker: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	// net/http writes there what receivers send out of turn.
	log.SetOutput(io.Discard)
	// The first signal asks for a graceful stop; after it the default holds
	// again, so that a second one ends the process at once.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore)
	g := &globals{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ()}
	os.Exit(execute(ctx, g, os.Args[1:]))
}
