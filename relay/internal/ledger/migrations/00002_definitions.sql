-- +goose Up

-- definitions: the endpoints that the API made. What is deleted stays as a row
-- without a document, so that every relay learns of it.
CREATE TABLE posthorn.definitions (
  id         uuid PRIMARY KEY,
  revision   bigint NOT NULL UNIQUE,
  name       text NOT NULL,
  tenant     text,
  document   json NOT NULL,
  sealed     bytea,
  from_lsn   pg_lsn NOT NULL,
  deleted    boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_by text NOT NULL
);
CREATE UNIQUE INDEX definitions_name ON posthorn.definitions (name, coalesce(tenant, '')) WHERE NOT deleted;
CREATE INDEX definitions_tenant ON posthorn.definitions (tenant) WHERE NOT deleted;
COMMENT ON TABLE posthorn.definitions IS 'the endpoints that the API made';
COMMENT ON COLUMN posthorn.definitions.revision IS 'grows over all of them with each change';
COMMENT ON COLUMN posthorn.definitions.document IS 'the keys that were given, as in the configuration, with *** for secrets';
COMMENT ON COLUMN posthorn.definitions.sealed IS 'the keys that hold secrets, encrypted with one of ledger.encryption_keys';
COMMENT ON COLUMN posthorn.definitions.from_lsn IS 'it gets events that committed at or after';

-- idempotency: what was answered to requests with an Idempotency-Key.
CREATE TABLE posthorn.idempotency (
  key        bytea PRIMARY KEY,
  request    bytea NOT NULL,
  answer     bytea,
  sealed     boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX idempotency_created_at ON posthorn.idempotency (created_at);
COMMENT ON TABLE posthorn.idempotency IS 'what was answered to requests with an Idempotency-Key, for a day';
COMMENT ON COLUMN posthorn.idempotency.key IS 'SHA-256 of who asked, for which operation, and the key';
COMMENT ON COLUMN posthorn.idempotency.request IS 'SHA-256 of the body';
COMMENT ON COLUMN posthorn.idempotency.answer IS 'NULL while the first request is being worked on';

-- +goose Down
DROP TABLE posthorn.idempotency, posthorn.definitions;
