#!/usr/bin/env python3
"""Writes what was recorded of the .NET original (`tests/fixtures/wire`) as inputs for cargo-fuzz: `fuzz/corpus/TARGET/`.

The tests read the same records directly; see `mutations` in `testkit`.
"""

import json
from pathlib import Path

fuzz = Path(__file__).parent
wire = fuzz.parent / "tests/fixtures/wire"


def recorded(member, *names):
    for name in names:
        for line in (wire / name).read_text(encoding="utf-8").splitlines():
            yield json.loads(line)[member]


def body(payload):
    return payload.partition(")")[2] if payload.startswith("__FreeIM__(") else payload


payloads = list(recorded("payload", "published.jsonl", "tolerance.jsonl"))
for target, inputs in {
    "envelope": payloads,
    "lenient_json": map(body, payloads),
    "ticket": recorded("value", "token_values.jsonl"),
}.items():
    folder = fuzz / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(inputs):
        (folder / f"recorded_{number}").write_bytes(text.encode())
