#!/bin/sh
# Makes sure that node and python3, in which tests have receivers and a plugin
# written, are on this machine, with what the plugin imports: installs what is
# missing with the system's package manager. Says nothing when there is nothing
# to do.
set -eu

fail() {
	echo "install $missing: tests run receivers and a plugin that are written in it" >&2
	exit 1
}

missing=
for program in node python3; do
	command -v $program >/dev/null || missing="$missing $program"
done
# Of the system's own Python, which the example names.
for module in grpc google.protobuf cryptography; do
	/usr/bin/python3 -c "import $module" 2>/dev/null || missing="$missing python3-$module"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

packages=$(echo "$missing" | sed 's/node/nodejs/; s/python3\( \|$\)/python3-minimal\1/; s/python3-grpc/python3-grpcio/; s/python3-google\.protobuf/python3-protobuf/')
echo "Installing $packages." >&2
if command -v apt-get >/dev/null; then
	sudo=
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || fail
		sudo=sudo
	fi
	# shellcheck disable=SC2086 # several packages
	$sudo apt-get update -qq >&2 && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >&2 || fail
elif command -v brew >/dev/null && [ "${missing#*python3-}" = "$missing" ]; then # modules are pip's there
	# shellcheck disable=SC2086
	brew install $(echo "$missing" | sed 's/python3/python/') >&2 || fail
else
	fail
fi
