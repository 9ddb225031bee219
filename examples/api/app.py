#!/usr/bin/env python3
"""A tiny chat service in Python, without any library: the business side of imserver.

Browsers and apps talk to this service; it alone talks to imserver's API. Needs Python 3.10 or newer.

    imserver --api 127.0.0.1:7001 --api-key none
    python3 examples/api/app.py 8080

    GET  /?user=1                                                  -> a page for user 1
    POST /login             {"user": 1}                           -> {"url": "ws://..."}
    POST /rooms/lobby/join  {"user": 1}
    POST /rooms/lobby/say   {"user": 1, "text": "hello, all"}
    POST /say               {"user": 1, "to": 2, "text": "hello"}
    POST /kick              {"user": 2}

A real service takes the user from its own session, and asks who may kick.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

API = os.environ.get("IMSERVER_API", "http://127.0.0.1:7001")
KEY = os.environ.get("IMSERVER_API_KEY", "")

HERE = Path(__file__).resolve().parent
FILES = {
    "/": (HERE / "page.html", "text/html; charset=utf-8"),
    "/im.js": (HERE.parent.parent / "client" / "im.js", "text/javascript; charset=utf-8"),
}
# The parts of im.js.
for part in (HERE.parent.parent / "client" / "im").glob("*.js"):
    FILES["/im/" + part.name] = (part, "text/javascript; charset=utf-8")


def im(method, path, body=None):
    """Asks imserver. The key makes it safe to try again: the request is carried out once."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    data = None if body is None else json.dumps(body).encode()
    for pause in (0.2, 1, None):
        request = urllib.request.Request(API + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if pause is None or error.code not in (409, 503):
                raise RuntimeError(json.loads(error.read())["detail"]) from error
        except OSError:
            if pause is None:
                raise
        time.sleep(pause)


def login(user):
    return im("POST", "/v1/connections", {"client": user, "meta": "app.py"})


def join(room, user):
    im("PUT", f"/v1/channels/{quote(room, safe='')}/clients/{user}")


def say_in_room(room, user, text):
    # The rules are ours: imserver would let anybody speak anywhere.
    if room not in im("GET", f"/v1/clients/{user}")["channels"]:
        raise PermissionError(f"{user} is not in {room}")
    message = {"room": room, "from": user, "text": text}
    im("POST", f"/v1/channels/{quote(room, safe='')}/messages", {"sender": user, "message": message})


def say(user, to, text):
    message = {"from": user, "text": text}
    im("POST", "/v1/messages", {"sender": user, "receivers": [to], "message": message, "receipt": True})


def kick(user):
    im("DELETE", f"/v1/clients/{user}/connections")


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        file, kind = FILES.get(self.path.split("?")[0], (None, None))
        if file:
            self.send(200, kind, file.read_bytes())
        else:
            self.answer(404, {"error": "there is nothing here"})

    def do_POST(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            user = int(body["user"])
            match self.path.strip("/").split("/"):
                case ["login"]:
                    self.answer(200, login(user))
                case ["rooms", room, "join"]:
                    self.answer(200, join(unquote(room), user))
                case ["rooms", room, "say"]:
                    self.answer(200, say_in_room(unquote(room), user, str(body["text"])))
                case ["say"]:
                    self.answer(200, say(user, int(body["to"]), str(body["text"])))
                case ["kick"]:
                    self.answer(200, kick(user))
                case _:
                    self.answer(404, {"error": "there is nothing here"})
        except PermissionError as error:
            self.answer(403, {"error": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": f"bad request: {error}"})
        except (RuntimeError, OSError) as error:
            self.answer(502, {"error": f"imserver: {error}"})

    def answer(self, status, body):
        self.send(status, "application/json", json.dumps(body or {}).encode())

    def send(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = ThreadingHTTPServer(("127.0.0.1", port), Service)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
