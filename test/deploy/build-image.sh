#!/usr/bin/env bash
# Builds deploy/Dockerfile without a Docker engine, on a base of debootstrap's Debian and npm's Node 20.
# Usage: build-image.sh DIRECTORY SOURCES. It prints the seconds before each step. DIRECTORY/base-size gets the size of
# the base in KiB; DIRECTORY/storage has both images, "localhost/base" and "service".
set -euo pipefail
dir=$1 sources=$2
base=$dir/base
step () { echo "$SECONDS s: $1"; }

step "debootstrap"
debootstrap --variant=minbase bookworm "$base" http://deb.debian.org/debian >"$dir/debootstrap.log" \
  || { tail -n 20 "$dir/debootstrap.log" "$base/debootstrap/debootstrap.log"; exit 1; }
rm -rf "$base"/var/cache/apt/archives "$base"/var/lib/apt/lists/* "$base"/usr/share/{doc,locale,man}
# The build calls the registry; this machine may reach it only with a certificate of its own.
mkdir -p "$base/etc/ssl/certs" "$base/usr/local/etc"
cp -L /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
echo 'cafile=/etc/ssl/certs/ca-certificates.crt' > "$base/usr/local/etc/npmrc"

step "Node and npm"
npm pack --silent --pack-destination "$dir" "node-linux-$(node -p process.arch)@20" >/dev/null
tar -xzf "$dir"/node-linux-*.tgz -C "$base/usr/local/bin" --strip-components=2 package/bin/node
npm install --silent --global --prefix "$base/usr/local" npm@10

step "the base as an image"
du -sk "$base" | cut -f 1 > "$dir/base-size"
buildah=(buildah --root "$dir/storage" --runroot "$dir/run" --storage-driver overlay)
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" add --quiet "$container" "$base" / >/dev/null
"${buildah[@]}" commit --quiet --rm "$container" localhost/base >/dev/null
rm -rf "$base"

step "the image"
# Docker's format: OCI's has no HEALTHCHECK.
"${buildah[@]}" bud --isolation chroot --format docker --build-arg BASE=localhost/base \
  --file "$sources/deploy/Dockerfile" --tag service "$sources"
step "done"
