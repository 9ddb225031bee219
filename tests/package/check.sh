#!/usr/bin/env bash
# Packs the crates as a registry would get them, and checks what is in them: metadata, licences, files, and a build
# of the library that sends a message. Asks a registry only for what Cargo.lock names.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*"; }

scripts/install-missing python3=python3
cargo fetch --locked

step "metadata"
export PYTHONDONTWRITEBYTECODE=1
python3 tests/package/metadata.py

step "licences, bans, sources; the notices of others"
python3 tests/package/deny.py
if ! scripts/components notices | diff -q THIRD-PARTY.txt - >/dev/null; then
    echo "THIRD-PARTY.txt is not of this Cargo.lock: scripts/components notices > THIRD-PARTY.txt" >&2
    exit 1
fi
scripts/components sbom >/dev/null

step "packages"
# Uncommitted changes are somebody's work, not this check's matter. Targets that no package holds are left out of it.
cargo package --allow-dirty --locked --offline --no-verify -p imcore -p imserver 2>&1 | grep -v '^warning: ignoring '
for name in imcore imserver; do
    file=$(ls -t target/package/$name-*.crate | head -n 1)
    listed=$(tar -tzf "$file" | cut -d / -f 2-)
    grep -qx LICENSE <<<"$listed" && grep -qx README.md <<<"$listed"
    if grep -E '\.(png|svg)$|^tests/|fixture' <<<"$listed"; then
        echo "$file holds what only this repository needs" >&2
        exit 1
    fi
    # A quarter above what it was when this was written.
    limit=655360
    [ "$(stat -c %s "$file")" -le $limit ] || { echo "$file has more than $limit bytes" >&2; exit 1; }
done

step "a message, with the library from its package"
rm -rf target/unpacked
mkdir -p target/unpacked
tar -xzf "$(ls -t target/package/imcore-*.crate | head -n 1)" -C target/unpacked --strip-components 1
# Into the folder of all builds: most dependencies are there already.
export CARGO_TARGET_DIR=$PWD/target
manifest=target/unpacked/Cargo.toml
cargo run --locked --offline --quiet --manifest-path $manifest --features server --example hello_push

step "all passed"
