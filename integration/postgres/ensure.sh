#!/bin/sh
# Makes sure that a PostgreSQL server's programs are on this machine: finds
# them where the package postgres does, or installs them with the system's
# package manager. Says nothing when there is nothing to do.
set -eu

wanted="install the PostgreSQL server, 14 or newer, or set POSTHORN_POSTGRES_BIN to the folder that holds initdb and postgres"

holds_server() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

found() {
	initdb=$(command -v initdb || true)
	if [ -n "$initdb" ] && holds_server "$(dirname "$(readlink -f "$initdb")")"; then
		return 0
	fi
	bin=$(pg_config --bindir 2>/dev/null || true)
	if [ -n "$bin" ] && holds_server "$bin"; then
		return 0
	fi
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin; do
		if holds_server "$bin"; then
			return 0
		fi
	done
	return 1
}

fail() {
	echo "$1" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2 || fail "$wanted"
}

# Left alone, the package creates a cluster and starts it, now and at every
# boot. Nobody asked for one, so it is told not to, for this installation only.
install_debian() {
	drop_in=/etc/postgresql-common/createcluster.d/posthorn.conf
	as_root apt-get update -qq >&2 || fail "$wanted"
	apt_install postgresql-common
	as_root mkdir -p "$(dirname $drop_in)"
	echo "create_main_cluster = false" | as_root tee $drop_in >/dev/null
	trap 'as_root rm -f $drop_in' EXIT
	apt_install postgresql
}

if [ -n "${POSTHORN_POSTGRES_BIN:-}" ]; then
	holds_server "$POSTHORN_POSTGRES_BIN" ||
		fail "POSTHORN_POSTGRES_BIN=$POSTHORN_POSTGRES_BIN: name the folder that holds initdb and postgres"
	exit 0
fi
if found; then
	exit 0
fi
if command -v apt-get >/dev/null; then
	if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
		fail "$wanted"
	fi
	echo "No PostgreSQL server found: installing one with apt-get." >&2
	install_debian
elif command -v brew >/dev/null; then
	echo "No PostgreSQL server found: installing one with brew." >&2
	brew install postgresql@17 >&2 || fail "$wanted"
fi
found || fail "$wanted"
