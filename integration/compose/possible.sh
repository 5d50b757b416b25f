#!/bin/sh
# Says in one line, and by its exit code, if the tests with containers cannot run
# here.
if ! docker info >/dev/null 2>&1; then
	echo "The tests in containers need a Docker Engine: docker info gets no answer." >&2
	exit 1
fi
if ! docker compose version >/dev/null 2>&1 && ! command -v docker-compose >/dev/null; then
	echo "The tests in containers need Docker Compose: there is neither docker compose nor docker-compose." >&2
	exit 1
fi
