#!/bin/sh
# Makes sure that Chromium is on this machine, in which the dashboard's tests
# run: finds it where they do, or installs it with the system's package manager.
# Says nothing when there is nothing to do.
set -eu

fail() {
	echo "install Chromium, so that one of $programs is in PATH: the dashboard's tests run in it" >&2
	exit 1
}

programs="chromium chromium-browser google-chrome google-chrome-stable"
for program in $programs; do
	if command -v "$program" >/dev/null; then
		exit 0
	fi
done
for app in Chromium "Google Chrome"; do
	if [ -x "/Applications/$app.app/Contents/MacOS/$app" ]; then
		exit 0
	fi
done

echo "Installing Chromium." >&2
if command -v apt-get >/dev/null; then
	sudo=
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || fail
		sudo=sudo
	fi
	# Without a font it draws boxes.
	$sudo apt-get update -qq >&2 && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >&2 || fail
elif command -v brew >/dev/null; then
	brew install --cask chromium >&2 || fail
else
	fail
fi
