#!/usr/bin/env bash
# wss through nginx, HAProxy and Caddy with the configurations of deploy/, to three nodes on one Redis. Needs Debian or
# a relative of it, and a Rust toolchain; installs the rest. EDGE_ARGS=--include-ignored also runs what takes 100 s.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/install-missing nginx=nginx-light haproxy=haproxy caddy=caddy redis-server=redis-server openssl=openssl

# shellcheck disable=SC2086
IMCORE_EDGE=required cargo test --locked --test edge -- ${EDGE_ARGS:-}
