#!/bin/sh
# The entry point of the stand-ins for the image postgres: makes a cluster at the
# first start, as POSTGRES_PASSWORD, POSTGRES_USER and POSTGRES_DB say, runs what
# is in /docker-entrypoint-initdb.d, and then the server.
set -eu

case "${1:-postgres}" in
-*) set -- postgres "$@" ;;
postgres) ;;
*) exec "$@" ;;
esac

if [ "$(id -u)" -eq 0 ]; then
	mkdir -p "$PGDATA" /var/run/postgresql
	chown -R postgres:postgres "$PGDATA" /var/run/postgresql
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	: "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}"
	user=${POSTGRES_USER:-postgres}
	database=${POSTGRES_DB:-$user}
	password=$(mktemp)
	echo "$POSTGRES_PASSWORD" >"$password"
	initdb --pgdata="$PGDATA" --username="$user" --pwfile="$password" \
		--auth-local=trust --auth-host=scram-sha-256 --no-sync --encoding=UTF8 --locale=C.UTF-8
	rm "$password"
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait --silent start
	[ "$database" = postgres ] || createdb --username="$user" "$database"
	for file in /docker-entrypoint-initdb.d/*; do
		case "$file" in
		*.sh) sh "$file" ;;
		*.sql) psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$user" --dbname="$database" --file="$file" ;;
		esac
	done
	pg_ctl --pgdata="$PGDATA" --wait --silent stop
fi
exec "$@"
