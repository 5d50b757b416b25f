package host

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// readOutput logs what a process writes to what go-plugin's server puts in the
// place of its stdout and stderr. Unread it would block the process. It ends with
// the connection.
func (proc *process) readOutput() {
	stream, err := proc.conn.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true},
		"/plugin.GRPCStdio/StreamStdio", grpc.ForceCodecV2(rawCodec{}), grpc.WaitForReady(true))
	if err != nil {
		return
	}
	stdout := &lines{out: proc.runner.stdout.out, runner: proc.runner}
	stderr := &lines{out: proc.runner.stderr.out, runner: proc.runner, said: &proc.runner.said}
	defer stdout.end()
	defer stderr.end()
	var empty, chunk []byte
	if stream.SendMsg(&empty) != nil || stream.CloseSend() != nil {
		return
	}
	for stream.RecvMsg(&chunk) == nil {
		switch channel, data := parseChunk(chunk); channel {
		case 1:
			stdout.write(data)
		case 2:
			stderr.write(data)
		}
	}
}

// parseChunk returns the fields of go-plugin's StdioData: 1 is the channel, 2 the
// data. go-plugin keeps the type to itself.
func parseChunk(message []byte) (channel uint64, data []byte) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0, nil
		}
		message = message[n:]
		switch {
		case number == 1 && kind == protowire.VarintType:
			channel, n = protowire.ConsumeVarint(message)
		case number == 2 && kind == protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return 0, nil
		}
		message = message[n:]
	}
	return channel, data
}

// rawCodec leaves messages as they are, as *[]byte.
type rawCodec struct{}

// Name returns what the other side calls it.
func (rawCodec) Name() string { return "proto" }

// Marshal returns the bytes that v points to.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

// Unmarshal stores a copy of data's bytes where v points to.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
