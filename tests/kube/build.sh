#!/usr/bin/env bash
# ./build.sh DIRECTORY: builds the laboratory's programs into DIRECTORY (about ten minutes and 5 GB of Go caches the
# first time, on two cores). One CGO setting for all of them, or nearly everything would be compiled twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
into=$1
mkdir -p "$into/tools"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly
release=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${release#v1.}
minor=${minor%%.*}
# kubectl and the suite refuse the version that a build without these says.
stamp="-X k8s.io/component-base/version.gitVersion=$release -X k8s.io/component-base/version.gitMajor=1"
stamp+=" -X k8s.io/component-base/version.gitMinor=$minor"

echo "downloading modules"
go mod download
for name in criproc labdns kube; do
  echo "building $name"
  go build -ldflags "-s -w $stamp" -o "$into/$name" "./$name"
done
echo "building agnhost"
go build -ldflags "-s -w" -o "$into/agnhost" k8s.io/kubernetes/test/images/agnhost
echo "building the suite"
go test -c -ldflags "-s -w $stamp" -o "$into/e2e.test" ./e2e

printf '#!/bin/sh\nexec "%s/kube" kubectl "$@"\n' "$into" >"$into/kubectl"
# What the suite's images have and this machine has in another kind: BusyBox's wget tries once, GNU's twenty times.
printf '#!/bin/sh\nexec /usr/bin/wget --tries=1 "$@"\n' >"$into/tools/wget"
ln -sfn /usr/bin/nc.openbsd "$into/tools/nc"
chmod +x "$into/kubectl" "$into/tools/wget"
touch "$into/complete"
