// Command peer is what stands around the relay in the tests with containers: a
// host application that writes events, and a receiver that writes down what it
// gets.
//
//	peer write                commit RATE events a second until it is stopped
//	peer receive              answer on :9000
//	peer received [ADDRESS]   print what receive wrote down, or what came from ADDRESS
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "write":
		return write(ctx)
	case len(args) == 1 && args[0] == "receive":
		return receive(ctx)
	case len(args) == 1 && args[0] == "received":
		return received(os.Stdout, "")
	case len(args) == 2 && args[0] == "received":
		return received(os.Stdout, args[1])
	default:
		return errors.New("usage: peer write | receive | received [ADDRESS]")
	}
}
