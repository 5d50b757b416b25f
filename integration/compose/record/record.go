// Package record is what the peers of the tests with containers tell them.
package record

import "time"

// Card is the number that each event has as the application writes it.
const Card = "4111 1111 1111 1111"

// Event is the payload of each event.
type Event struct {
	Key string `json:"key"`
	Seq int    `json:"seq"` // counts from 1 within the key, in the order of the commits
	// RolledBack marks an event that is rolled back: nobody may get it.
	RolledBack bool `json:"rolledBack,omitempty"`
	// Card is a payment card's number, which the example's plugin masks.
	Card string `json:"card"`
}

// Request is what a receiver writes down of a request.
type Request struct {
	Time     time.Time `json:"time"`
	From     string    `json:"from"` // the relay's address
	Path     string    `json:"path"`
	Delivery string    `json:"delivery"`
	Event    Event     `json:"event"`
	Problem  string    `json:"problem,omitempty"` // why the request is no event: a wrong signature or body
}
