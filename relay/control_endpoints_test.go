package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/config"
	"github.com/posthorn/posthorn/relay/httpsig"
	"github.com/posthorn/posthorn/relay/internal/admin"
	"github.com/posthorn/posthorn/relay/internal/ledger"
)

// Callers of the control. The last one is of the tenant t1.
var (
	adminCaller    = &admin.Caller{Name: "root", Role: admin.Admin, Via: "api"}
	operatorCaller = &admin.Caller{Name: "ops", Role: admin.Operator, Via: "api"}
	tenantCaller   = &admin.Caller{Name: "customer", Role: admin.Operator, Tenant: "t1", Profile: "portal", Via: "portal"}
)

const forControl = `
ledger: {encryption_keys: [` + "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f" + `]}
profiles:
  portal: {timeout: 3s, signatures: [{scheme: hmac, header: X-Signature}], headers: {X-Inside: secret words}}
  keyed: {signatures: [{scheme: http-message, algorithm: ed25519}]}
  bearer: {auth: {bearer: {token: hunter2}}}
tenants: {rich: {secret: a secret of the tenant}}
endpoints: [{name: fixed, url: "https://fixed.example", events: ["*"]}, {name: mine, tenant: t1, url: "https://mine.example", events: ["*"]}]
`

// control returns the control of a database, and its operator.
func (db *database) control(t *testing.T, extra string) (*control, *Operator) {
	t.Helper()
	return controlOf(t, db.initialised(t, extra))
}

func controlOf(t *testing.T, cfg *config.Config) (*control, *Operator) {
	t.Helper()
	c, err := newControl(cfg, "test", func() admin.Snapshot { return admin.Snapshot{} }, func() (*config.Config, map[string]string) { return cfg, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.databases.close)
	o, _, err := c.operator()
	if err != nil {
		t.Fatal(err)
	}
	return c, o
}

// create creates an endpoint that must be right.
func (c *control) create(t *testing.T, who *admin.Caller, document string) *admin.NewSecret {
	t.Helper()
	made, err := c.CreateEndpoint(t.Context(), who, []byte(document))
	if err != nil {
		t.Fatalf("create %s: %v", document, err)
	}
	return made
}

// fieldsOf returns the fields that an *admin.InvalidError names, or the error.
func fieldsOf(err error) string {
	var invalid *admin.InvalidError
	if !errors.As(err, &invalid) {
		return fmt.Sprint(err)
	}
	var fields []string
	for _, f := range invalid.Fields {
		fields = append(fields, f.Field)
	}
	return strings.Join(fields, ", ")
}

func TestEndpointsAreCreatedWithTheSecretThatTheyNeed(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	for _, tt := range []struct{ name, keys, prefix, sealed string }{
		{"by default", ``, "whsec_", "secret"},
		{"of hmac", `, "profile": "portal"`, "", "secret"},
		{"of ed25519", `, "profile": "keyed"`, "whsk_", "secret"},
		{"of both", `, "signatures": [{"scheme": "hmac", "header": "X-A"}, {"scheme": "standard-webhooks"}]`, "whsec_", "secret"},
		{"its own", `, "secret": "a secret of its own"`, "-", "secret"},
		{"its tenant's", `, "tenant": "rich"`, "-", ""},
		{"none", `, "secret": ""`, "-", ""},
		{"unsigned", `, "signatures": []`, "-", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made := c.create(t, operatorCaller, `{"name": "`+tt.name+`", "url": "https://a.example/x", "events": ["a.*"]`+tt.keys+`}`)
			if tt.prefix == "-" {
				if made.Secret != "" {
					t.Errorf("a secret is made")
				}
			} else if !strings.HasPrefix(made.Secret, tt.prefix) || len(made.Secret) < 40 || strings.Contains(string(made.Document)+string(made.Effective), made.Secret) {
				t.Errorf("the secret %q is made, and shown is %s", made.Secret, made.Document)
			}
			if made.State != ledger.Enabled || made.Origin != ledger.OfAPI || made.CreatedBy != "api:ops" || made.ID.Version() != 7 || !slices.Equal(made.Patterns, []string{"a.*"}) {
				t.Errorf("it is %+v", made.EndpointDetail)
			}
			if made.HasSecret != (tt.sealed != "" || tt.name == "its tenant's") {
				t.Errorf("it has a secret: %v", made.HasSecret)
			}
			e, err := o.directory.find(tt.name, "")
			if err != nil || e.defined.broken != "" || made.Secret != "" && e.config.Secret.Reveal() != made.Secret {
				t.Fatalf("%+v, %v", e, err)
			}
			if key, err := httpsig.ParseKey("ed25519", made.PublicKey); (err == nil) != (tt.prefix == "whsk_") {
				t.Errorf("its public key is %s, %v, %v", made.PublicKey, key, err)
			}
			if sealed := e.defined.record.Sealed != nil; sealed != (tt.sealed != "") {
				t.Errorf("something is sealed: %v", sealed)
			}
		})
	}
	if got := db.text(t, `SELECT string_agg(DISTINCT action || ' ' || actor, ', ') FROM posthorn.audit WHERE detail::text NOT LIKE '%whs%'`); got != "endpoint.create api:ops" {
		t.Errorf("the audit has %s", got)
	}
}

func TestWhatIsWrongWithADocumentNamesItsFields(t *testing.T) {
	db := newDatabase(t)
	c, _ := db.control(t, forControl)
	mine := c.create(t, adminCaller, `{"name": "mine too", "tenant": "t1", "url": "https://a.example", "events": ["a"], "auth": {"bearer": {"token": "hunter2"}}, "tls": {"ca_file": "/ca.pem", "verify": true}, "headers": {"X-Token": "hunter2", "X-B": "b"}}`)
	simple := c.create(t, operatorCaller, `{"name": "simple", "url": "https://a.example", "events": ["a"], "tls": {"verify": false}}`)
	const good = `"url": "https://a.example", "events": ["a"]`
	for _, tt := range []struct {
		name, document string
		who            *admin.Caller
		want           string
	}{
		{"nothing", `{}`, adminCaller, "name, url, events"},
		{"no object", `[1]`, adminCaller, ""},
		{"nothing at all", `null`, adminCaller, ""},
		{"a list of problems", `{"name": "a", "url": "ftp://a", "events": ["*"], "timeout": "1y", "retry": {"schedule": ["x"]}}`, adminCaller, "timeout, retry.schedule[0], url"},
		{"a name of the configuration", `{"name": "fixed", ` + good + `}`, operatorCaller, "name"},
		{"a name of another", `{"name": "mine too", "tenant": "t1", ` + good + `}`, operatorCaller, "name"},
		{"a UUID for a name", `{"name": "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e", ` + good + `}`, operatorCaller, "name"},
		{"the mask of a secret", `{"name": "a", "secret": "***", ` + good + `}`, operatorCaller, "secret"},
		{"an id", `{"name": "a", "id": "01907f3e-5b1c-7a2d-9c4e-3f5a6b7c8d9e", ` + good + `}`, operatorCaller, "id"},
		{"credentials by an operator", `{"name": "a", "auth": {"bearer": {"token": "x"}}, "tls": {"ca_file": "/etc/passwd"}, ` + good + `}`, operatorCaller, "auth, tls"},
		{"credentials of a profile", `{"name": "a", "profile": "bearer", ` + good + `}`, operatorCaller, "profile"},
		{"keys that are no tenant's", `{"name": "a", "filter": "true", "tenant": "t2", "profile": "bearer", "body": "x", ` + good + `}`, tenantCaller, "body, filter, profile, tenant"},
		{"a tenant's name", `{"name": "mine", ` + good + `}`, tenantCaller, "name"},
		{"too much", `{"name": "` + strings.Repeat("x", maxDocument) + `"}`, adminCaller, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.CreateEndpoint(t.Context(), tt.who, []byte(tt.document))
			if got := fieldsOf(err); got != tt.want || strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("creating says %q: %v", got, err)
			}
			if got := fieldsOf(c.CheckEndpoint(t.Context(), tt.who, "", []byte(tt.document))); got != tt.want {
				t.Errorf("checking says %q", got)
			}
		})
	}
	for _, tt := range []struct {
		name, patch string
		who         *admin.Caller
		want        string
	}{
		{"a wrong value", `{"timeout": "1ms", "secret": null}`, adminCaller, "timeout"},
		{"another tenant", `{"tenant": "t2"}`, adminCaller, "tenant"},
		{"another server", `{"url": "https://b.example"}`, operatorCaller, "auth, headers.X-Token"},
		{"another server, by the tenant", `{"url": "https://b.example", "headers": {"X-Token": "mine"}}`, tenantCaller, "auth"},
		{"another profile", `{"profile": "bearer"}`, operatorCaller, "profile"},
		{"auth taken away", `{"auth": null}`, operatorCaller, "auth"},
		{"tls taken away", `{"tls": null}`, operatorCaller, "tls"},
		{"tls taken away by the tenant", `{"tls": null}`, tenantCaller, "tls"},
		{"a file of tls taken away", `{"tls": {"ca_file": null}}`, operatorCaller, "tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := fieldsOf(c.CheckEndpoint(t.Context(), tt.who, mine.ID.String(), []byte(tt.patch))); got != tt.want {
				t.Errorf("checking says %q", got)
			}
			if _, err := c.EditEndpoint(t.Context(), tt.who, "mine too", []byte(tt.patch), 0); fieldsOf(err) != tt.want {
				t.Errorf("editing says %q", fieldsOf(err))
			}
		})
	}
	for _, err := range []error{
		c.CheckEndpoint(t.Context(), operatorCaller, "mine too", []byte(`{"url": "https://a.example/other", "headers": {"X-B": "c"}}`)),
		c.CheckEndpoint(t.Context(), adminCaller, "mine too", []byte(`{"url": "https://b.example"}`)),
		c.CheckEndpoint(t.Context(), tenantCaller, "mine too", []byte(`{"tls": {"verify": null}}`)),
		c.CheckEndpoint(t.Context(), adminCaller, "mine too", []byte(`{"tls": null}`)),
		c.CheckEndpoint(t.Context(), operatorCaller, simple.ID.String(), []byte(`{"tls": null}`)),
		c.CheckEndpoint(t.Context(), operatorCaller, "", []byte(`{"name": "a", "tls": {"verify": false}, `+good+`}`)),
		c.CheckEndpoint(t.Context(), adminCaller, "", []byte(`{"name": "a", "profile": "bearer", `+good+`}`)),
	} {
		if err != nil {
			t.Errorf("what is right is wrong: %v", err)
		}
	}
}

func TestEditsKeepWhatTheyDoNotGiveAndGoByRevision(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	made := c.create(t, operatorCaller, `{"name": "a", "url": "https://u:hunter2@a.example", "events": ["a"], "headers": {"X-A": "1"}}`)
	d, err := c.EditEndpoint(t.Context(), operatorCaller, "a", []byte(`{"name": "b", "url": "https://***@a.example", "secret": "***", "headers": {"X-B": "2"}, "timeout": "5s", "enabled": false}`), made.Revision)
	if err != nil {
		t.Fatal(err)
	}
	e, err := o.directory.find("b", "")
	if err != nil || e.config.URL.Reveal() != "https://u:hunter2@a.example" || e.config.Secret.Reveal() != made.Secret || len(e.config.Headers) != 2 || e.config.Timeout != 5*time.Second {
		t.Fatalf("%+v, %v", e, err)
	}
	if d.Revision <= made.Revision || d.Name != "b" || d.State != ledger.Disabled || d.Reason != "enabled is false" || d.ID != made.ID || strings.Contains(string(d.Document)+string(d.Effective), "hunter2") {
		t.Errorf("it is %+v, %s", d, d.Effective)
	}
	if _, err := c.EditEndpoint(t.Context(), operatorCaller, "b", []byte(`{"timeout": "6s"}`), made.Revision); !errors.Is(err, ledger.ErrChanged) {
		t.Errorf("an old revision: %v", err)
	}
	if again, err := c.EditEndpoint(t.Context(), operatorCaller, "b", []byte(`{"timeout": "5s"}`), 0); err != nil || again.Revision != d.Revision {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	_, err = o.Pause(t.Context(), "b", "", testActor)
	wants(t, err, "it is disabled: enable it")
	wants(t, second(o.takesRetry(made.ID)), "is disabled: enable it first")

	was := db.text(t, `SELECT from_lsn::text FROM posthorn.definitions`)
	if d, err = c.EditEndpoint(t.Context(), operatorCaller, "b", []byte(`{"enabled": null}`), d.Revision); err != nil || d.State != ledger.Enabled || d.Reason != "" {
		t.Fatalf("enabled: %+v, %v", d, err)
	}
	if got := db.text(t, `SELECT CASE WHEN from_lsn > $1::text::pg_lsn THEN 'later' ELSE 'as before' END FROM posthorn.definitions`, was); got != "later" {
		t.Errorf("enabled again it gets events from a position that is %s", got)
	}
	was = db.text(t, `SELECT from_lsn::text FROM posthorn.definitions`)
	if _, err := o.Pause(t.Context(), "b", "by hand", testActor); err != nil {
		t.Fatal(err)
	}
	if d, err = c.EditEndpoint(t.Context(), operatorCaller, "b", []byte(`{"url": "https://c.example"}`), 0); err != nil || d.State != ledger.Paused || d.Reason != "by hand" || d.URL != "https://c.example" {
		t.Errorf("an edit of a paused one: %+v, %v", d, err)
	}
	if got := db.text(t, `SELECT from_lsn::text FROM posthorn.definitions`); got != was {
		t.Errorf("edited, it gets events from %s, not %s", got, was)
	}
	if got := db.text(t, `SELECT before->>'timeout' || ' ' || (after->>'url') FROM posthorn.audit WHERE action = 'endpoint.edit' ORDER BY id DESC LIMIT 1`); got != "5s https://c.example" {
		t.Errorf("the audit has %s", got)
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestDeletedEndpointsAreGoneAndConfiguredOnesStay(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	made := c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`)
	if err := c.DeleteEndpoint(t.Context(), operatorCaller, made.ID.String()); err != nil {
		t.Fatal(err)
	}
	if got := db.text(t, `SELECT concat_ws(' ', state, reason, deleted, document, sealed IS NULL) FROM posthorn.endpoints JOIN posthorn.definitions USING (id)`); got != "removed deleted t {} t" {
		t.Errorf("the ledger has %s", got)
	}
	for name, err := range map[string]error{
		"delete": c.DeleteEndpoint(t.Context(), operatorCaller, "a"),
		"show":   second(c.Endpoint(t.Context(), operatorCaller, "a")),
		"pause":  second(o.Pause(t.Context(), made.ID.String(), "", testActor)),
	} {
		if !errors.Is(err, ErrUnknownEndpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again := c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`); again.ID == made.ID || again.Revision != 3 {
		t.Errorf("made again it is %+v", again)
	}
	for _, err := range []error{
		c.DeleteEndpoint(t.Context(), adminCaller, "fixed"),
		second(c.EditEndpoint(t.Context(), adminCaller, "fixed", []byte(`{}`), 0)),
		second(c.RotateSecret(t.Context(), adminCaller, "fixed", admin.Rotation{})),
		c.CheckEndpoint(t.Context(), adminCaller, "fixed", []byte(`{}`)),
	} {
		wants(t, err, "stands in the configuration: change it there")
	}
	fixed, err := c.Endpoint(t.Context(), adminCaller, "fixed")
	if err != nil || fixed.Origin != ledger.OfConfiguration || fixed.Revision != 0 || !strings.Contains(string(fixed.Document), "fixed.example") {
		t.Errorf("%+v, %v", fixed, err)
	}
}

func TestASecretThatIsRotatedSignsUntilItsGraceIsOver(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	made := c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`)
	rotated, err := c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Grace: time.Hour})
	if err != nil || !strings.HasPrefix(rotated.Secret, "whsec_") || rotated.Secret == made.Secret || len(rotated.PreviousSecrets) != 1 {
		t.Fatalf("%+v, %v", rotated, err)
	}
	if left := time.Until(rotated.PreviousSecrets[0]); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the old one signs for %s", left)
	}
	given, err := c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Secret: "a secret that somebody gives"})
	if err != nil || given.Secret != "" || len(given.PreviousSecrets) != 1 {
		t.Fatalf("%+v, %v", given, err)
	}
	e, err := o.directory.find("a", "")
	if err != nil || e.config.Secret.Reveal() != "a secret that somebody gives" || len(e.config.PreviousSecrets) != 1 || e.config.PreviousSecrets[0].Secret.Reveal() != made.Secret {
		t.Errorf("it signs with %v and %+v, %v", e.config.Secret.Reveal(), e.config.PreviousSecrets, err)
	}
	if got := fieldsOf(second(c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Secret: "whsec_short"}))); got != "secret" {
		t.Errorf("a wrong one: %s", got)
	}
	for range maxPrevious - 1 {
		if _, err := c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, second(c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Grace: time.Hour})), "8 secrets sign still")

	c.create(t, operatorCaller, `{"name": "rich", "tenant": "rich", "url": "https://a.example", "events": ["a"]}`)
	if rotated, err = c.RotateSecret(t.Context(), operatorCaller, "rich", admin.Rotation{Grace: time.Hour}); err != nil || rotated.Secret == "" {
		t.Fatal(err)
	}
	if e, err = o.directory.find("rich", ""); err != nil || e.config.PreviousSecrets[0].Secret.Reveal() != "a secret of the tenant" {
		t.Errorf("the tenant's does not sign any more: %+v, %v", e, err)
	}
	c.create(t, operatorCaller, `{"name": "unsigned", "signatures": [], "url": "https://a.example", "events": ["a"]}`)
	wants(t, second(c.RotateSecret(t.Context(), operatorCaller, "unsigned", admin.Rotation{})), "none of the endpoint's signatures uses its secret")
}

func TestATenantsCallerHasItsOwnEndpointsOnly(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	others := c.create(t, adminCaller, `{"name": "a", "tenant": "t2", "url": "https://a.example", "events": ["a"]}`)
	own := c.create(t, tenantCaller, `{"name": "a", "url": "https://a.example", "events": ["a"], "tls": {"verify": false}}`)
	c.create(t, tenantCaller, `{"name": "b", "tenant": "t1", "profile": "portal", "url": "https://a.example", "events": ["a"]}`)
	if own.Tenant != "t1" || own.Secret == "" || strings.Contains(string(own.Effective), "profile") || !strings.Contains(string(own.Effective), `"timeout":"3s"`) || !strings.Contains(string(own.Document), `"tls":{"verify":false}`) {
		t.Errorf("it is %+v, %s", own, own.Effective)
	}
	e, err := o.directory.find("a", "t1")
	if err != nil || e.config.ProfileName != "portal" || e.ID != own.ID {
		t.Errorf("%+v, %v", e, err)
	}
	list, err := c.Endpoints(t.Context(), tenantCaller, true)
	if err != nil || len(list) != 3 || list[0].ID != own.ID || list[1].Name != "b" || list[2].Name != "mine" {
		t.Errorf("the list is %+v, %v", list, err)
	}
	names, err := c.EndpointNames(t.Context(), tenantCaller)
	if err != nil || len(names) != 3 || names[0].ID != own.ID || names[1].Name != "b" || names[2].Name != "mine" {
		t.Errorf("the names are %+v, %v", names, err)
	}
	for _, name := range []string{others.ID.String(), "fixed", uuid.NewString()} {
		for what, err := range map[string]error{
			"show":   second(c.Endpoint(t.Context(), tenantCaller, name)),
			"edit":   second(c.EditEndpoint(t.Context(), tenantCaller, name, []byte(`{"enabled": false}`), 0)),
			"delete": c.DeleteEndpoint(t.Context(), tenantCaller, name),
			"rotate": second(c.RotateSecret(t.Context(), tenantCaller, name, admin.Rotation{})),
			"check":  c.CheckEndpoint(t.Context(), tenantCaller, name, []byte(`{}`)),
			"pause":  second(c.Pause(t.Context(), tenantCaller, name, "")),
			"resume": second(c.Resume(t.Context(), tenantCaller, name, "")),
			"test":   second(c.Test(t.Context(), tenantCaller, name, "", nil)),
		} {
			if !errors.Is(err, ErrUnknownEndpoint) || strings.Contains(err.Error(), "fixed,") {
				t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
	wants(t, second(c.Pause(t.Context(), adminCaller, "a", "")), "2 endpoints of different tenants have the name a: give the id")
	if turned, err := c.Pause(t.Context(), tenantCaller, "a", ""); err != nil || turned.ID != own.ID {
		t.Errorf("paused: %+v, %v", turned, err)
	}
	if mine, err := c.Endpoint(t.Context(), tenantCaller, "mine"); err != nil || mine.Origin != ledger.OfConfiguration {
		t.Errorf("its endpoint of the configuration: %+v, %v", mine, err)
	}

	// One that the configuration cannot use any more tells nothing of it.
	db.script(t, `UPDATE posthorn.definitions SET document = '{"name": "b", "tenant": "t1", "url": "https://a.example", "events": ["a"], "profile": "gone"}', sealed = NULL,
		revision = (SELECT max(revision) + 1 FROM posthorn.definitions) WHERE name = 'b';`)
	broken, err := c.Endpoint(t.Context(), tenantCaller, "b")
	if err != nil || broken.Broken != notUsable {
		t.Errorf("a broken one: %+v, %v", broken, err)
	}
	wants(t, second(c.Test(t.Context(), tenantCaller, "b", "", nil)), notUsable)
	wants(t, second(c.Test(t.Context(), adminCaller, "b", "", nil)), "no profile of that name")

	// As many as it may have.
	db.script(t, fmt.Sprintf(`INSERT INTO posthorn.definitions (id, revision, name, tenant, document, from_lsn, created_by, updated_by)
SELECT gen_random_uuid(), 1000 + n, 'n' || n, 't1', '{}', '0/0', 'test', 'test' FROM generate_series(1, %d) n;`, maxOfTenant-2))
	_, err = c.CreateEndpoint(t.Context(), tenantCaller, []byte(`{"name": "c", "url": "https://a.example", "events": ["a"]}`))
	wants(t, err, "there are 100 endpoints, and no more can be")
	c.create(t, operatorCaller, `{"name": "c", "tenant": "t1", "url": "https://a.example", "events": ["a"]}`)
}

func TestATenantCannotTakeAConfiguredEndpointsNameFromOthers(t *testing.T) {
	db := newDatabase(t)
	c, _ := db.control(t, forControl)
	own := c.create(t, tenantCaller, `{"name": "fixed", "url": "https://a.example", "events": ["a"]}`)
	for range 2 { // the ledger does not know the configured one at first
		turned, err := c.Pause(t.Context(), operatorCaller, "fixed", "")
		if err != nil || turned.Tenant != "" || turned.ID == own.ID {
			t.Errorf("an operator pauses %+v, %v", turned, err)
		}
	}
	shown, err := c.Endpoint(t.Context(), operatorCaller, "fixed")
	if err != nil || shown.Origin != ledger.OfConfiguration || shown.State != EndpointPaused {
		t.Errorf("an operator sees %+v, %v", shown, err)
	}
	if turned, err := c.Pause(t.Context(), tenantCaller, "fixed", ""); err != nil || turned.ID != own.ID {
		t.Errorf("the tenant pauses %+v, %v", turned, err)
	}
}

func TestTenantsAreNotToldHowTheRelayIsRun(t *testing.T) {
	db := newDatabase(t)
	c, o := db.control(t, forControl)
	_, cfg, err := c.operator()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pause(t.Context(), operatorCaller, "mine", "the words of an operator"); err != nil {
		t.Fatal(err)
	}
	id := db.record(t, cfg, "mine", uuid.New(), ledger.Failed)
	db.script(t, `UPDATE posthorn.deliveries SET tenant = 't1';`)
	wants(t, second(c.Retry(t.Context(), operatorCaller, id)), "the words of an operator", "posthorn endpoints resume mine")
	if err := second(c.Retry(t.Context(), tenantCaller, id)); fmt.Sprint(err) != "its endpoint mine is paused: resume it first" {
		t.Errorf("of a retry a tenant is told %v", err)
	}
	if err := second(c.Test(t.Context(), tenantCaller, "mine", "a.b", []byte("no JSON"))); fmt.Sprint(err) != notSent {
		t.Errorf("of a test a tenant is told %v", err)
	}
	wants(t, second(c.Test(t.Context(), operatorCaller, "mine", "a.b", []byte("no JSON"))), "the payload is not JSON")
	made, err := c.StartReplay(t.Context(), tenantCaller, ReplayRequest{States: []DeliveryState{ledger.Failed}, Endpoint: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	db.script(t, `UPDATE posthorn.replays SET error = 'inner words';`)
	list, err := c.Replays(t.Context(), tenantCaller, 10, Cursor{})
	if err != nil || len(list) != 1 || list[0].Error != notReplayed {
		t.Errorf("a tenant's list of replays is %+v, %v", list, err)
	}
	for who, want := range map[*admin.Caller]string{tenantCaller: notReplayed, operatorCaller: "inner words"} {
		if r, err := c.Replay(t.Context(), who, made.ID); err != nil || r.Error != want {
			t.Errorf("%s sees %+v, %v", who.Name, r, err)
		}
	}
	if r, err := o.Replay(t.Context(), made.ID, "t1"); err != nil || r.Error != "inner words" {
		t.Errorf("the relay has %+v, %v", r, err)
	}
}

func TestWithoutAKeyOnlyEndpointsWithoutSecretsAreCreated(t *testing.T) {
	db := newDatabase(t)
	c, _ := db.control(t, "")
	_, err := c.CreateEndpoint(t.Context(), operatorCaller, []byte(`{"name": "a", "url": "https://a.example", "events": ["a"]}`))
	wants(t, err, "no ledger.encryption_keys")
	c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"], "secret": ""}`)
}

func TestTheRelaysRoleMayChangeEndpoints(t *testing.T) {
	db := newDatabase(t)
	limited := db.as(t, "REPLICATION")
	cfg := limited.config(t, forControl)
	db.script(t, InitSQL(cfg, "role_"+db.slot))
	c, o := controlOf(t, cfg)
	c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`)
	if _, err := c.EditEndpoint(t.Context(), operatorCaller, "a", []byte(`{"enabled": false}`), 0); err != nil {
		t.Error(err)
	}
	if _, err := c.RotateSecret(t.Context(), operatorCaller, "a", admin.Rotation{Grace: time.Hour}); err != nil {
		t.Error(err)
	}
	if err := c.DeleteEndpoint(t.Context(), operatorCaller, "a"); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := c.Once(t.Context(), operatorCaller, admin.OnceRequest{Key: "k"}, func(context.Context) ([]byte, error) { return []byte("{}"), nil }); err != nil {
			t.Error(err)
		}
	}
	if _, err := o.directory.keys.reseal(t.Context(), o.ledger); err != nil {
		t.Error(err)
	}
}

func TestChangesAreAnnouncedInTheStream(t *testing.T) {
	for _, tt := range []struct {
		name  string
		extra func() string
	}{
		{"of the ledger's database", func() string { return forControl }},
		{"beside a ledger of its own", func() string {
			return strings.Replace(forControl, "ledger: {", fmt.Sprintf("ledger: {url: %q, ", newDatabase(t).url), 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { changesAreAnnounced(t, tt.extra()) })
	}
}

func changesAreAnnounced(t *testing.T, extra string) {
	db := newDatabase(t)
	c, o := db.control(t, extra)
	before := db.text(t, `SELECT pg_current_wal_insert_lsn()::text`)
	// A slot of the test's own sees the message.
	db.script(t, fmt.Sprintf(`SELECT pg_create_logical_replication_slot('%s_seen', 'pgoutput');`, db.slot))
	defer db.script(t, fmt.Sprintf(`SELECT pg_drop_replication_slot('%s_seen');`, db.slot))
	made := c.create(t, operatorCaller, `{"name": "a", "url": "https://a.example", "events": ["a"]}`)
	if from := o.directory.get(made.ID).defined.from.String(); db.text(t, `SELECT CASE WHEN $1::text::pg_lsn BETWEEN $2::text::pg_lsn AND pg_current_wal_insert_lsn() THEN 'now' ELSE 'another time' END`, from, before) != "now" {
		t.Errorf("it gets events from %s", from)
	}
	if err := c.DeleteEndpoint(t.Context(), operatorCaller, "a"); err != nil {
		t.Fatal(err)
	}
	const messages = `SELECT count(*)::text FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'posthorn', 'messages', 'true')
WHERE position('posthorn.endpoints'::bytea IN data) > 0`
	if got := db.text(t, messages, db.slot+"_seen"); got != "2" {
		t.Errorf("%s messages", got)
	}
}

func TestRequestsWithAnIdempotencyKeyAreDoneOnce(t *testing.T) {
	db := newDatabase(t)
	c, _ := db.control(t, forControl)
	done := 0
	once := func(who *admin.Caller, key, request string, err error) (string, error) {
		answer, gotErr := c.Once(t.Context(), who, admin.OnceRequest{Operation: "create", Key: key, Request: []byte(request)}, func(context.Context) ([]byte, error) {
			done++
			return []byte(fmt.Sprintf("hunter2 %d", done)), err
		})
		return string(answer), gotErr
	}
	for _, tt := range []struct {
		who                *admin.Caller
		key, request, want string
	}{
		{adminCaller, "k", "r", "hunter2 1"},
		{adminCaller, "k", "r", "hunter2 1"},
		{operatorCaller, "k", "r", "hunter2 2"},
		{adminCaller, "l", "r", "hunter2 3"},
	} {
		if got, err := once(tt.who, tt.key, tt.request, nil); got != tt.want || err != nil {
			t.Errorf("%s %s is answered %q, %v", tt.key, tt.request, got, err)
		}
	}
	if _, err := once(adminCaller, "k", "another", nil); !errors.Is(err, ledger.ErrOtherRequest) {
		t.Errorf("another request: %v", err)
	}
	if _, err := once(adminCaller, "failed", "r", ErrUnknownEndpoint); !errors.Is(err, ErrUnknownEndpoint) {
		t.Errorf("a request that fails: %v", err)
	}
	if got, err := once(adminCaller, "failed", "r", nil); got != "hunter2 5" || err != nil {
		t.Errorf("made again it is answered %q, %v", got, err)
	}
	lost := errors.New("the connection was lost while it committed")
	if _, err := once(adminCaller, "lost", "r", lost); !errors.Is(err, lost) {
		t.Errorf("a request of which nobody knows whether it was done: %v", err)
	}
	_, err := once(adminCaller, "lost", "r", nil)
	wants(t, err, "what became of it is not known")
	db.script(t, `UPDATE posthorn.idempotency SET created_at = created_at - interval '11 minutes' WHERE answer IS NULL;`)
	if got, err := once(adminCaller, "lost", "r", nil); got != "hunter2 7" || err != nil {
		t.Errorf("ten minutes later it is answered %q, %v", got, err)
	}
	if got := db.text(t, `SELECT count(*)::text FROM posthorn.idempotency WHERE position('hunter2'::bytea IN answer) > 0 OR NOT sealed`); got != "0" {
		t.Errorf("%s answers are not encrypted", got)
	}

	_, err = c.Once(t.Context(), adminCaller, admin.OnceRequest{Key: "slow"}, func(ctx context.Context) ([]byte, error) {
		_, err := c.Once(ctx, adminCaller, admin.OnceRequest{Key: "slow"}, nil)
		wants(t, err, "is being worked on")
		return []byte("{}"), nil
	})
	if err != nil {
		t.Error(err)
	}
	db.script(t, `UPDATE posthorn.idempotency SET created_at = created_at - interval '25 hours';`)
	if got, err := once(adminCaller, "k", "another", nil); got != "hunter2 8" || err != nil {
		t.Errorf("a day later: %q, %v", got, err)
	}
}

func TestOperatorsOnTheSpotKnowEndpointsOfTheAPI(t *testing.T) {
	db := newDatabase(t)
	receiver := echo(t)
	cfg := db.initialised(t, strings.Replace(forControl, "ledger:", "egress: {allow: [127.0.0.0/8]}\nledger:", 1))
	c, _ := controlOf(t, cfg)
	made := c.create(t, operatorCaller, fmt.Sprintf(`{"name": "made", "url": %q, "events": ["a"], "ordering": "key"}`, receiver))
	for _, name := range []string{"made", made.ID.String()} {
		if r, err := SendTest(t.Context(), cfg, "test", Sample{Endpoint: name}); err != nil || r.Err != nil || r.Type != "posthorn.test" || !strings.Contains(string(r.Response), "Webhook-Signature") {
			t.Errorf("a test of %s: %+v, %v", name, r, err)
		}
	}
	wants(t, second(SendTest(t.Context(), cfg, "test", Sample{Endpoint: "nope"})), `no endpoint "nope" in the configuration, and the API made none`)

	o, err := OpenOperator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if turned, err := o.Pause(t.Context(), "made", "why", testActor); err != nil || turned.ID != made.ID || turned.State != EndpointPaused {
		t.Errorf("paused: %+v, %v", turned, err)
	}
	if turned, err := o.Resume(t.Context(), made.ID.String(), "", testActor); err != nil || turned.State != EndpointEnabled {
		t.Errorf("resumed: %+v, %v", turned, err)
	}
	if ordered, err := o.takesRetry(made.ID); err != nil || !ordered {
		t.Errorf("it takes a retry: %v, %v", ordered, err)
	}
	if err := c.DeleteEndpoint(t.Context(), operatorCaller, "made"); err != nil {
		t.Fatal(err)
	}
	wants(t, second(o.Pause(t.Context(), "made", "", testActor)), "no such endpoint")
	wants(t, second(o.takesRetry(made.ID)), "nor made by the API")
}

// TestManyChangesAtOnceDoNotWaitForEachOtherForEver: they share few connections.
func TestManyChangesAtOnceDoNotWaitForEachOtherForEver(t *testing.T) {
	db := newDatabase(t)
	c, _ := db.control(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var g errgroup.Group
	for i := range 4 * controlConnections {
		g.Go(func() error {
			for n := range 3 {
				document := fmt.Sprintf(`{"name": "made %d %d", "url": "https://made.example", "events": ["a"], "secret": ""}`, i, n)
				if _, err := c.CreateEndpoint(ctx, &admin.Caller{Name: "ops", Role: admin.Admin, Via: "api"}, []byte(document)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
