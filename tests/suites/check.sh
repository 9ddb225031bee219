#!/usr/bin/env bash
# Suites and clients that others wrote, against real nodes: `tests/suites/check.sh [SUITE ..]`, all by default. Each holds
# what it expects as data, in the file of its name. Needs Debian or a relative of it, a Rust toolchain and, the first time,
# the network. What cannot be installed is a failure here, never a pass.
set -euo pipefail
cd "$(dirname "$0")/../.."

suites=("$@")
[ $# -gt 0 ] || suites=(autobahn clients tls slow)
scripts/install-missing redis-server=redis-server python3=python3 node=nodejs npm=npm openssl=openssl \
    testssl=testssl.sh sslscan=sslscan slowhttptest=slowhttptest
scripts/install-missing python3:ensurepip=python3-venv
cargo build --locked --bin imserver --example echo

failed=()
for suite in "${suites[@]}"; do
    python3 "tests/suites/$suite.py" || failed+=("$suite")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "not as expected: ${failed[*]}" >&2
    exit 1
fi
