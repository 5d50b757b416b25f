package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"os"
)

// referenceCommand is the first argument of a process that is a reference: the
// program starts itself as such, so that its CPU can be measured.
const referenceCommand = "reference"

// reference is what a reference is told: where events come from and go to. Its
// database's URL and its secret come from the environment.
type reference struct {
	url, secret string
	slot        string
	to          string
	workers     int
	queue       int // events that wait for each worker
	bare        bool
}

// references are programs as small as an engineer would write them who wants
// to know what the machine can do. They promise nothing of what the relay
// promises: an event that is under way when they end is lost or sent twice.
var references = map[string]func(*reference) error{
	"pipeline": (*reference).pipeline,
	"floor":    (*reference).floor,
	"poll":     (*reference).poll,
}

// runReference runs a reference until ctx is done or it fails.
func runReference(ctx context.Context, args []string) error {
	if len(args) == 0 || references[args[0]] == nil {
		return errors.New("run a reference: name one of pipeline, floor, poll")
	}
	name := args[0]
	r := reference{url: os.Getenv("DATABASE_URL"), secret: os.Getenv("SECRET")}
	var client string
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&r.slot, "slot", "", "the replication slot's `name`")
	flags.StringVar(&r.to, "to", "", "the receiver's `URL`")
	flags.IntVar(&r.workers, "workers", 64, "`number` of concurrent requests")
	flags.IntVar(&r.queue, "queue", 64, "`number` of events that wait for each worker")
	flags.StringVar(&client, "client", "bare", "floor's HTTP client: bare or net/http")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if client != "bare" && client != "net/http" {
		return fmt.Errorf("run %s: -client must be bare or net/http, got %q", name, client)
	}
	r.bare = client == "bare"
	failed := make(chan error, 1)
	go func() { failed <- references[name](&r) }() // ends with the process
	select {
	case err := <-failed:
		return fmt.Errorf("run %s: %w", name, err)
	case <-ctx.Done():
		return nil
	}
}

// ready tells who started the reference that it delivers.
func (*reference) ready() { fmt.Println(referenceReady) }

// signer signs bodies, one after the other.
type signer struct {
	mac  hash.Hash
	sum  []byte
	text []byte
}

func newSigner(secret string) *signer {
	return &signer{mac: hmac.New(sha256.New, []byte(secret))}
}

// sign returns the value of the header, which holds HMAC-SHA256 in hex.
func (s *signer) sign(body []byte) string {
	s.mac.Reset()
	_, _ = s.mac.Write(body) // a hash does not fail
	s.sum = s.mac.Sum(s.sum[:0])
	s.text = hex.AppendEncode(append(s.text[:0], "sha256="...), s.sum)
	return string(s.text)
}
