-- Posthorn's outbox. It can be run again safely, and needs no extension.

CREATE SCHEMA IF NOT EXISTS posthorn;

-- UUID version 7 of RFC 9562: 48 bits of milliseconds, 12 bits of the
-- millisecond's fraction, 62 random bits, so that ids sort by time. It counts
-- in 1/4096 ms, puts the version's digit before the last three, and takes the
-- rest from a random UUID. One expression, so that the planner can inline it.
CREATE OR REPLACE FUNCTION posthorn.uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
  SELECT (
    pg_catalog.overlay(
      pg_catalog.lpad(pg_catalog.to_hex((extract(epoch FROM pg_catalog.clock_timestamp()) * 4096000)::bigint), 15, '0'),
      '7', 13, 0)
    || pg_catalog.substr(pg_catalog.gen_random_uuid()::text, 20)
  )::uuid
$$;
COMMENT ON FUNCTION posthorn.uuid_v7() IS 'A time-ordered UUID, version 7 of RFC 9562.';

CREATE TABLE IF NOT EXISTS posthorn.outbox (
  id          uuid        PRIMARY KEY DEFAULT posthorn.uuid_v7(),
  type        text        NOT NULL,
  tenant      text,
  key         text,
  payload     json        NOT NULL,
  headers     json,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS outbox_created_at ON posthorn.outbox USING brin (created_at);

COMMENT ON TABLE posthorn.outbox IS 'Events that Posthorn delivers once the transaction that inserted them has committed.';
COMMENT ON COLUMN posthorn.outbox.id IS 'The event''s id: what receivers know repetitions by.';
COMMENT ON COLUMN posthorn.outbox.type IS 'What happened, as object.action: pr.submitted.';
COMMENT ON COLUMN posthorn.outbox.tenant IS 'Whose event it is; NULL reaches only endpoints without a tenant.';
COMMENT ON COLUMN posthorn.outbox.key IS 'Ordering key, e.g. the aggregate''s id; NULL is unordered.';
COMMENT ON COLUMN posthorn.outbox.payload IS 'The event''s data, kept as the text that was written.';
COMMENT ON COLUMN posthorn.outbox.headers IS 'An object of strings that header templates can use; traceparent is passed on.';
COMMENT ON COLUMN posthorn.outbox.created_at IS 'When the transaction began; Posthorn deletes old events by it.';

-- The id is chosen before the insert, since RETURNING would ask for the right
-- to read the table.
CREATE OR REPLACE FUNCTION posthorn.publish(
  type    text,
  payload json,
  tenant  text DEFAULT NULL,
  key     text DEFAULT NULL,
  headers json DEFAULT NULL,
  id      uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE sql VOLATILE
AS $$
  WITH event AS MATERIALIZED (
    SELECT coalesce($6, posthorn.uuid_v7()) AS id
  ), inserted AS (
    INSERT INTO posthorn.outbox (id, type, tenant, key, payload, headers)
    SELECT event.id, $1, $3, $4, $2, $5 FROM event
  )
  SELECT event.id FROM event
$$;
COMMENT ON FUNCTION posthorn.publish(text, json, text, text, json, uuid) IS
  'Inserts an event into the outbox, in the caller''s transaction, and returns its id.';
