#!/usr/bin/env bash
# wss through nginx, HAProxy and Caddy with the configurations of deploy/, to three nodes on one Redis. Needs Debian or
# a relative of it, and a Rust toolchain; installs the rest. EDGE_LONG=1 also runs what takes 100 s.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/install-missing nginx=nginx-light haproxy=haproxy caddy=caddy redis-server=redis-server openssl=openssl

leave_out=(--skip a_silent_connection)
[ -z "${EDGE_LONG:-}" ] || leave_out=()
cargo test --locked --test edge -- --ignored "${leave_out[@]}"
