package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/posthorn/posthorn/integration/compose/record"
	"github.com/posthorn/posthorn/relay/signing"
)

// file keeps what was received. It is the container's own, so that it outlives
// a kill.
const file = "/received"

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// receiver answers a request with 200 once it stands in the file.
type receiver struct {
	signer *signing.Signer
	keys   []signing.Key

	mu  sync.Mutex
	out *os.File
}

func receive(ctx context.Context) error {
	signer, err := signing.New(signing.Options{Scheme: "standard-webhooks"})
	if err != nil {
		return err
	}
	key, err := signing.ParseKey("standard-webhooks", os.Getenv("SECRET"))
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              ":9000",
		Handler:           &receiver{signer: signer, keys: []signing.Key{key}, out: out},
		ReadHeaderTimeout: 10 * time.Second,
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return out.Close()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxBody))
	if err != nil {
		return // cut off: the relay cannot have had an answer
	}
	from, _, _ := net.SplitHostPort(q.RemoteAddr)
	line := record.Request{Time: time.Now(), From: from, Path: q.URL.Path, Delivery: q.Header.Get("Webhook-Id")}
	if err := r.signer.Verify(q.Header, body, r.keys, time.Now()); err != nil {
		line.Problem = "verify: " + err.Error()
	} else if err := json.Unmarshal(body, &line.Event); err != nil {
		line.Problem = "read the body: " + err.Error()
	}
	text, err := json.Marshal(line)
	if err == nil {
		r.mu.Lock()
		_, err = r.out.Write(append(text, '\n'))
		r.mu.Unlock()
	}
	if err != nil {
		http.Error(w, fmt.Sprint("write down: ", err), http.StatusInternalServerError)
	}
}

// received prints the lines that are complete, of requests from an address if
// one is given.
func received(w io.Writer, from string) error {
	in, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	lines, out := bufio.NewReader(in), bufio.NewWriter(w)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		if from == "" || bytes.Contains(line, []byte(`"from":"`+from+`"`)) {
			_, _ = out.Write(line) // Flush tells
		}
	}
}
