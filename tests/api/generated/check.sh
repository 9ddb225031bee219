#!/usr/bin/env bash
# Makes a client of the API's own document, as a caller would, and compiles code that uses it. Needs Node 20 and,
# the first time, the network.
#   tests/api/generated/check.sh PATH_OF_IMSERVER
set -euo pipefail
imserver=$(realpath "$1")
cd "$(dirname "$0")/../../.."

tools=target/api-generated
mkdir -p "$tools"
if [ ! -d "$tools/node_modules/openapi-fetch" ]; then
    npm install --prefix "$tools" --silent --no-audit --no-fund \
        openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3
fi

log=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -f "$log"' EXIT
IMSERVER_API_KEY=none "$imserver" --listen 127.0.0.1:0 --api 127.0.0.1:0 2>"$log" &
address() { sed -n 's|.*API at \(http://[^/]*\)/.*|\1|p' "$log"; }
deadline=$((SECONDS + 30))
until [ -n "$(address)" ]; do
    [ $SECONDS -lt $deadline ] || { cat "$log" >&2; exit 1; }
    sleep 0.1
done

cp tests/api/generated/use.ts "$tools/"
cd "$tools"
node_modules/.bin/openapi-typescript "$(address)/openapi.json" --output api.d.ts
node_modules/.bin/tsc --noEmit --strict --target es2022 --module nodenext --lib es2022,dom \
    --allowImportingTsExtensions use.ts
echo "the generated client compiles"
