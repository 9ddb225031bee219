"""Obeys commands from standard input with the library `websockets`; one JSON value per line both ways."""

import json
import ssl
import sys
import threading

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

lock = threading.Lock()
# Two threads share a socket here. Under TLS 1.3 the one that reads may lose what the other writes while the
# server's session ticket comes in, whatever the server.
context = ssl.create_default_context()
context.maximum_version = ssl.TLSVersion.TLSv1_2


def tell(**event):
    with lock:
        print(json.dumps(event), flush=True)


def listen(socket):
    try:
        while True:
            tell(event="text", text=socket.recv())
    except ConnectionClosed as end:
        frame = end.rcvd
        code, reason = (frame.code, frame.reason) if frame else (1006, "")
        tell(event="closed", code=code, reason=reason, clean=bool(frame and end.sent))


def open_socket(url):
    try:
        socket = connect(url, max_size=None, ssl=context if url.startswith("wss:") else None)
    except InvalidStatus as refusal:
        tell(event="refused", status=refusal.response.status_code)
        return None
    tell(event="open")
    threading.Thread(target=listen, args=(socket,), daemon=True).start()
    return socket


socket = None
for line in sys.stdin:
    command = json.loads(line)
    if "open" in command:
        socket = open_socket(command["open"])
    else:
        socket.close(command["close"], "bye")
