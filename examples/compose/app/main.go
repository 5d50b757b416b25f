// Command app is the example's host application. It keeps purchase requests,
// and writes an event for each into the outbox, in the same transaction. It
// knows nothing of the relay.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

const createTable = `CREATE TABLE IF NOT EXISTS purchase_requests (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount integer NOT NULL)`

// run writes a purchase request a second, until ctx ends.
func run(ctx context.Context) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, createTable); err != nil {
		return fmt.Errorf("create the table: %w", err)
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for n := 1; ; n++ {
		if err := submit(ctx, conn, 100*n, n%4 == 0); err != nil {
			if ctx.Err() != nil {
				return nil // stopped
			}
			return err
		}
		select {
		case <-second.C:
		case <-ctx.Done():
			return nil
		}
	}
}

var errChangedMind = errors.New("the user changed their mind")

// submit keeps a purchase request of amount and tells of it: both, or, when it
// is withdrawn, neither.
func submit(ctx context.Context, conn *pgx.Conn, amount int, withdrawn bool) error {
	var id int64
	var event outbox.Event
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `INSERT INTO purchase_requests (amount) VALUES ($1) RETURNING id`, amount).Scan(&id); err != nil {
			return fmt.Errorf("keep the purchase request: %w", err)
		}
		event = submitted(id, amount, id%buyers)
		if _, err := outbox.Write(ctx, tx, event); err != nil {
			return err
		}
		if withdrawn {
			return errChangedMind // rolls both back
		}
		return nil
	})
	switch {
	case errors.Is(err, errChangedMind):
		fmt.Printf("%s rolled back %s of purchase request %d\n", time.Now().Format(time.TimeOnly), event.Type, id)
		return nil
	case err == nil:
		fmt.Printf("%s committed %s of purchase request %d\n", time.Now().Format(time.TimeOnly), event.Type, id)
	}
	return err
}

// buyers is how many people ask for something. What one of them does arrives in
// the order in which it was done.
const buyers = 3

// submitted returns the event of a purchase request, or the one that the
// environment asks for.
func submitted(id int64, amount int, buyer int64) outbox.Event {
	event := outbox.Event{
		Type:    cmp.Or(os.Getenv("EVENT_TYPE"), "pr.submitted"),
		Tenant:  os.Getenv("EVENT_TENANT"),
		Key:     fmt.Sprintf("buyer-%d", buyer),
		Payload: map[string]any{"prId": id, "amount": amount, "buyer": buyer},
	}
	if payload := os.Getenv("EVENT_PAYLOAD"); payload != "" {
		event.Payload = json.RawMessage(payload)
	}
	return event
}

// connect returns a connection once the database has an outbox, which the relay
// makes here. A database that is made by migrations has it from the start.
func connect(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
		if err == nil {
			var found bool
			err = conn.QueryRow(ctx, `SELECT to_regclass('posthorn.outbox') IS NOT NULL`).Scan(&found)
			if found {
				return conn, nil
			}
			_ = conn.Close(ctx)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}
