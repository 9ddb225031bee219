#!/usr/bin/env python3
"""Events that nobody misses, in Python without any library: README.md beside this says what it does.

    python3 events.py billing ledger.txt
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import quote

API = os.environ.get("IMSERVER_API", "http://127.0.0.1:7001")
KEY = os.environ.get("IMSERVER_API_KEY", "")
SILENCE = 30  # seconds; imserver says something every 10


def ask(path, body=None, headers=()):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **dict(headers)}
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(API + path, data, headers), timeout=SILENCE)


def who_is_online():
    clients, query = [], ""
    while True:
        with ask(f"/v1/clients?limit=1000{query}") as answer:
            page = json.load(answer)
        clients += page["clients"]
        if page["next"] is None:
            return clients
        query = "&after=" + quote(page["next"], safe="")


class Ledger:
    """Stands for your database."""

    def __init__(self, path):
        self.file = open(path, "a+")
        self.file.seek(0)
        self.known = {line.split(" ", 1)[0] for line in self.file}

    def write(self, *words):
        print(*words, file=self.file, flush=True)

    def handle(self, kind, event):
        """What comes a second time has the same id, and changes nothing."""
        if event["id"] not in self.known:
            self.write(event["id"], kind, event.get("client") or "-", event.get("reason") or "-")
            self.known.add(event["id"])

    def missed(self, count):
        """Some were never told: what is true now replaces what they would have said."""
        self.write("-", "missed", count, "online", len(who_is_online()))


def told(stream):
    """Kind, data and position of each event."""
    fields = {}
    for line in stream:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id")
            fields = {}
    raise OSError("the stream has ended")


def main(group, path):
    ledger, last, pause = Ledger(path), None, 0.5
    while True:
        try:
            headers = {"Last-Event-ID": last} if last else {}
            with ask("/v1/events?group=" + quote(group, safe=""), headers=headers) as stream:
                for kind, data, position in told(stream):
                    if kind == "missed":
                        ledger.missed(data["missed"])
                        done = {"group": group, "missed": data["missed"] or 0}
                    else:
                        ledger.handle(kind, data)
                        done = {"group": group, "ids": [data["id"]]}
                    ask("/v1/events/acknowledgements", done).close()
                    last, pause = position or last, 0.5
        except (OSError, ValueError) as error:
            print("once more:", error, file=sys.stderr)
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(pause * 2, 30)


if __name__ == "__main__":
    main(*sys.argv[1:])
