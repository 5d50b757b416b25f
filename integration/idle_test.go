package integration

import (
	"fmt"
	"testing"
	"time"
)

func TestIdleOutboxPinsNoWAL(t *testing.T) {
	const limit = 16 << 20
	db, rcv := newDatabase(t), newReceiver(t, "/a")
	r := startRelay(t, db, rcv, `
endpoints:
  - {name: a, url: "${RECEIVER}/a", events: ["*"]}
`)
	r.waitReady()
	db.exec(t, `CREATE TABLE filler (data text)`)
	db.exec(t, `ALTER TABLE filler ALTER data SET STORAGE EXTERNAL`) // not compressed
	volume := scaled(1 << 30)
	begin := db.written(t)
	for db.written(t)-begin < volume {
		db.exec(t, `INSERT INTO filler SELECT repeat('x', 1000000) FROM generate_series(1, 10)`)
		db.exec(t, `TRUNCATE filler`)
	}
	wrote, done := db.written(t)-begin, time.Now()
	lag := 0
	eventually(t, time.Minute, func() error {
		if lag = db.written(t) - db.confirmed(t); lag >= limit {
			return fmt.Errorf("the slot lags by %d bytes", lag)
		}
		return nil
	})
	t.Logf("FIGURE idle outbox: other tables wrote %d MB of WAL, the slot's lag was %d KB %.1fs later", wrote/1e6, lag/1000, time.Since(done).Seconds())
	if got := rcv.endpoints["/a"].counts().Requests; got != 0 {
		t.Errorf("%d requests without an event", got)
	}
}
