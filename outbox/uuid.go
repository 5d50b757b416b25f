package outbox

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// lastStep is the time of the newest id, in steps of 1/4096 ms.
var lastStep atomic.Uint64

// newUUID returns a UUID version 7 of RFC 9562: 48 bits of milliseconds, 12
// bits of the millisecond's fraction, 62 random bits. The ids of one process
// ascend, also within a step of the clock and when the clock is set back.
func newUUID() string {
	now := time.Now()
	micros := now.UnixMicro()
	step := uint64(micros/1000)<<12 | uint64(micros%1000*1000+int64(now.Nanosecond()%1000))*4096/1_000_000
	for {
		last := lastStep.Load()
		step = max(step, last+1)
		if lastStep.CompareAndSwap(last, step) {
			break
		}
	}
	var id [16]byte
	rand.Read(id[8:]) // never fails
	binary.BigEndian.PutUint64(id[:], step>>12<<16|0x7000|step&0xfff)
	id[8] = id[8]&0x3f | 0x80

	text := make([]byte, 36)
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	for _, i := range []int{8, 13, 18, 23} {
		text[i] = '-'
	}
	return string(text)
}
