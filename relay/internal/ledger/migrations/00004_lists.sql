-- +goose Up

-- What lists need beside the primary keys, at the least cost for a success.
-- The bloom indexes say which blocks may hold what is looked for: an insert
-- writes nothing to them, posthorn.summarize fills them in afterwards.
CREATE INDEX deliveries_ids ON posthorn.deliveries USING brin
  (created_at, id uuid_bloom_ops (n_distinct_per_range = 1600), event_id uuid_bloom_ops (n_distinct_per_range = 1600)) WITH (pages_per_range = 32);
CREATE INDEX deliveries_kinds ON posthorn.deliveries USING brin
  (created_at, endpoint_id uuid_bloom_ops (n_distinct_per_range = 256), type text_bloom_ops (n_distinct_per_range = 64), tenant text_bloom_ops (n_distinct_per_range = 64),
   (uuid_hash_extended(endpoint_id, hashtextextended(type, 0))) int8_bloom_ops (n_distinct_per_range = 768),
   (hashtextextended(type, hashtextextended(tenant, 0))) int8_bloom_ops (n_distinct_per_range = 512))
  WITH (pages_per_range = 16);
-- Lists of what failed are read from this one alone. Texts of any length would not fit.
CREATE INDEX deliveries_unsent ON posthorn.deliveries (created_at, id, endpoint_id, state, left(type, 64), left(tenant, 64)) WHERE state <> 'delivered';
CREATE INDEX pending_list ON posthorn.pending (endpoint_id, created_at, id);

-- summarize fills the bloom indexes in for the blocks that were filled since it
-- was called last, as the owner, which alone may. The newest blocks of a day
-- that goes on are left out: each row that came would change what stands there.
-- A table that is being vacuumed is passed over: vacuum does the same. Blocks
-- that were missed are read as if everything could be in them.
-- +goose StatementBegin
CREATE FUNCTION posthorn.summarize() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  bloom record;
  first bigint;
  made integer;
  total integer := 0;
BEGIN
  FOR bloom IN
    SELECT c.oid, pg_relation_size(i.indrelid) / current_setting('block_size')::integer AS blocks,
      (SELECT option_value::integer FROM pg_options_to_table(c.reloptions) WHERE option_name = 'pages_per_range') AS per,
      to_date(right(t.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' + interval '25 hours' < now() AS past
    FROM pg_inherits h JOIN pg_index i ON i.indrelid = h.inhrelid JOIN pg_class t ON t.oid = i.indrelid
      JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE h.inhparent = 'posthorn.deliveries'::regclass AND a.amname = 'brin'
  LOOP
    first := bloom.blocks / bloom.per * bloom.per;
    IF NOT bloom.past OR first = bloom.blocks THEN
      first := first - bloom.per;
    END IF;
    BEGIN
      WHILE first >= 0 LOOP
        made := brin_summarize_range(bloom.oid, first);
        EXIT WHEN made = 0;
        total := total + made;
        first := first - bloom.per;
      END LOOP;
    EXCEPTION WHEN lock_not_available THEN
      CONTINUE;
    END;
  END LOOP;
  RETURN total;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION posthorn.summarize FROM PUBLIC;

-- replays: jobs of the active relay's, which makes deliveries again over time.
CREATE TABLE posthorn.replays (
  id          uuid PRIMARY KEY,
  request     json NOT NULL,
  tenant      text,
  state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
  total       bigint NOT NULL,
  total_more  boolean NOT NULL,
  done        bigint NOT NULL DEFAULT 0,
  skipped     bigint NOT NULL DEFAULT 0,
  at          timestamptz,
  at_id       uuid,
  listed      boolean NOT NULL DEFAULT false,
  rows_until  timestamptz,
  rows_at     timestamptz,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by  text NOT NULL,
  finished_at timestamptz,
  error       text
);
CREATE INDEX replays_list ON posthorn.replays (created_at, id);
CREATE INDEX replays_running ON posthorn.replays (created_at, id) WHERE state = 'running';
COMMENT ON TABLE posthorn.replays IS 'deliveries that operators had made again in bulk';
COMMENT ON COLUMN posthorn.replays.at IS 'with at_id the last delivery that it came to, in the order of commit times and ids';
COMMENT ON COLUMN posthorn.replays.listed IS 'it came to the last delivery; what is left are rows of the outbox from before its endpoint had any';
COMMENT ON COLUMN posthorn.replays.rows_until IS 'the rows of the outbox before this one are looked at too, so far those up to rows_at; NULL for none';

-- stats: what happened, in spans of three lengths, so that no chart reads many
-- rows.
CREATE TABLE posthorn.stats (
  created_at      timestamptz NOT NULL,
  span            integer NOT NULL CHECK (span IN (10, 60, 600)),
  endpoint_id     uuid,
  events          bigint NOT NULL,
  delivered       bigint NOT NULL,
  failed          bigint NOT NULL,
  attempts        bigint NOT NULL,
  failed_attempts bigint NOT NULL,
  latency         bigint[],
  parked          bigint,
  unsettled_us    bigint,
  slot_lag        bigint,
  slot_retained   bigint
) PARTITION BY RANGE (created_at);
CREATE INDEX stats_list ON posthorn.stats (endpoint_id, span, created_at);
COMMENT ON TABLE posthorn.stats IS 'what happened in spans of about 10, 60 and 600 seconds that begin at created_at; of one endpoint no row where nothing did';
COMMENT ON COLUMN posthorn.stats.endpoint_id IS 'NULL: all endpoints together';
COMMENT ON COLUMN posthorn.stats.latency IS 'deliveries by the time since their event''s commit, in buckets; of all endpoints together only';
COMMENT ON COLUMN posthorn.stats.parked IS 'the most deliveries that waited in the ledger; this and what follows of all endpoints together only, NULL where it is not known';
COMMENT ON COLUMN posthorn.stats.unsettled_us IS 'the highest age of the oldest event that was read and not recorded, in microseconds';
COMMENT ON COLUMN posthorn.stats.slot_lag IS 'the most bytes of WAL that were not confirmed';
COMMENT ON COLUMN posthorn.stats.slot_retained IS 'the most bytes of WAL that Postgres kept for the slot';

-- As before, with stats.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION posthorn.ensure_partition(p_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  d timestamp := date_trunc('day', p_at AT TIME ZONE 'UTC');
  parent text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('posthorn.ensure_partition'));
  FOREACH parent IN ARRAY ARRAY['deliveries', 'attempts', 'stats'] LOOP
    CONTINUE WHEN to_regclass(format('posthorn.%I', parent)) IS NULL;
    IF to_regclass(format('posthorn.%I', parent || to_char(d, '_YYYYMMDD'))) IS NULL THEN
      -- Attached, not created in place: that would lock out everybody who reads the parent.
      EXECUTE format('CREATE TABLE posthorn.%I (LIKE posthorn.%I INCLUDING ALL)', parent || to_char(d, '_YYYYMMDD'), parent);
      EXECUTE format('ALTER TABLE posthorn.%I ATTACH PARTITION posthorn.%I FOR VALUES FROM (%L) TO (%L)',
        parent, parent || to_char(d, '_YYYYMMDD'), d AT TIME ZONE 'UTC', (d + interval '1 day') AT TIME ZONE 'UTC');
    END IF;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION posthorn.drop_partitions(p_before timestamptz, p_flushed pg_lsn) RETURNS text[]
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
    EXECUTE format('DROP TABLE IF EXISTS posthorn.%I', replace(part.name, 'deliveries', 'stats'));
    dropped := dropped || part.name::text;
  END LOOP;
  RETURN dropped;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE posthorn.stats, posthorn.replays;
DROP FUNCTION posthorn.summarize;
DROP INDEX posthorn.pending_list, posthorn.deliveries_unsent, posthorn.deliveries_kinds, posthorn.deliveries_ids;
