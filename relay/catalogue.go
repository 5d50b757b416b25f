package relay

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/lane"
)

// EventType is one entry of the catalogue.
type EventType = admin.EventType

// Catalogue returns the event types of the configuration in its order, with
// their schemas, then those of the relay's own events that it does not name.
// An error names the type whose schema cannot be read.
func Catalogue(cfg *config.Config) ([]EventType, error) {
	schemas := make(map[string]string, len(cfg.Events))
	for i := range cfg.Events {
		text, err := cfg.Events[i].SchemaText()
		if err != nil {
			return nil, fmt.Errorf("event type %s: %w", cfg.Events[i].Type, err)
		}
		schemas[cfg.Events[i].Type] = text
	}
	return catalogueOf(cfg, schemas), nil
}

// catalogueOf is Catalogue with schemas that were read before, by event type.
func catalogueOf(cfg *config.Config, schemas map[string]string) []EventType {
	list := make([]EventType, 0, len(cfg.Events))
	named := make(map[string]bool, len(cfg.Events))
	for i := range cfg.Events {
		e := &cfg.Events[i]
		named[e.Type] = true
		entry := EventType{Type: e.Type, Group: e.Group, Title: e.Title, Example: json.RawMessage(e.Example)}
		if text := schemas[e.Type]; json.Valid([]byte(text)) {
			entry.Schema = json.RawMessage(text)
		}
		list = append(list, entry)
	}
	for _, own := range ownTypes() {
		if !named[own.Type] {
			list = append(list, own)
		}
	}
	return list
}

// ownTypes returns the types of the relay's own events, each with an example.
func ownTypes() []EventType {
	erp := endpointRef{ID: uuid.MustParse("8e3c4a0e-7c51-5d3c-9a56-0a3f5d8f6a11"), Name: "acme-erp", Tenant: "acme"}
	since := time.Date(2026, time.January, 2, 3, 4, 5, 678e6, time.UTC)
	safe := int64(64 << 20)
	var list []EventType
	for _, turn := range []struct {
		turn  lane.Turn
		title string
		about aboutEndpoint
	}{
		{lane.TurnPaused, "Endpoint was paused", aboutEndpoint{Reason: "maintenance until noon"}},
		{lane.TurnResumed, "Endpoint was resumed", aboutEndpoint{}},
		{lane.TurnDisabled, "Endpoint was disabled", aboutEndpoint{Reason: "it answered 410 Gone"}},
		{lane.TurnFailing, "Endpoint is failing", aboutEndpoint{Failures: 5, FailingSince: &since}},
		{lane.TurnRecovered, "Endpoint answers again", aboutEndpoint{}},
	} {
		turn.about.Endpoint = erp
		list = append(list, EventType{Type: typeEndpoint + string(turn.turn), Title: turn.title, Example: example(turn.about)})
	}
	list = append(list, EventType{Type: typeTookOver, Title: "A relay began to deliver", Example: example(aboutRelay{
		Relay: "app-0/7", Version: "1.0.0", Slot: "posthorn", Epoch: 12, Standby: true,
	})}, EventType{Type: typeSlotRisk, Title: "Postgres may remove WAL that the relay needs", Example: example(aboutSlot{
		Slot: "posthorn", WALStatus: "extended", Lag: 1 << 30, Retained: 1 << 30, Safe: &safe,
	})})
	for i := range list {
		list[i].Group = "posthorn"
	}
	return list
}

// example returns a payload's JSON text.
func example(payload any) json.RawMessage {
	text, err := json.Marshal(payload)
	if err != nil {
		panic(err) // it is one of those above
	}
	return text
}
