"""A WebSocket client that reads what it is sent: at an address, or with a token of its own making."""

import json
import secrets
import socket
import subprocess
from urllib.parse import urlsplit


class Socket:
    def __init__(self, url):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self.socket.sendall((f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        self.input = self.socket.makefile("rb")
        status = self.input.readline().decode().split(" ", 2)[1]
        assert status == "101", f"refused with {status}"
        while self.input.readline().strip():
            pass

    def frame(self):
        """Opcode and content of the next frame; all that are expected are short."""
        first, length = self.input.read(2)
        return first & 15, self.input.read(length)

    def closed(self):
        """The code that the server closes with."""
        while True:
            opcode, content = self.frame()
            if opcode == 8:
                # Masked with zeros: the same bytes back.
                self.socket.sendall(bytes([0x88, 0x80 | len(content), 0, 0, 0, 0]) + content)
                return int.from_bytes(content[:2], "big")


class Client(Socket):
    def __init__(self, redis_port, port, client):
        """Client number `client` at 127.0.0.1:port; its ticket is put where the helper puts it."""
        token = secrets.token_hex(16)
        ticket = json.dumps({"Item1": client, "Item2": None}, separators=(",", ":"))
        self.redis = ["redis-cli", "-p", str(redis_port)]
        stored = subprocess.run([*self.redis, "set", f"im_v2_wsToken{token}", ticket, "EX", "10"], check=True,
                                text=True, stdout=subprocess.PIPE)
        assert stored.stdout == "OK\n", stored.stdout
        super().__init__(f"ws://127.0.0.1:{port}/ws?token={token}")
