#!/usr/bin/env python3
"""A tiny chat service in Python, without any library: the business side of imserver.

Browsers and apps talk to this service; it alone talks to imserver's API. Needs Python 3.10 or newer.

    imserver --api 127.0.0.1:7001 --api-key none
    python3 examples/api/app.py 8081

    GET  /?user=1                                       -> a page for user 1
    POST /login             {"user": 1}                 -> {"session": "..."}
    POST /address                                       -> {"url": "ws://..."}
    POST /rooms/lobby/join
    POST /rooms/lobby/say   {"text": "hello, all"}
    POST /say               {"to": 2, "text": "hello"}
    POST /kick              {"user": 2}                 for those in APP_ADMINS

All but the login bring the session: "Authorization: Bearer ...". What a real service has and this one leaves
out: a password at the login, sessions that end, who may read and write where, a history, and TLS.
"""

import hashlib
import hmac
import json
import os
import secrets
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

API = os.environ.get("IMSERVER_API", "http://127.0.0.1:7001")
KEY = os.environ.get("IMSERVER_API_KEY", "")
ADMINS = {int(user) for user in os.environ.get("APP_ADMINS", "1").split(",")}
# Under which names browsers may come: a foreign page can have its own name lead here.
HOSTS = {"localhost", "127.0.0.1", "[::1]", os.environ.get("APP_HOST", "localhost")}
SECRET = secrets.token_bytes(32)

BODY = 64 * 1024  # the largest, in bytes
REFUSED_BODY = 1024 * 1024  # so much of a larger one is read, or its sender would not see the answer
REQUEST_TIME = 20  # seconds for a whole request, imserver's part included
CONNECTIONS = 200
ROOMS = 20  # of one user
ROOM_NAME = 100
PER_SECOND, AT_ONCE = 5, 20  # what one user does; logins of one address

HERE = Path(__file__).resolve().parent
FILES = {
    "/": (HERE / "page.html", "text/html; charset=utf-8"),
    "/im.js": (HERE.parent.parent / "client" / "im.js", "text/javascript; charset=utf-8"),
}
# The parts of im.js.
for part in (HERE.parent.parent / "client" / "im").glob("*.js"):
    FILES["/im/" + part.name] = (part, "text/javascript; charset=utf-8")


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def im(method, path, body=None):
    """Asks imserver.

    Tries again when nothing was done (503), and where doing it twice is doing it once. A POST that may have been
    carried out is not sent again: what must not get lost, an order for example, needs an Idempotency-Key for
    that. A line of a chat does not; imserver would keep its key for ten minutes.
    """
    headers = {"Content-Type": "application/json"}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    data = None if body is None else json.dumps(body).encode()
    for pause in (0.2, 1, None):
        request = urllib.request.Request(API + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if pause is None or error.code != 503:
                raise Refused(502, f"imserver: {json.loads(error.read())['detail']}") from error
        except OSError as error:
            if pause is None or method == "POST":
                raise Refused(502, f"imserver: {error}") from error
        time.sleep(pause)


class Pace:
    """How often somebody may do something."""

    def __init__(self):
        self.lock, self.known = threading.Lock(), {}

    def take(self, who):
        now = time.monotonic()
        with self.lock:
            if len(self.known) > 10_000:
                # Whoever is full again need not be known.
                full = now - AT_ONCE / PER_SECOND
                self.known = {key: left for key, left in self.known.items() if left[1] > full}
            left, at = self.known.get(who, (AT_ONCE, now))
            left = min(AT_ONCE, left + (now - at) * PER_SECOND)
            if left < 1:
                raise Refused(429, "that was too much at once; wait a moment")
            self.known[who] = (left - 1, now)


pace = Pace()


def session_of(user):
    return f"{user}.{hmac.new(SECRET, str(user).encode(), hashlib.sha256).hexdigest()}"


def user_of(authorization):
    """The user whose session this is: what a request says of itself is nobody's proof."""
    session = (authorization or "").removeprefix("Bearer ")
    user = session.split(".")[0]
    if not user.isascii() or not hmac.compare_digest(session.encode(), session_of(user).encode()):
        raise Refused(401, "log in first")
    pace.take(user)
    return int(user)


def number(value):
    if type(value) is not int or not 0 < abs(value) < 2**53:
        raise Refused(400, f"bad request: {str(value)[:40]} is no user")
    return value


def text_of(body):
    if not isinstance(body.get("text"), str):
        raise Refused(400, "bad request: there is no text")
    return body["text"]


def address(user):
    return im("POST", "/v1/connections", {"client": user, "meta": "app.py"})


def join(room, user):
    if not 0 < len(room) <= ROOM_NAME:
        raise Refused(400, f"the name of a room has 1 to {ROOM_NAME} characters")
    rooms = im("GET", f"/v1/clients/{user}")["channels"]
    if len(rooms) >= ROOMS and room not in rooms:
        raise Refused(409, f"you are in {ROOMS} rooms; more are not possible")
    im("PUT", f"/v1/channels/{quote(room, safe='')}/clients/{user}")


def say_in_room(room, user, text):
    # The rules are ours: imserver would let anybody speak anywhere.
    if room not in im("GET", f"/v1/clients/{user}")["channels"]:
        raise Refused(403, f"{user} is not in {room}")
    message = {"room": room, "from": user, "text": text}
    im("POST", f"/v1/channels/{quote(room, safe='')}/messages", {"sender": user, "message": message})


def say(user, to, text):
    message = {"from": user, "text": text}
    im("POST", "/v1/messages", {"sender": user, "receivers": [to], "message": message, "receipt": True})


def kick(user, whom):
    if user not in ADMINS:
        raise Refused(403, f"{user} may kick nobody")
    im("DELETE", f"/v1/clients/{whom}/connections")


class Service(BaseHTTPRequestHandler):
    def setup(self):
        super().setup()
        # Ends the connection of a peer that takes its time; each read alone would begin anew with every byte.
        self.end = threading.Timer(REQUEST_TIME, self.cut)
        self.end.daemon = True
        self.end.start()

    def cut(self):
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it went by itself

    def finish(self):
        self.end.cancel()
        super().finish()

    def do_GET(self):
        try:
            self.check_host()
            file, kind = FILES.get(self.path.split("?")[0], (None, None))
            if not file:
                raise Refused(404, "there is nothing here")
            self.send(200, kind, file.read_bytes())
        except Refused as refused:
            self.answer(refused.status, {"error": str(refused)})

    def do_POST(self):
        try:
            self.check_host()
            self.check_origin()
            self.answer(200, self.route(self.body()))
        except Refused as refused:
            self.answer(refused.status, {"error": str(refused)})

    def route(self, body):
        if self.path == "/login":
            pace.take(self.client_address[0])
            return {"session": session_of(number(body.get("user")))}
        user = user_of(self.headers["Authorization"])
        match self.path.strip("/").split("/"):
            case ["address"]:
                return address(user)
            case ["rooms", room, "join"]:
                return join(unquote(room), user)
            case ["rooms", room, "say"]:
                return say_in_room(unquote(room), user, text_of(body))
            case ["say"]:
                return say(user, number(body.get("to")), text_of(body))
            case ["kick"]:
                return kick(user, number(body.get("user")))
        raise Refused(404, "there is nothing here")

    def check_host(self):
        host = self.headers["Host"] or ""
        if host.rsplit(":", 1)[0].lower() not in HOSTS and host.lower() not in HOSTS:
            raise Refused(421, "this service does not go by that name; set APP_HOST")

    def check_origin(self):
        """Browsers say which page asks; only our own may."""
        site, origin = self.headers["Sec-Fetch-Site"], self.headers["Origin"]
        own = origin is None or origin.lower().split("://", 1)[-1] == self.headers["Host"].lower()
        if not own or site not in (None, "same-origin", "none"):
            raise Refused(403, "a page of another site may not ask here")

    def body(self):
        # This type alone has a browser ask before another site's page may send it.
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "send application/json")
        length = self.headers["Content-Length"] or ""
        if self.headers["Transfer-Encoding"] or not (length.isascii() and length.isdigit()):
            raise Refused(411, "state the length of the body")
        if len(length) > 9 or int(length) > BODY:
            self.rfile.read(min(int(length[:9]), REFUSED_BODY))
            raise Refused(413, f"a request has at most {BODY} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)) or "{}")
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"bad request: {error}") from error
        if not isinstance(body, dict):
            raise Refused(400, "bad request: the body is no object")
        return body

    def answer(self, status, body):
        self.send(status, "application/json", json.dumps(body or {}).encode())

    def send(self, status, kind, data):
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the peer went

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """One thread for each connection, and a bound on them."""

    seats = threading.BoundedSemaphore(CONNECTIONS)
    # Connections that wait to be accepted; five by default.
    request_queue_size = 128

    def process_request(self, request, client_address):
        if not self.seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.seats.release()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8081
    try:
        server = Server(("127.0.0.1", port), Service)
    except OSError as error:
        sys.exit(f"app.py: cannot listen on 127.0.0.1:{port}; name another port ({error.strerror})")
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
