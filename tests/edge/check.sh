#!/usr/bin/env bash
# wss through nginx, HAProxy and Caddy with the configurations of deploy/, to three nodes on one Redis. Needs Debian or
# a relative of it, and a Rust toolchain; installs the rest. EDGE_ARGS=--include-ignored also runs what takes 100 s.
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A packages=([nginx]=nginx-light [haproxy]=haproxy [caddy]=caddy [redis-server]=redis-server
    [openssl]=openssl)
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

# shellcheck disable=SC2086
IMCORE_EDGE=required cargo test --locked --test edge -- ${EDGE_ARGS:-}
