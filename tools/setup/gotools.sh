#!/bin/bash
# Builds govc and vcsim into .tools/bin from the govmomi that gotools/go.mod pins.
# Quick when they are there already.
set -euo pipefail
cd "$(dirname "$0")/../.."

sources=tools/setup/gotools
stamp=$(cat "$sources"/go.mod "$sources"/go.sum "$sources"/*/main.go | sha256sum | cut -d' ' -f1)
if [ "$(cat .tools/gotools.stamp 2>/dev/null || echo none)" = "$stamp" ] && [ -x .tools/bin/govc ] && [ -x .tools/bin/vcsim ]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "setup: expected Go 1.25 or newer on PATH, to build govc and vcsim" >&2
    exit 1
fi
echo "setup: building govc and vcsim" >&2
version=$(awk '$1 == "require" && $2 ~ /govmomi$/ { print $3 }' "$sources/go.mod")
mkdir -p .tools/bin
bin=$PWD/.tools/bin
(cd "$sources" && GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "-X github.com/vmware/govmomi/cli/flags.BuildVersion=$version" -o "$bin/" ./govc ./vcsim)
echo "$stamp" >.tools/gotools.stamp
