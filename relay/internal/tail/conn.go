package tail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/posthorn/posthorn/relay/internal/event"
)

// ErrSlotMissing reports that the slot does not exist.
var ErrSlotMissing = errors.New("replication slot does not exist")

// ActiveError reports that another connection holds the slot.
type ActiveError struct {
	Slot string
	Err  error // the server's words, which name the holder's process
}

func (e *ActiveError) Error() string {
	return fmt.Sprintf("slot %s is active elsewhere: %v", e.Slot, e.Err)
}
func (e *ActiveError) Unwrap() error { return e.Err }

// ForeignSlotError reports that the slot of our name is not ours: slot names
// are shared by all databases of a server.
type ForeignSlotError struct {
	Slot     string
	Database string // the other database that it belongs to, "" for none
	Plugin   string // its output plugin, "" for a physical slot
}

func (e *ForeignSlotError) Error() string {
	switch {
	case e.Database != "":
		return fmt.Sprintf("slot %s belongs to database %s (slot names are shared by all databases of a server)", e.Slot, e.Database)
	case e.Plugin == "":
		return fmt.Sprintf("slot %s is a physical slot, not one of pgoutput", e.Slot)
	}
	return fmt.Sprintf("slot %s uses plugin %s, not pgoutput", e.Slot, e.Plugin)
}

// Conn is a replication connection that knows its server and its slot, and
// streams once Start was called. One goroutine owns it.
type Conn struct {
	SystemID  string
	Timeline  int32
	Confirmed event.LSN // the slot's confirmed_flush_lsn when we connected
	Lost      bool      // the server removed WAL that the slot needs (wal_status lost)

	pg       *pgconn.PgConn
	slot     string
	reported time.Time // when the server last heard of us, at the latest
}

// Connect opens a replication connection to url and reads what the server says
// of itself and of the slot. It returns ErrSlotMissing when there is none, and
// a ForeignSlotError when it is not ours.
func Connect(ctx context.Context, url, slot string) (*Conn, error) {
	config, err := replicationConfig(url)
	if err != nil {
		return nil, err
	}
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	c := &Conn{pg: pg, slot: slot}
	if err := c.inspect(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// replicationConfig returns how url is connected to for replication.
func replicationConfig(url string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["wal_sender_timeout"] = fmt.Sprintf("%dms", SenderTimeout.Milliseconds())
	config.RuntimeParams["datestyle"] = "ISO"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["client_encoding"] = "UTF8"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "posthorn"
	}
	config.DialFunc = Dial
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	return config, nil
}

// Dial connects to Postgres so that a peer that is gone without a word is
// noticed within seconds, not with the kernel's patience.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Control: userTimeout, KeepAlive: SenderTimeout / 4}
	return dialer.DialContext(ctx, network, address)
}

// sqlSlot reads a slot, and the name of its database unless it is this one.
const sqlSlot = `SELECT coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(wal_status, ''), coalesce(plugin, ''), coalesce(nullif(database, current_database()), '')
FROM pg_replication_slots WHERE slot_name = '%s'`

func (c *Conn) inspect(ctx context.Context) error {
	system, err := pglogrepl.IdentifySystem(ctx, c.pg)
	if err != nil {
		return fmt.Errorf("identify system: %w", err)
	}
	c.SystemID, c.Timeline = system.SystemID, system.Timeline

	results, err := c.pg.Exec(ctx, fmt.Sprintf(sqlSlot, c.slot)).ReadAll()
	if err != nil {
		return fmt.Errorf("read slot %s: %w", c.slot, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return fmt.Errorf("slot %s: %w", c.slot, ErrSlotMissing)
	}
	row := results[0].Rows[0]
	if plugin, database := string(row[2]), string(row[3]); plugin != "pgoutput" || database != "" {
		return &ForeignSlotError{Slot: c.slot, Database: database, Plugin: plugin}
	}
	c.Lost = string(row[1]) == "lost"
	c.Confirmed, err = pglogrepl.ParseLSN(string(row[0]))
	return err
}

// Start begins to stream after start. It returns an ActiveError when the slot
// is held by another connection.
func (c *Conn) Start(ctx context.Context, start event.LSN, publication string) error {
	c.reported = time.Now()
	err := pglogrepl.StartReplication(ctx, c.pg, c.slot, start, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names '" + publication + "'",
			"messages 'true'",
		},
	})
	if state := sqlState(err); state == "55006" { // object_in_use
		return &ActiveError{Slot: c.slot, Err: err}
	}
	if err != nil {
		return fmt.Errorf("start replication from slot %s: %w", c.slot, err)
	}
	return nil
}

// patience sets until when receive waits. What has arrived by then may still
// be received after it: no more than the connection's buffers hold.
func (c *Conn) patience(deadline time.Time) error { return c.pg.Conn().SetReadDeadline(deadline) }

// receive returns the next replication message, or nil when patience ended
// first. The message's bytes are valid until the next call.
func (c *Conn) receive() ([]byte, error) {
	msg, err := c.pg.ReceiveMessage(context.Background())
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, nil
		}
		return nil, err
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return msg.Data, nil
	case *pgproto3.ErrorResponse:
		return nil, pgconn.ErrorResponseToPgError(msg)
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return nil, errors.New("server ended the stream")
	default: // notices and parameter changes
		return nil, nil
	}
}

// report tells the server that everything before flushed is safe with us.
func (c *Conn) report(flushed event.LSN) error {
	if err := c.pg.Conn().SetWriteDeadline(time.Now().Add(SenderTimeout)); err != nil {
		return err
	}
	now := time.Now()
	if now.Sub(c.reported) > SenderTimeout-margin {
		return errors.New("the server has not heard of us for too long: the slot may be another's")
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), c.pg, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: flushed,
		WALFlushPosition: flushed,
		WALApplyPosition: flushed,
	})
	if err == nil {
		c.reported = now
	}
	return err
}

// KeepAlive reports flushed on time until stop is called, while nothing else
// uses the connection. What goes wrong is seen by whoever uses it next.
func (c *Conn) KeepAlive(flushed event.LSN) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				if c.report(flushed) != nil {
					return
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// Close ends the connection; the slot is free a moment later.
func (c *Conn) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.pg.Close(ctx) // nothing is lost: what matters was reported before
}
