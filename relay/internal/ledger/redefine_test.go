package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// redefine changes a definition to one of a name and tenant.
func (l *Ledger) redefine(ctx context.Context, id uuid.UUID, isNew bool, next Redefined) (*Definition, error) {
	next.URL, next.Document = "https://a.example", []byte(`{"a": 1}`)
	return l.Redefine(ctx, Redefinition{
		ID: id, New: isNew, Actor: Actor{Name: "test"}, Action: "endpoint.test", InStream: true, Message: "posthorn.endpoints",
		Decide: func(context.Context, *Definition) (*Redefined, error) { return &next, nil },
	})
}

func TestRevisionsAppearInTheirOrder(t *testing.T) {
	l := acquire(t, open(t))
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := l.redefine(t.Context(), uuid.New(), true, Redefined{Name: fmt.Sprint(w, " ", i), Enabled: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen, last := 0, int64(0)
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		list, err := l.Definitions(t.Context(), last)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list { // one that appears later than a higher one is never seen
			if d.Revision != last+1 {
				t.Fatalf("revision %d follows %d", d.Revision, last)
			}
			last = d.Revision
			seen++
		}
	}
	if seen != writers*each {
		t.Errorf("%d definitions", seen)
	}
}

func TestDefinitionsHaveNamesOfTheirOwnInATenant(t *testing.T) {
	l := acquire(t, open(t))
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	for i, tt := range []struct {
		id    int
		isNew bool
		next  Redefined
		want  error
	}{
		{0, true, Redefined{Name: "a"}, nil},
		{1, true, Redefined{Name: "a"}, ErrNameTaken},
		{1, true, Redefined{Name: "a", Tenant: "t"}, nil},
		{2, true, Redefined{Name: "b", Tenant: "t"}, nil},
		{2, false, Redefined{Name: "a", Tenant: "t"}, ErrNameTaken},
		{2, false, Redefined{Name: "c", Tenant: "t"}, nil},
		{3, false, Redefined{Name: "d"}, ErrUnknownEndpoint},
		{1, false, Redefined{Name: "a", Tenant: "t", Deleted: true}, nil},
		{1, false, Redefined{Name: "a", Tenant: "t"}, ErrUnknownEndpoint},
		{2, false, Redefined{Name: "a", Tenant: "t"}, nil},
	} {
		if _, err := l.redefine(t.Context(), ids[tt.id], tt.isNew, tt.next); !errors.Is(err, tt.want) {
			t.Errorf("step %d: %v, want %v", i, err, tt.want)
		}
	}
	var refused *RefusedError
	if _, err := l.redefine(t.Context(), uuid.New(), true, Redefined{Name: "e", Tenant: "t", MaxOfTenant: 1}); !errors.As(err, &refused) {
		t.Errorf("one too many of a tenant: %v", err)
	}
	failed := errors.New("no")
	_, err := l.Redefine(t.Context(), Redefinition{ID: ids[0], Decide: func(_ context.Context, was *Definition) (*Redefined, error) {
		if was.Name != "a" || was.CreatedBy != "test" {
			t.Errorf("it was %+v", was)
		}
		return nil, failed
	}})
	if !errors.Is(err, failed) {
		t.Errorf("a decision that fails: %v", err)
	}
}

// TestDefinitionsGiveEndpointsTheirState tells what becomes of the endpoint when
// its definition changes.
func TestDefinitionsGiveEndpointsTheirState(t *testing.T) {
	l := acquire(t, open(t))
	on, off, gone := Redefined{Name: "erp", Tenant: "t1", Enabled: true}, Redefined{Name: "erp", Tenant: "t1"}, Redefined{Name: "erp", Tenant: "t1", Deleted: true}
	set := func(next Redefined) func() error {
		return func() error {
			_, err := l.redefine(t.Context(), endpointID, false, next)
			return err
		}
	}
	if _, err := l.redefine(t.Context(), endpointID, true, on); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"off", set(off), "disabled configuration enabled is false"},
		{"off again", set(off), "disabled configuration enabled is false"},
		{"on", set(on), "enabled configuration"},
		{"paused", func() error { l.pause(t, "why"); return nil }, "paused operator why"},
		{"on while paused", set(on), "paused operator why"},
		{"410", func() error { l.hold(t, Disabled, "410"); return nil }, "disabled relay 410"},
		{"on after 410", set(on), "disabled relay 410"},
		{"off after 410", set(off), "disabled configuration enabled is false"},
		{"on once more", set(on), "enabled configuration"},
		{"a relay that starts", func() error { l.sync(t); return nil }, "enabled configuration"},
		{"deleted", set(gone), "removed configuration deleted"},
		{"another relay that starts", func() error { l.sync(t); return nil }, "removed configuration deleted"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := l.row(t); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}

func TestOperatorsAreToldWhereADisabledEndpointIsEnabled(t *testing.T) {
	l := acquire(t, open(t))
	if _, err := l.redefine(t.Context(), endpointID, true, Redefined{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resume(t.Context(), "erp", "", Actor{}); !errors.Is(err, ErrDisabled) {
		t.Errorf("resumed: %v", err)
	}
	if s, err := l.EndpointStatus(t.Context(), endpointID); err != nil || s.Origin != OfAPI || s.State != Disabled {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := l.EndpointStatus(t.Context(), uuid.New()); !errors.Is(err, ErrUnknownEndpoint) {
		t.Errorf("one that is not there: %v", err)
	}
}
