"""slowhttptest against each listener of a real node, while others are served: clients of another address connect and hear
messages, API and admin listener answer."""

import json
import socket
import subprocess
import threading

from lab import Cluster, Results, eventually

CONNECTIONS, SECONDS = 600, 8
# What it does: heads that never end, bodies that never end, answers that are read slowly.
ATTACKS = {"heads": ["-H", "-i", "1"], "bodies": ["-B", "-i", "1", "-f", "application/json"], "reading": ["-X", "-n", "1"]}
HEAD = ("GET /{target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def connect(cluster, client):
    """A client from an address of its own, online."""
    address = cluster.address(client)
    stream = socket.socket()
    stream.settimeout(30)
    stream.bind(("127.0.0.77", 0))
    stream.connect(("127.0.0.1", cluster.listen[0]))
    stream.sendall(HEAD.format(target=address.split("/", 3)[3]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = stream.recv(1)
        if not more:
            break
        head += more
    assert head.startswith(b"HTTP/1.1 101"), head
    eventually("online", lambda: cluster.is_online(client))
    return stream


def hears(cluster, stream, client, value):
    cluster.call("POST", "/v1/messages", {"receivers": [client], "message": value})
    frame = b"\x81" + bytes([len(json.dumps(value))]) + json.dumps(value).encode()
    heard = b""
    while len(heard) < len(frame):
        more = stream.recv(len(frame) - len(heard))
        if not more:
            break
        heard += more
    return heard == frame


def main():
    results = Results("slow")
    with Cluster(1, limits={"ping_after": 600}) as cluster:
        stream = connect(cluster, 1)
        number = 2
        for name, port, path in [("handshakes", cluster.listen[0], "/ws"), ("API", cluster.api[0], "/v1/clients/online"),
                                 ("admin", cluster.admin[0], "/stats")]:
            for attack, options in ATTACKS.items():
                if name == "handshakes" and attack != "heads":
                    continue
                words = ["slowhttptest", "-c", CONNECTIONS, "-r", 300, "-l", SECONDS, *options, "-u", f"http://127.0.0.1:{port}{path}"]
                attacker = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL)
                ended = threading.Event()
                threading.Thread(target=lambda: (attacker.wait(), ended.set()), daemon=True).start()
                rounds = 0
                while not ended.wait(0.5):
                    case = f"{attack} at {name}"
                    results.expect(f"{case}: message", hears(cluster, stream, 1, f"n{number}"), True)
                    connect(cluster, number).close()
                    results.expect(f"{case}: admin", cluster.call("GET", "/health/ready", admin=True)[0], 200)
                    number, rounds = number + 1, rounds + 1
                results.expect(f"{attack} at {name}: was watched", rounds > 0, True)
        results.expect("memory stays small", cluster.memory(0) < 64 << 20, True)
    results.end()


main()
