package event

import (
	"crypto/sha1"

	"github.com/google/uuid"
)

// The namespaces of computed ids. They are part of the public contract: ids
// derived from them are stored, sent to receivers and compared across releases.
var (
	rowNamespace      = uuid.MustParse("6f5f3f0a-5b5e-5d5c-9a55-706f7374686f")
	endpointNamespace = uuid.MustParse("6f5f3f0a-5b5e-5d5c-9a55-706f73746872")
)

// IDOf returns the event id for the text of an outbox row's id: the id itself
// when it is a UUID, else a UUIDv5 of it.
func IDOf[T string | []byte](rowID T) uuid.UUID {
	if len(rowID) == 36 {
		if id, err := uuid.ParseBytes([]byte(rowID)); err == nil {
			return id
		}
	}
	var short [64]byte // spares an allocation
	return version5(append(append(short[:0], rowNamespace[:]...), rowID...))
}

// EndpointID returns the id of an endpoint that the configuration names but
// gives no id.
func EndpointID(name string) uuid.UUID {
	return uuid.NewSHA1(endpointNamespace, []byte(name))
}

// DeliveryID returns the id of the delivery of an event to an endpoint. It is
// computed, so it is the same at every retry, restart and replay.
func DeliveryID(event, endpoint uuid.UUID) uuid.UUID {
	var text [len(event) + 36]byte
	copy(text[:], event[:])
	encodeHex((*[36]byte)(text[len(event):]), endpoint)
	return version5(text[:])
}

// version5 returns the UUIDv5 of a namespace and the name that follows it. It
// is uuid.NewSHA1 without its allocations.
func version5(text []byte) (id uuid.UUID) {
	sum := sha1.Sum(text)
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 5<<4
	id[8] = id[8]&0x3f | 0x80 // the variant of RFC 9562
	return id
}

// encodeHex writes id's 36 characters without allocating a string.
func encodeHex(dst *[36]byte, id uuid.UUID) {
	const digits = "0123456789abcdef"
	at := 0
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst[at] = '-'
			at++
		}
		dst[at], dst[at+1] = digits[b>>4], digits[b&15]
		at += 2
	}
}
