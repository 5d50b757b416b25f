package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/posthorn/posthorn/plugins/internal/pluginv1"
	"github.com/posthorn/posthorn/plugins/internal/wire"
)

const (
	workers  = 64      // events of a call that are transformed at once
	maxStack = 3 << 10 // bytes of a stack in the log, of whose records the host keeps 4 KiB
	envelope = 16      // bytes, at most, that a message adds to its only result
)

// unchanged is the result of every event that stays as it was.
var unchanged = &pluginv1.Result{Outcome: &pluginv1.Result_Change{Change: &pluginv1.Change{}}}

// server answers the host's calls by a Transformer.
type server struct {
	pluginv1.UnimplementedTransformerServer
	transformer Transformer
	maxMessage  int // bytes
	seed        maphash.Seed
}

func newServer(t Transformer, maxMessage int) *server {
	return &server{transformer: t, maxMessage: maxMessage, seed: maphash.MakeSeed()}
}

// Transform transforms the events of a call, several at once. What goes wrong
// with an event is its result: there is no error.
func (s *server) Transform(ctx context.Context, request *pluginv1.TransformRequest) (*pluginv1.TransformResponse, error) {
	if deadline, ok := ctx.Deadline(); ok {
		// The rest is for the way back: at the deadline the host kills the process.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)*9/10)
		defer cancel()
	}
	events := request.GetEvents()
	results := make([]*pluginv1.Result, len(events))
	own := make([]Event, len(events)) // at once, for speed
	var taken atomic.Int64
	work := func() {
		for i := taken.Add(1) - 1; i < int64(len(events)); i = taken.Add(1) - 1 {
			results[i] = s.transform(ctx, events[i], &own[i])
		}
	}
	var wg sync.WaitGroup
	for range min(workers, len(events)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return &pluginv1.TransformResponse{Results: results}, nil
}

// transform returns what becomes of one event, which the Transformer sees as e.
func (s *server) transform(ctx context.Context, in *pluginv1.Event, e *Event) (result *pluginv1.Result) {
	if ctx.Err() != nil {
		return failure("the call's time was over before this event's turn", false)
	}
	defer func() {
		if v := recover(); v != nil {
			Logger().Error("transform panicked", "event", in.GetId(), "panic", wire.Line(fmt.Sprint(v)), "stack", panicStack())
			result = failure("panicked", false)
		}
	}()
	*e = Event{
		ID:      in.GetId(),
		Type:    in.GetType(),
		Tenant:  in.GetTenant(),
		Key:     in.GetKey(),
		Headers: in.GetHeaders(),
		Payload: in.GetPayload(),
	}
	if at := in.GetCreatedAt(); at != nil {
		e.CreatedAt = at.AsTime()
	}
	headers := maps.Clone(e.Headers)
	// Payloads are not to be written to. Where one is nevertheless, the change
	// must not be lost: it may be what redacts the payload.
	sum := maphash.Bytes(s.seed, e.Payload)

	if err := s.transformer.Transform(ctx, e); err != nil {
		return failed(err)
	}
	newType := e.Type != in.GetType()
	newPayload := !samePlace(e.Payload, in.GetPayload()) || maphash.Bytes(s.seed, e.Payload) != sum
	newHeaders := !maps.Equal(e.Headers, headers)
	if !newType && !newPayload && !newHeaders {
		return unchanged
	}
	change := &pluginv1.Change{}
	if newType {
		change.Type = &e.Type
	}
	if newPayload {
		change.Payload = e.Payload
		if change.Payload == nil {
			change.Payload = json.RawMessage{} // nil is absent
		}
	}
	if newHeaders {
		change.Headers = &pluginv1.Headers{Values: e.Headers}
	}
	return s.changed(change)
}

// changed returns the result for a change, or why it is none.
func (s *server) changed(change *pluginv1.Change) *pluginv1.Result {
	if change.Type != nil && !utf8.ValidString(*change.Type) {
		return failure("type is not UTF-8", false)
	}
	for name, value := range change.GetHeaders().GetValues() {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return failure("a header is not UTF-8", false)
		}
	}
	if change.Payload != nil && (!utf8.Valid(change.Payload) || !json.Valid(change.Payload)) {
		return failure("payload is not JSON", false)
	}
	result := &pluginv1.Result{Outcome: &pluginv1.Result_Change{Change: change}}
	if size := proto.Size(result) + envelope; size > s.maxMessage {
		return failure(fmt.Sprintf("result of %d bytes is above max_message, which is %d", size, s.maxMessage), false)
	}
	return result
}

// failed returns the result for an error of the Transformer's.
func failed(err error) *pluginv1.Result {
	var skip *SkipError
	if errors.As(err, &skip) {
		return &pluginv1.Result{Outcome: &pluginv1.Result_Skip{Skip: &pluginv1.Skip{Reason: wire.Line(skip.Reason)}}}
	}
	text := wire.Line(err.Error())
	if text == "" {
		text = "failed without saying why"
	}
	return failure(text, IsRejected(err))
}

// panicStack returns how the goroutine came to panic, the last call first. It is
// for the deferred call that recovers.
func panicStack() string {
	stack := debug.Stack()
	if at := bytes.Index(stack, []byte("\npanic(")); at >= 0 { // above it stand debug.Stack and its callers
		stack = stack[at+1:]
	}
	return string(stack[:min(len(stack), maxStack)])
}

// failure returns a result that says why an event could not be transformed.
// With final, trying again makes no sense.
func failure(text string, final bool) *pluginv1.Result {
	return &pluginv1.Result{Outcome: &pluginv1.Result_Failure{Failure: &pluginv1.Failure{Message: text, Final: final}}}
}

// samePlace reports whether a and b are the same bytes of memory.
func samePlace(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
