// Command peer is what stands around the relay in the tests with containers: a
// host application that writes events, and a receiver that writes down what it
// gets.
//
//	peer write      commit EVENTS events, RATE a second, then end
//	peer receive    answer on :9000
//	peer received   print what receive wrote down
package main

import (
	"context"
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
	if len(args) != 1 {
		return fmt.Errorf("usage: peer write | receive | received")
	}
	switch args[0] {
	case "write":
		return write(ctx)
	case "receive":
		return receive(ctx)
	case "received":
		return received(os.Stdout)
	default:
		return fmt.Errorf("there is no peer %s", args[0])
	}
}
