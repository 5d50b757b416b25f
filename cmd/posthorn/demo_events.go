package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/transforms"
)

// fields is a payload; JSON has its keys sorted.
type fields map[string]any

// makeEvent makes up an event of one of the four products, without an id.
func makeEvent(random *rand.Rand) outbox.Event {
	makers := [...]func(*rand.Rand) outbox.Event{byroEvent, danbyteEvent, bindbeeEvent, offlyEvent}
	return makers[random.IntN(len(makers))](random)
}

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// code returns an id as the products write them, such as clx4821.
func code(random *rand.Rand, prefix string) string {
	return fmt.Sprintf("%s%d", prefix, 1000+random.IntN(9000))
}

func person(random *rand.Rand) string {
	return pick(random, "Ahmed Khan", "Zoë Müller", "María-José Núñez", "Siobhán O’Neill", "田中 花子", "Łukasz Żak", "سارة علي")
}

func email(random *rand.Rand) string {
	return pick(random, "ahmed", "sara", "zoe", "lukasz") + "@acme.com"
}

func byroEvent(random *rand.Rand) outbox.Event {
	eventType := pick(random,
		"pr.submitted", "pr.approved", "pr.rejected", "pr.received", "pr.closed", "pr.cancelled", "po.issued",
		"asset.assigned", "asset.unassigned", "asset.created", "employee.created", "employee.offboarded",
		"inventory.low_stock", "expense.submitted", "expense.approved", "expense.rejected",
		"leave.submitted", "leave.approved", "leave.rejected")
	object, action := transforms.SplitType(eventType)
	var key string
	var payload fields
	switch object {
	case "pr":
		key = code(random, "clx")
		payload = fields{"prId": key, "amount": 100 + random.IntN(9900), "currency": "AED", action + "By": email(random)}
	case "po":
		key = code(random, "clx")
		payload = fields{"poId": code(random, "clx"), "prId": key, "supplier": pick(random, "Apple FZE", "Möbel & Söhne <GmbH>"), "amount": 100 + random.IntN(9900)}
	case "asset":
		key = code(random, "ast")
		payload = fields{"assetId": key, "tag": code(random, "BYR-LAP-"), "category": "Laptop", "employeeId": code(random, "emp")}
	case "employee":
		key = code(random, "emp")
		payload = fields{"employeeId": key, "code": code(random, "ACM-"), "name": person(random), "department": "Engineering"}
	case "inventory":
		key = code(random, "inv")
		payload = fields{"itemId": key, "sku": "USB-C-1M", "qty": random.IntN(10), "minQty": 10}
	case "expense":
		key = code(random, "exp")
		payload = fields{"claimId": key, "amount": float64(random.IntN(50000)) / 100, "currency": "AED", "category": "TRAVEL"}
	default:
		key = code(random, "lvr")
		payload = fields{"requestId": key, "employeeId": code(random, "emp"), "days": 1 + random.IntN(20), "startDate": day(random)}
	}
	return outbox.Event{Type: eventType, Tenant: "acme", Key: key, Payload: payload}
}

func danbyteEvent(random *rand.Rand) outbox.Event {
	object := pick(random, "device", "site", "prefix", "vlan", "ip_address")
	id := 1 + random.IntN(5000)
	return outbox.Event{
		Type: object + "." + pick(random, "create", "update", "delete"), Key: fmt.Sprintf("%s/%d", object, id),
		Payload: fields{"id": id, "name": code(random, object+"-"), "status": pick(random, "planned", "active", "decommissioned"), "tags": []string{"core", "ams1"}},
	}
}

func bindbeeEvent(random *rand.Rand) outbox.Event {
	connector := code(random, "018f99e2-ed3a-7f4c-ae97-83d619bd")
	return outbox.Event{
		Type:   pick(random, "connector.sync_started", "connector.synced", "connector.sync_error", "employee.data_changed", "connector.data_modified"),
		Tenant: "test-org", Key: connector,
		Payload: fields{
			"connector": fields{
				"id": connector, "display_name": "BreatheHR", "categories": []string{"HRIS"}, "org_name": "Test Org",
				"connector_status": "COMPLETE", "end_user_name": person(random), "end_user_email": email(random),
			},
			"data": fields{"integration_name": "breathehr", "initial_sync": random.IntN(2) == 0, "category": "HRIS", "display_status": "Syncing"},
		},
	}
}

func offlyEvent(random *rand.Rand) outbox.Event {
	eventType := pick(random,
		"leave_request.created", "leave_request.approved", "leave_request.declined", "leave_request.cancelled",
		"user.created", "user.updated", "department.created", "public_holiday.created")
	object, action := transforms.SplitType(eventType)
	key := code(random, object+"_")
	payload := fields{"id": key}
	switch object {
	case "leave_request":
		payload["user_id"], payload["leave_type"], payload["status"] = code(random, "usr_"), "annual_leave", action
		payload["start_date"] = day(random)
	case "public_holiday":
		payload["date"] = day(random)
	default:
		payload["name"] = person(random)
	}
	return outbox.Event{Type: eventType, Tenant: "northwind", Key: key, Payload: payload}
}

// day returns a date of the year 2026.
func day(random *rand.Rand) string {
	return time.Date(2026, 1, 1+random.IntN(365), 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}
