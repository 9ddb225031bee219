#!/usr/bin/env bash
# Plays "A cluster in five minutes" of the README as it stands there, with a browser for what a reader would
# click. Needs Debian or a relative of it, Node 20 and a Rust toolchain; installs the rest. As root it has a
# network of its own; otherwise the ports of the README must be free.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts/install-missing redis-server=redis-server python3=python3 curl=curl prometheus=prometheus \
    openssl=openssl nginx=nginx-light chromium=chromium ip=iproute2

cargo build --release --locked
rm -rf target/tour
# A browser without any network device is "offline", and then does not even try; one that is given an address while it loads
# a page breaks that off. So the device has no address but this one, and is up before the browser starts.
network='ip link set lo up && ip link add eth0 type veth peer name eth1 &&
    ip link set eth0 addrgenmode none && ip link set eth1 addrgenmode none && ip address add 192.0.2.1/24 dev eth0 &&
    ip link set eth1 up && ip link set eth0 up && until ip link show eth0 | grep -q "state UP"; do sleep 0.1; done'
play='PATH=$PATH:/usr/sbin exec node tests/tour/check.mjs'
alone=(unshare --net --pid --fork --kill-child --mount-proc)
if "${alone[@]}" bash -c "$network" 2>/dev/null; then
    "${alone[@]}" bash -c "$network && $play"
else
    bash -c "$play"
fi
