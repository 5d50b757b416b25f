package event

import "testing"

func BenchmarkDeliveryID(b *testing.B) {
	e, endpoint := IDOf("1"), EndpointID("e")
	b.ReportAllocs()
	for b.Loop() {
		DeliveryID(e, endpoint)
	}
}

func BenchmarkKeyHash(b *testing.B) {
	e := &Event{Key: "a-key-that-is-longer-than-32-bytes-is"}
	b.ReportAllocs()
	for b.Loop() {
		e.KeyHash()
	}
}
