#!/bin/sh
# The host application. It keeps purchase requests, and writes an event for each
# into the outbox, in the same transaction. It knows nothing of the relay.
set -eu
trap 'exit 0' TERM

# The relay makes the outbox here. A database that is made by migrations has it
# from the start.
until psql --quiet --output=/dev/null --command="SELECT 'posthorn.outbox'::regclass" 2>/dev/null; do
	sleep 1
done
psql --quiet --command='CREATE TABLE IF NOT EXISTS purchase_requests (id integer PRIMARY KEY, buyer text, amount integer)'

id=$(psql --tuples-only --no-align --command='SELECT coalesce(max(id), 0) FROM purchase_requests')
while true; do
	id=$((id + 1))
	buyer="buyer-$((id % 3))" # the event's key: what one buyer does arrives in its order
	end=COMMIT
	[ $((id % 4)) -ne 0 ] || end=ROLLBACK # no request, no event
	payload=${EVENT_PAYLOAD:-}
	[ -n "$payload" ] || payload="{\"prId\": $id, \"buyer\": \"$buyer\"}"
	psql --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --set=id="$id" --set=buyer="$buyer" \
		--set=type="${EVENT_TYPE:-pr.submitted}" --set=tenant="${EVENT_TENANT:-}" --set=payload="$payload" <<-SQL
		BEGIN;
		INSERT INTO purchase_requests VALUES (:id, :'buyer', 100 * :id);
		INSERT INTO posthorn.outbox (type, tenant, key, payload)
		VALUES (:'type', nullif(:'tenant', ''), :'buyer', :'payload');
		$end;
	SQL
	echo "$(date +%T) $end of purchase request $id by $buyer"
	sleep 1 &
	wait $!
done
