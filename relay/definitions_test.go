package relay

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// define puts a definition into the ledger as it would stand there.
func (db *database) define(t *testing.T, keys *keyring, revision int, document string) uuid.UUID {
	t.Helper()
	masked, secrets, err := config.SplitEndpoint([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	var sealed []byte
	if secrets != nil {
		if sealed, err = keys.seal(secrets, id[:]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.pool.Exec(t.Context(), `INSERT INTO posthorn.definitions (id, revision, name, tenant, document, sealed, from_lsn, created_by, updated_by)
SELECT $1, $2, d->>'name', d->>'tenant', d, $4, '0/1000', 'test', 'test' FROM (SELECT $3::json AS d) AS d`, id, revision, masked, sealed); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDefinitionsAreLoadedWithTheirSecretsAndByRevision(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "profiles: {slow: {timeout: 1m}}\n")
	keys := keysOf(t, oldKey)
	d, err := openDatabases(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	first := db.define(t, keys, 1, `{"name": "one", "url": "https://u:hunter2@one.example", "events": ["a"], "profile": "slow", "secret": "a secret that is long enough"}`)
	db.define(t, keys, 2, `{"name": "two", "tenant": "t", "url": "https://two.example", "events": ["a"], "profile": "gone", "ordering": "key"}`)
	got, err := d.loadDefined(t.Context(), cfg, keys, 0)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d, %v", len(got), err)
	}
	one, two := got[0], got[1]
	if one.id != first || one.endpoint.ID != first.String() || one.broken != "" || one.deleted || one.revision != 1 || one.from != 0x1000 ||
		one.endpoint.URL.Reveal() != "https://u:hunter2@one.example" || one.endpoint.Secret.Reveal() != "a secret that is long enough" || one.endpoint.Timeout.Minutes() != 1 {
		t.Errorf("the first is %+v", one)
	}
	if two.broken != `profile: no profile of that name: "gone"` || two.endpoint.Name != "two" || two.endpoint.Tenant != "t" || two.endpoint.Ordering != "key" {
		t.Errorf("the second is %+v", two)
	}

	db.script(t, `UPDATE posthorn.definitions SET deleted = true, document = '{}', sealed = NULL, revision = 3 WHERE name = 'one';`)
	if got, err = d.loadDefined(t.Context(), cfg, keys, 2); err != nil || len(got) != 1 || !got[0].deleted || got[0].id != first || got[0].endpoint.Name != "one" || got[0].broken != "" {
		t.Errorf("after revision 2 %+v, %v", got, err)
	}
	if got, err = d.loadDefined(t.Context(), cfg, keys, 0); err != nil || len(got) != 1 || got[0].id == first {
		t.Errorf("from the beginning %+v, %v", got, err)
	}
	third := db.define(t, keys, 4, `{"name": "three", "url": "https://three.example", "events": ["a"], "secret": "hunter2"}`)
	if got, err = d.loadDefined(t.Context(), cfg, keysOf(t, newKey), 3); err != nil || len(got) != 1 || got[0].id != third || got[0].endpoint.Name != "three" ||
		!strings.HasPrefix(got[0].broken, "its secrets cannot be decrypted") {
		t.Errorf("without the key %+v, %v", got, err)
	}
}

func TestStartIsRefusedWithoutTheKeyOfSecrets(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "")
	keys := keysOf(t, oldKey)
	db.define(t, keys, 1, `{"name": "open", "url": "https://one.example", "events": ["a"]}`)
	led := ledger.New(db.pool, db.slot, ledger.BodiesFailed, slog.New(slog.DiscardHandler))
	if err := (&keyring{}).check(t.Context(), led); err != nil {
		t.Errorf("without secrets: %v", err)
	}
	db.define(t, keys, 2, `{"name": "shut", "url": "https://one.example", "events": ["a"], "secret": "hunter2"}`)
	if err := keysOf(t, newKey, oldKey).check(t.Context(), led); err != nil {
		t.Errorf("with both keys: %v", err)
	}
	wants(t, keysOf(t, newKey).check(t.Context(), led), fmt.Sprintf("whose id is %x", keys.keys[0].id))
	r, err := New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, r.Run(t.Context()), "ledger.encryption_keys is not set")
}

func TestTheActiveRelayEncryptsAnewWithTheFirstKey(t *testing.T) {
	db := newDatabase(t)
	db.initialised(t, "")
	id := db.define(t, keysOf(t, oldKey), 1, `{"name": "one", "url": "https://one.example", "events": ["a"], "secret": "hunter2"}`)
	r := start(t, db.config(t, fmt.Sprintf("http: {listen: '127.0.0.1:0'}\nledger: {encryption_keys: ['%s', '%s']}\n", newKey, oldKey)))
	r.log.waitFor(t, "secrets encrypted anew")
	led := ledger.New(db.pool, db.slot, ledger.BodiesFailed, slog.New(slog.DiscardHandler))
	list, err := led.Definitions(t.Context(), 0)
	if err != nil || len(list) != 1 || list[0].Revision != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if got, err := keysOf(t, newKey).open(list[0].Sealed, id[:]); err != nil || string(got) != `{"secret":"hunter2"}` {
		t.Errorf("%s, %v", got, err)
	}
	if n, err := keysOf(t, newKey).reseal(t.Context(), led); n != 0 || err != nil {
		t.Errorf("%d encrypted anew once more, %v", n, err)
	}
}

func TestANewSlotsEventsAreForEveryEndpoint(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "")
	db.define(t, &keyring{}, 1, `{"name": "one", "url": "https://one.example", "events": ["a"]}`)
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := db.text(t, `SELECT from_lsn::text FROM posthorn.definitions`); got != "0/1000" {
		t.Errorf("after another init it gets events from %s", got)
	}
	db.dropSlot(t)
	db.script(t, `DELETE FROM posthorn.relay;`)
	if err := Init(t.Context(), cfg, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := db.text(t, `SELECT from_lsn::text FROM posthorn.definitions`); got != "0/0" {
		t.Errorf("with a new slot it gets events from %s", got)
	}
}

func TestDoctorNamesEndpointsThatCannotBeUsed(t *testing.T) {
	db := newDatabase(t)
	cfg := db.initialised(t, "")
	wantFinding(t, Doctor(t.Context(), cfg), "endpoints of the API", FindingOK, "all 0", "")
	db.define(t, &keyring{}, 1, `{"name": "one", "url": "https://one.example", "events": ["a"], "profile": "gone"}`)
	wantFinding(t, Doctor(t.Context(), cfg), "endpoints of the API", FindingWarn, `one cannot be used with this configuration, its events are parked: profile: no profile of that name: "gone"`, "configuration")
	db.define(t, keysOf(t, oldKey), 2, `{"name": "two", "url": "https://one.example", "events": ["a"], "secret": "hunter2"}`)
	wantFinding(t, Doctor(t.Context(), cfg), "endpoints of the API", FindingFail, "is not set", "ledger.encryption_keys")
}
