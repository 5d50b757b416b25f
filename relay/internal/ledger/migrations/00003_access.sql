-- +goose Up

ALTER TABLE posthorn.audit ADD COLUMN source text, ADD COLUMN tenant text, ADD COLUMN before json, ADD COLUMN after json;
COMMENT ON TABLE posthorn.audit IS 'who did what, such as a retry by hand or a login, and how endpoints were paused, resumed and disabled; append-only';
COMMENT ON COLUMN posthorn.audit.source IS 'the network address that it came from; NULL for what was done on the spot';
COMMENT ON COLUMN posthorn.audit.tenant IS 'whose the subject is; NULL for nobody in particular';
COMMENT ON COLUMN posthorn.audit.before IS 'what was changed, as it was, without secrets';
COMMENT ON COLUMN posthorn.audit.after IS 'what was changed, as it is, without secrets';
CREATE INDEX audit_at ON posthorn.audit (at);
CREATE INDEX audit_actor ON posthorn.audit (actor, id);
CREATE INDEX audit_action ON posthorn.audit (action, id);
CREATE INDEX audit_subject ON posthorn.audit (subject, id);
CREATE INDEX audit_tenant ON posthorn.audit (tenant, id) WHERE tenant IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION posthorn.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'posthorn.audit is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posthorn.audit FOR EACH STATEMENT EXECUTE FUNCTION posthorn.refuse_change();
-- Whatever session_replication_role says.
ALTER TABLE posthorn.audit ENABLE ALWAYS TRIGGER append_only;

CREATE TABLE posthorn.sessions (
  hash       bytea PRIMARY KEY,
  name       text NOT NULL,
  role       text NOT NULL,
  tenant     text,
  profile    text,
  via        text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_of ON posthorn.sessions (via, name);
COMMENT ON TABLE posthorn.sessions IS 'who is logged in to the dashboard';
COMMENT ON COLUMN posthorn.sessions.hash IS 'SHA-256 of the cookie';
COMMENT ON COLUMN posthorn.sessions.role IS 'when it was opened; of a token of the configuration the configuration''s role counts';
COMMENT ON COLUMN posthorn.sessions.seen_at IS 'when it was last used, give or take a minute';

-- +goose Down
DROP TABLE posthorn.sessions;
DROP TRIGGER append_only ON posthorn.audit;
DROP FUNCTION posthorn.refuse_change;
DROP INDEX posthorn.audit_at, posthorn.audit_actor, posthorn.audit_action, posthorn.audit_subject, posthorn.audit_tenant;
ALTER TABLE posthorn.audit DROP COLUMN source, DROP COLUMN tenant, DROP COLUMN before, DROP COLUMN after;
