package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// statusEvery is how often a reference tells the server what it read.
const statusEvery = time.Second

// stream yields the events of a slot.
type stream struct {
	conn         *pgconn.PgConn
	read         pglogrepl.LSN
	due          time.Time // of the next status
	key, payload int       // columns
}

// newStream begins to stream from where the slot stands.
func newStream(url, slot string) (*stream, error) {
	ctx := context.Background()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'posthorn'"},
	})
	if err != nil {
		return nil, fmt.Errorf("stream from slot %s: %w", slot, err)
	}
	return &stream{conn: conn}, nil
}

// next returns the next event, valid until the next call; its key is nil where
// it has none.
func (s *stream) next() (key, payload []byte, err error) {
	for {
		if !time.Now().Before(s.due) {
			if err := s.status(); err != nil {
				return nil, nil, err
			}
		}
		message, err := s.conn.ReceiveMessage(context.Background())
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			continue // a status is due
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the stream: %w", err)
		}
		copied, ok := message.(*pgproto3.CopyData)
		if !ok {
			return nil, nil, fmt.Errorf("read the stream: unexpected %T", message)
		}
		switch copied.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			keepalive, err := pglogrepl.ParsePrimaryKeepaliveMessage(copied.Data[1:])
			if err != nil {
				return nil, nil, err
			}
			s.read = max(s.read, keepalive.ServerWALEnd)
			if keepalive.ReplyRequested {
				s.due = time.Time{}
			}
		case pglogrepl.XLogDataByteID:
			data, err := pglogrepl.ParseXLogData(copied.Data[1:])
			if err != nil {
				return nil, nil, err
			}
			s.read = max(s.read, data.WALStart)
			if key, payload, err = s.decode(data.WALData); payload != nil || err != nil {
				return key, payload, err
			}
		}
	}
}

// status tells the server what was read, and has the next read end when the
// next status is due.
func (s *stream) status() error {
	s.due = time.Now().Add(statusEvery)
	if err := s.conn.Conn().SetReadDeadline(s.due); err != nil {
		return err
	}
	return pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: s.read})
}

// decode returns key and payload of an inserted row, and nothing of any other
// message. Rows are decoded here: pglogrepl copies them byte by byte.
func (s *stream) decode(message []byte) (key, payload []byte, err error) {
	switch pglogrepl.MessageType(message[0]) {
	case pglogrepl.MessageTypeRelation:
		parsed, err := pglogrepl.Parse(message)
		if err != nil {
			return nil, nil, err
		}
		for i, column := range parsed.(*pglogrepl.RelationMessage).Columns {
			switch column.Name {
			case "key":
				s.key = i
			case "payload":
				s.payload = i
			}
		}
	case pglogrepl.MessageTypeInsert:
		columns := int(binary.BigEndian.Uint16(message[6:])) // after the table's id and 'N'
		rest := message[8:]
		for i := range columns {
			kind := rest[0]
			rest = rest[1:]
			if kind != pglogrepl.TupleDataTypeText {
				continue // null
			}
			length := binary.BigEndian.Uint32(rest)
			value := rest[4 : 4+length]
			rest = rest[4+length:]
			switch i {
			case s.key:
				key = value
			case s.payload:
				payload = value
			}
		}
	}
	return key, payload, nil
}

// pipeline decodes, signs and posts with net/http, so many requests at a time.
// Events of one key go to one worker, those without a key to all in turn. It
// keeps no ledger.
func (r *reference) pipeline() error {
	s, err := newStream(r.url, r.slot)
	if err != nil {
		return err
	}
	shared := newClient(r.to, r.workers)
	failed := make(chan error, 1)
	workers := make([]chan []byte, r.workers)
	for i := range workers {
		events := make(chan []byte, r.queue)
		workers[i] = events
		go func() { // ends with the process
			client := shared.signed(r.secret)
			for body := range events {
				if err := client.post(body); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
			}
		}()
	}
	r.ready()
	seed, turn := maphash.MakeSeed(), 0
	for {
		key, payload, err := s.next()
		if err != nil {
			return err
		}
		turn++
		worker := turn
		if key != nil {
			worker = int(maphash.Bytes(seed, key) >> 1)
		}
		select {
		case workers[worker%r.workers] <- bytes.Clone(payload):
		case err := <-failed:
			return err
		}
	}
}

// floor posts each event over one connection before it reads the next, and
// does not sign.
func (r *reference) floor() error {
	s, err := newStream(r.url, r.slot)
	if err != nil {
		return err
	}
	var client sender = newClient(r.to, 1)
	if r.bare {
		if client, err = newBareClient(r.to); err != nil {
			return err
		}
	}
	r.ready()
	for {
		_, payload, err := s.next()
		if err != nil {
			return err
		}
		if err := client.post(payload); err != nil {
			return err
		}
	}
}
