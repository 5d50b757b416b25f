#!/bin/sh
# Makes sure that this machine's Docker Engine has the images that are named:
#
#     ensure.sh golang:1.26 postgres:15 postgres:17
#
# What is missing is pulled. What cannot be, gets a stand-in of the same name that
# is made from Debian's packages: enough like the public image for the tests, and
# for nothing else. `docker image ls --filter label=posthorn.stand-in` lists them.
# Says nothing when there is nothing to do.
set -eu
cd "$(dirname "$0")"

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

install_mmdebstrap() {
	command -v mmdebstrap >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] && return
	command -v apt-get >/dev/null || fail "no image can be pulled, and stand-ins are made on Debian and Ubuntu only"
	as_root apt-get update -qq >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		mmdebstrap debian-archive-keyring >&2
}

# debian SUITE PACKAGES TAR HOOKS…: writes a root file system into TAR.
debian() {
	suite=$1 packages=$2 tar=$3
	shift 3
	mmdebstrap --quiet --variant=apt --include="$packages" \
		--dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--aptopt='Acquire::Languages "none"' \
		"$@" "$suite" "$tar" http://deb.debian.org/debian
}

# image NAME TAR CHECK…: makes an image of the tar and of the instructions on
# standard input, and sees that CHECK runs in it.
image() {
	name=$1 tar=$2
	shift 2
	root="posthorn-root-$(echo "$name" | tr : -)"
	docker import "$tar" "$root" >/dev/null
	{
		echo "FROM $root"
		cat
		echo 'LABEL posthorn.stand-in=true'
	} | docker build --quiet --tag "$name" - >/dev/null
	docker rmi --no-prune "$root" >/dev/null
	docker run --rm --network none --entrypoint "" "$name" "$@" >/dev/null || {
		docker rmi "$name" >/dev/null
		fail "the stand-in for $name does not run: $*"
	}
}

# The Go that this machine has, without its tests, and the authorities that it
# trusts.
make_golang() {
	version=${1#golang:}
	case "$(go env GOVERSION)" in
	"go$version" | "go$version".*) ;;
	*) fail "a stand-in for $1 is made of this machine's Go, which is $(go env GOVERSION)" ;;
	esac
	debian trixie ca-certificates "$2" \
		--customize-hook='mkdir -p "$1/usr/local/go" "$1/go"' \
		--customize-hook="sync-in '$(go env GOROOT)' /usr/local/go" \
		--customize-hook='cd "$1/usr/local/go" && rm -rf api doc misc test && find src -name testdata -prune -exec rm -rf {} + && find src -name "*_test.go" -delete' \
		--customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt'
	image "$1" "$2" go version <<-'END'
		ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		WORKDIR /go
	END
}

make_postgres() {
	major=${1#postgres:}
	case "$major" in
	15) suite=bookworm ;;
	17) suite=trixie ;;
	*) fail "there is no stand-in for $1: Debian has PostgreSQL 15 and 17" ;;
	esac
	debian "$suite" "postgresql-$major,ca-certificates" "$2" \
		--customize-hook='upload postgres.sh /usr/local/bin/docker-entrypoint.sh' \
		--customize-hook='chmod 0755 "$1/usr/local/bin/docker-entrypoint.sh"'
	image "$1" "$2" postgres --version <<-END
		ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/$major/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		VOLUME /var/lib/postgresql/data
		STOPSIGNAL SIGINT
		ENTRYPOINT ["docker-entrypoint.sh"]
		CMD ["postgres"]
	END
}

missing=
for name in "$@"; do
	docker image inspect "$name" >/dev/null 2>&1 || docker pull --quiet "$name" >/dev/null || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
echo "Making stand-ins of Debian's packages for$missing." >&2
install_mmdebstrap

# Side by side: each waits for the network most of the time.
makers= failed=
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in $missing; do
	"make_${name%%:*}" "$name" "$folder/$(echo "$name" | tr : -).tar" &
	makers="$makers $!"
done
for maker in $makers; do
	wait "$maker" || failed=yes
done
[ -z "$failed" ] || fail "not every stand-in could be made"
echo "Made$missing. Once the public images can be pulled: docker rmi$missing" >&2
