package event

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The ids are stored and compared across releases: these must never change.
func TestIdsAreTheSameForEver(t *testing.T) {
	const given = "01890a5d-ac96-774b-bcce-b302099a8057"
	long := strings.Repeat("invoice-", 20)
	tests := []struct{ name, got, want string }{
		{"a row's uuid is the event's id", IDOf(given).String(), given},
		{"a row's uuid in capitals", IDOf("01890A5D-AC96-774B-BCCE-B302099A8057").String(), given},
		{
			"a delivery is the event's namespace and the endpoint's 36 characters",
			DeliveryID(uuid.MustParse(given), EndpointID("erp")).String(),
			uuid.NewSHA1(uuid.MustParse(given), []byte(EndpointID("erp").String())).String(),
		},
		{"a row's uuid as bytes", IDOf([]byte(given)).String(), given},
		{"a long text is no uuid", IDOf(long).String(), uuid.NewSHA1(rowNamespace, []byte(long)).String()},
		{"36 characters that are no uuid", IDOf(long[:36]).String(), uuid.NewSHA1(rowNamespace, []byte(long[:36])).String()},
		{"a row without an id", IDOf("").String(), uuid.NewSHA1(rowNamespace, nil).String()},
		{"a row whose id is 42", IDOf("42").String(), "020f84d9-8da7-58ca-b048-5b0fa0350e5e"},
		{"an endpoint without an id", EndpointID("erp").String(), "2b596e11-4eab-52c4-a198-cca18d0bba18"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

func TestPositionsSortInCommitOrder(t *testing.T) {
	want := []Position{{1, 0}, {1, 1}, {1, 10}, {2, 0}, {0x1_0000_0000, 5}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Position.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestEventWithoutKeyIsUnordered(t *testing.T) {
	if _, ok := (&Event{}).KeyHash(); ok {
		t.Error("an event without a key has a hash")
	}
	a, _ := (&Event{Key: "a"}).KeyHash()
	b, _ := (&Event{Key: "b"}).KeyHash()
	if a == b || a != -5808556873153909620 { // FNV-1a of "a", as it is stored
		t.Errorf("hashes %d and %d", a, b)
	}
}

func TestHeadersAreAnObjectOfStrings(t *testing.T) {
	for _, bad := range []string{`[]`, `{"a":1}`, `"x"`, `{`} {
		if _, err := (&Event{Headers: []byte(bad)}).HeaderMap(); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	m, err := (&Event{Headers: []byte(`{"a":"b"}`)}).HeaderMap()
	if err != nil || m["a"] != "b" {
		t.Errorf("got %v, %v", m, err)
	}
}
