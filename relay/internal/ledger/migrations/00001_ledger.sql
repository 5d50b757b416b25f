-- +goose Up

-- relay: one row for each slot, raised in the transaction of every batch.
CREATE TABLE posthorn.relay (
  slot           text PRIMARY KEY,
  epoch          bigint NOT NULL DEFAULT 0,
  holder         text,
  system_id      text,
  timeline       integer,
  recorded_lsn   pg_lsn NOT NULL DEFAULT '0/0',
  recorded_index bigint NOT NULL DEFAULT 0,
  flushed_lsn    pg_lsn NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE posthorn.relay IS 'one row a replication slot: who holds it and how far its events are recorded and flushed';

-- advance stands at the head of every batch: it refuses a relay that lost
-- its place, raises the positions, and never lets the flushed one go back. It
-- bounds what the rest of the transaction may wait for, has its commit wait for
-- the disk, since the slot is moved past it, and keeps triggers that somebody
-- added from saying more than the relay reads.
-- +goose StatementBegin
CREATE FUNCTION posthorn.advance(p_slot text, p_epoch bigint, p_recorded pg_lsn, p_index bigint, p_flushed pg_lsn)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('lock_timeout', '5s', true), set_config('statement_timeout', '30s', true),
    set_config('idle_in_transaction_session_timeout', '5s', true), set_config('client_min_messages', 'error', true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true);
  UPDATE posthorn.relay SET
    recorded_index = CASE WHEN p_recorded > recorded_lsn THEN p_index
                          WHEN p_recorded = recorded_lsn THEN greatest(recorded_index, p_index)
                          ELSE recorded_index END,
    recorded_lsn = greatest(recorded_lsn, p_recorded),
    flushed_lsn = greatest(flushed_lsn, p_flushed),
    updated_at = clock_timestamp()
  WHERE slot = p_slot AND epoch = p_epoch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another relay took over slot %', p_slot USING ERRCODE = 'PH001';
  END IF;
END $$;
-- +goose StatementEnd

CREATE TABLE posthorn.endpoints (
  id            uuid PRIMARY KEY,
  name          text NOT NULL,
  url           text NOT NULL,
  tenant        text,
  state         text NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'paused', 'disabled', 'removed')),
  state_by      text NOT NULL DEFAULT 'configuration' CHECK (state_by IN ('configuration', 'operator', 'relay')),
  reason        text,
  state_at      timestamptz NOT NULL DEFAULT now(),
  failing       boolean NOT NULL DEFAULT false,
  failures      integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  failing_since timestamptz,
  updated_at    timestamptz NOT NULL DEFAULT now(),
  CHECK (CASE state WHEN 'removed' THEN state_by = 'configuration' WHEN 'paused' THEN state_by <> 'configuration' ELSE true END)
);
CREATE INDEX ON posthorn.endpoints (updated_at);
COMMENT ON TABLE posthorn.endpoints IS 'every endpoint that deliveries name';
COMMENT ON COLUMN posthorn.endpoints.state IS 'paused: its events are parked; disabled: it matches none; removed: no longer in the configuration';
COMMENT ON COLUMN posthorn.endpoints.state_by IS 'who set the state; what operator or relay paused or disabled stays so until it is resumed';
COMMENT ON COLUMN posthorn.endpoints.failing IS 'first attempts are parked until one succeeds; false until the running relay finds out';
COMMENT ON COLUMN posthorn.endpoints.failures IS 'failed attempts in a row, the first of them at failing_since';
COMMENT ON COLUMN posthorn.endpoints.updated_at IS 'raised when the running relay should look again';

-- payloads: the copy of an event that has deliveries in pending, once an event.
CREATE TABLE posthorn.payloads (
  event_id     uuid PRIMARY KEY,
  payload      bytea NOT NULL,
  headers      bytea,
  created_at   timestamptz NOT NULL,
  invalid      text
);

CREATE TABLE posthorn.pending (
  id              uuid PRIMARY KEY,
  endpoint_id     uuid NOT NULL,
  event_id        uuid NOT NULL,
  type            text NOT NULL,
  tenant          text,
  key             text,
  key_hash        bigint,
  lsn             pg_lsn NOT NULL,
  index           bigint NOT NULL,
  created_at      timestamptz NOT NULL,
  state           text NOT NULL CHECK (state IN ('pending', 'sending')),
  reason          text,
  attempts        integer NOT NULL DEFAULT 0,
  due_at          timestamptz NOT NULL,
  epoch           bigint NOT NULL,
  bytes           bigint NOT NULL,
  request_method  text,
  request_headers json,
  request_body    bytea,
  status          integer,
  error           text,
  updated_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 90);
CREATE INDEX pending_due ON posthorn.pending (endpoint_id, due_at, lsn, index) WHERE state = 'pending';
CREATE INDEX pending_retry ON posthorn.pending (endpoint_id, due_at, lsn, index) WHERE state = 'pending' AND attempts > 0;
CREATE INDEX pending_key ON posthorn.pending (endpoint_id, key_hash, lsn, index) WHERE key_hash IS NOT NULL;
CREATE INDEX pending_event ON posthorn.pending (event_id);
COMMENT ON TABLE posthorn.pending IS 'deliveries that are not final: parked, waiting for a retry, or sending';
COMMENT ON COLUMN posthorn.pending.due_at IS 'infinity while an earlier event of its key is in this table';
COMMENT ON COLUMN posthorn.pending.request_body IS 'NULL once rendered (request_method is set) means: the payload as it is';

CREATE TABLE posthorn.deliveries (
  created_at      timestamptz NOT NULL,
  id              uuid NOT NULL,
  endpoint_id     uuid NOT NULL,
  event_id        uuid NOT NULL,
  type            text NOT NULL,
  tenant          text,
  key             text,
  lsn             pg_lsn NOT NULL,
  index           bigint NOT NULL,
  state           text NOT NULL CHECK (state IN ('delivered', 'failed', 'skipped')),
  attempts        integer NOT NULL,
  status          integer,
  error           text,
  finished_at     timestamptz NOT NULL DEFAULT now(),
  request_method  text,
  request_headers json,
  request_body    bytea,
  payload         bytea,
  headers         bytea,
  event_created_at timestamptz,
  PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE posthorn.deliveries IS 'final deliveries; created_at is the commit time of the event';

CREATE TABLE posthorn.attempts (
  created_at  timestamptz NOT NULL,
  delivery_id uuid NOT NULL,
  number      integer NOT NULL,
  started_at  timestamptz NOT NULL,
  outcome     text NOT NULL,
  status      integer,
  error       text,
  dns_us      bigint,
  connect_us  bigint,
  tls_us      bigint,
  first_byte_us bigint,
  total_us    bigint NOT NULL,
  response    bytea,
  PRIMARY KEY (created_at, delivery_id, number)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE posthorn.attempts IS 'failed attempts, and every attempt of a delivery that needed more than one; created_at is the delivery''s; times in microseconds';

CREATE TABLE posthorn.audit (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL DEFAULT now(),
  actor   text NOT NULL,
  action  text NOT NULL,
  subject text NOT NULL,
  detail  json
);
COMMENT ON TABLE posthorn.audit IS 'what operators did, such as a retry by hand, and how endpoints were paused, resumed and disabled';

-- The relay's role owns nothing: partitions come and go through these two,
-- which run with their owner's rights.
-- +goose StatementBegin
CREATE FUNCTION posthorn.ensure_partition(p_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  d timestamp := date_trunc('day', p_at AT TIME ZONE 'UTC');
  parent text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('posthorn.ensure_partition'));
  FOREACH parent IN ARRAY ARRAY['deliveries', 'attempts'] LOOP
    IF to_regclass(format('posthorn.%I', parent || to_char(d, '_YYYYMMDD'))) IS NULL THEN
      -- Attached, not created in place: that would lock out everybody who reads the parent.
      EXECUTE format('CREATE TABLE posthorn.%I (LIKE posthorn.%I INCLUDING ALL)', parent || to_char(d, '_YYYYMMDD'), parent);
      EXECUTE format('ALTER TABLE posthorn.%I ATTACH PARTITION posthorn.%I FOR VALUES FROM (%L) TO (%L)',
        parent, parent || to_char(d, '_YYYYMMDD'), d AT TIME ZONE 'UTC', (d + interval '1 day') AT TIME ZONE 'UTC');
    END IF;
  END LOOP;
END $$;

-- It waits for no reader: whoever waits behind it would be the relay.
CREATE FUNCTION posthorn.drop_partitions(p_before timestamptz, p_flushed pg_lsn) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
  part record;
  needed boolean;
  dropped text[] := '{}';
BEGIN
  FOR part IN
    SELECT c.relname AS name, to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' + interval '1 day' AS ends
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'posthorn.deliveries'::regclass ORDER BY 1
  LOOP
    CONTINUE WHEN part.ends > p_before;
    EXECUTE format('SELECT EXISTS (SELECT FROM posthorn.%I WHERE lsn > $1)', part.name) INTO needed USING p_flushed;
    CONTINUE WHEN needed;
    EXECUTE format('DROP TABLE posthorn.%I', part.name);
    EXECUTE format('DROP TABLE IF EXISTS posthorn.%I', replace(part.name, 'deliveries', 'attempts'));
    dropped := dropped || part.name::text;
  END LOOP;
  RETURN dropped;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION posthorn.ensure_partition, posthorn.drop_partitions FROM PUBLIC;

-- +goose Down
DROP TABLE posthorn.audit, posthorn.attempts, posthorn.deliveries, posthorn.pending, posthorn.payloads, posthorn.endpoints, posthorn.relay;
DROP FUNCTION posthorn.advance, posthorn.ensure_partition, posthorn.drop_partitions;
