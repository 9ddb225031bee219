#!/usr/bin/env bash
# Tries the API against its own OpenAPI document: thousands of good and bad requests, made up from the
# document by schemathesis. Needs redis-server, python3 and, the first time, the network.
#   tests/api/check.sh PATH_OF_IMSERVER [options of `schemathesis run`]
set -euo pipefail
imserver=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."

tools=target/api-check
if [ ! -x "$tools/bin/schemathesis" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.32.5'
fi

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
# Below those that the kernel gives to outgoing connections.
port=$((10000 + RANDOM % 2000))
redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/redis" 2>&1 &
key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
# Nobody takes webhooks there, so whoever joins a channel makes a dead letter.
export IMSERVER_WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)
IMSERVER_API_KEY=$key "$imserver" --listen 127.0.0.1:0 --api 127.0.0.1:0 --server n --servers n,other --prefix any_ids \
    --redis "redis://127.0.0.1:$port" --events 1000 --webhook-url http://127.0.0.1:1/ --webhook-allow http,127.0.0.1 \
    --webhook-give-up 0 --webhook-retry 0.01 2>"$work/imserver" &

address() { sed -n 's|.*API at \(http://[^/]*\)/.*|\1|p' "$work/imserver"; }
deadline=$((SECONDS + 30))
until [ -n "$(address)" ] && redis-cli -p "$port" ping >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { cat "$work/imserver" "$work/redis" >&2; exit 1; }
    sleep 0.1
done

# One worker: Python 3.11 cannot parse its own code in two threads at once. It leaves notes of what it found where it runs. Streams, of
# events and of what is followed, have no end or a late one; tests of their own read them.
config=$PWD/tests/api/schemathesis.toml
cd "$tools"
bin/schemathesis --config-file "$config" run "$(address)/openapi.json" \
    --header "Authorization: Bearer $key" --exclude-operation-id watchEvents --exclude-operation-id follow \
    --checks all --phases examples,coverage,fuzzing --max-examples 25 --max-time 40 --seed 1 \
    --request-timeout 10 --workers 1 --no-color "$@" || status=$?
if grep -q panicked "$work/imserver"; then
    cat "$work/imserver" >&2
    exit 1
fi
exit "${status:-0}"
