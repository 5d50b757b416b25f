package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/posthorn/posthorn/plugins"
)

// enricher adds employees to payloads.
type enricher struct{ directory *directory }

// Transform adds the member "employee" in front of the payload's others, which
// keep their bytes. A payload that has one, or names nobody, stays as it is.
func (t *enricher) Transform(ctx context.Context, e *plugins.Event) error {
	var payload struct {
		EmployeeID string          `json:"employeeId"`
		Employee   json.RawMessage `json:"employee"`
	}
	object := bytes.TrimLeft(e.Payload, " \t\r\n")
	if err := json.Unmarshal(object, &payload); err != nil || object[0] != '{' {
		return plugins.Reject(errors.New("payload is no object whose employeeId is a text"))
	}
	if payload.EmployeeID == "" || payload.Employee != nil {
		return nil
	}
	employee, err := t.directory.employee(ctx, payload.EmployeeID)
	switch {
	case errors.Is(err, errNotFound): // tomorrow's answer is the same
		return plugins.Reject(err)
	case err != nil:
		return fmt.Errorf("look up the employee: %w", err)
	}
	e.Payload = slices.Concat([]byte(`{"employee":`), employee, []byte(`,`), object[1:])
	return nil
}
