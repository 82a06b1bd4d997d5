#!/usr/bin/env bash
# ./kubernetes.sh v1.36.3: takes this release of Kubernetes. Its own go.mod replaces every staging module by a folder
# of its tree; as a library it wants each replaced by the release of the same name (v0.36.3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
release=$1
staging=v0.${release#v1.}
go mod edit -require="k8s.io/kubernetes@$release"
manifest=$(go mod download -json "k8s.io/kubernetes@$release" | jq -r .GoMod)
for module in $(go mod edit -json "$manifest" | jq -r '.Replace[].Old.Path'); do
  go mod edit -replace="$module=$module@$staging"
done
go mod tidy
