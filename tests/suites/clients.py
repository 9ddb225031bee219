"""WebSocket clients that others wrote, on two real nodes with Redis, by ws and by wss. `clients.json` holds which, at
which version, and what is expected of each where it differs from the plain result."""

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from lab import PATIENCE, Cluster, Results, eventually, node_tools, python_tools

HERE = Path(__file__).parent
# Short, so that some pings pass while a client only waits.
LIMITS = {"ping_after": 1, "pong_within": 4, "sweep": 0.5}
TEXTS = ["", "x", "😀 👩‍👩‍👧 e\u0301 \u2028 \" \\", "y" * 123, "y" * 124, "z" * 65533, "z" * 65534, "中" * 65536]
TEXTS += [f"burst {number}" for number in range(300)]
# So many clients start at a time: an address is good for ten seconds, and all at once they take longer.
STARTS = threading.Semaphore(os.cpu_count() or 1)


class Client:
    """A client program at work."""

    def __init__(self, words, url, texts, ca):
        env = os.environ | ({"SSL_CERT_FILE": str(ca), "NODE_EXTRA_CA_CERTS": str(ca), "DENO_CERT": str(ca),
                             "WEBSOCKET_CLIENT_CA_BUNDLE": str(ca)} if ca else {})
        words = [word.format(url=url, texts=texts) for word in words]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.lines = queue.Queue()
        self.errors = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put({"ended": True})

    def next(self):
        try:
            return self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            return {"silent": b"".join(self.errors[-5:]).decode(errors="replace")}

    def stop(self):
        self.process.kill()
        self.process.wait()


class Story:
    """What one client sees of a cluster; each step is compared with what is expected."""

    def __init__(self, name, words, cluster, secure, number, expected, results):
        self.name, self.words, self.cluster, self.results = name, words, cluster, results
        self.scheme = "wss" if secure else "ws"
        self.expected = expected
        # Two numbers of its own: even ones belong to the first node.
        self.first, self.second = 4 * number + 2, 4 * number + 3

    def expect(self, step, seen, plain):
        for key in (f"{self.scheme} {step}", step):
            if key in self.expected:
                plain = self.expected[key]
                break
        self.results.expect(f"{self.name} {self.scheme}: {step}", seen, plain)

    def start(self, address, texts=0):
        """A client at an address of its own, and the first that it says."""
        with STARTS:
            client = Client(self.words, address(), texts, self.cluster.ca)
            return client, client.next()

    def connect(self, client_id, texts=0):
        client, first = self.start(lambda: self.cluster.address(client_id), texts)
        self.expect("opens", first, {"open": True})
        eventually(f"{self.name}: {client_id} online", lambda: self.cluster.is_online(client_id))
        return client

    def ending(self, client):
        """Code and reason; of libraries that keep no reason the code."""
        end = client.next()
        code, reason = end.get("closed", [end, None])
        return code if reason is None else [code, reason]

    def texts_and_own_close(self):
        client = self.connect(self.first, len(TEXTS))
        seen, sent = [], []
        for value in TEXTS:
            raw = json.dumps(value, ensure_ascii=False).encode()
            sent.append({"text": hashlib.sha256(raw).hexdigest()})
        for start in range(0, len(TEXTS), 100):
            messages = [{"receivers": [self.first], "message": value} for value in TEXTS[start:start + 100]]
            self.results.expect("batch", self.cluster.call("POST", "/v1/messages/batch", {"messages": messages})[0], 202)
        for text in sent:
            seen.append(client.next())
            if seen[-1] != text:
                break
        self.expect("texts", sent == seen or (len(seen), seen[-1]), True)
        self.expect("own close", self.ending(client), [1000, "bye"])
        eventually(f"{self.name}: offline", lambda: not self.cluster.is_online(self.first))
        client.stop()

    def silence_and_kick(self):
        client = self.connect(self.first)
        mute = 3 * (LIMITS["ping_after"] + LIMITS["pong_within"])
        try:
            early = client.lines.get(timeout=mute if self.expected.get("silence") else 2 * LIMITS["ping_after"] + 1)
        except queue.Empty:
            early = None
        self.expect("silence", early, None)
        self.cluster.call("DELETE", f"/v1/clients/{self.first}/connections")
        if early is None:
            self.expect("kick", self.ending(client), [4001, "kicked"])
        client.stop()

    def refusals(self):
        urls = []

        def once():
            urls.append(self.cluster.address(self.first))
            return urls[0]

        client, first = self.start(once)
        self.expect("opens", first, {"open": True})
        client.stop()
        client, first = self.start(lambda: urls[0])
        self.expect("used token", first, {"refused": 401})
        client.stop()
        client, first = self.start(lambda: self.at_first(self.cluster.address(self.second)))
        self.expect("other node", first, {"refused": 421})
        client.stop()

    def stay(self):
        self.staying = self.connect(self.first)

    def stop(self):
        self.expect("stop", self.ending(self.staying), [1001, "server is stopping"])
        self.staying.stop()

    def safely(self, step):
        """The step, whose breakdown is a failure of this client and does not hold up the others."""
        def run():
            try:
                step(self)
            except (AssertionError, AttributeError, TimeoutError) as error:
                self.expect(step.__name__, str(error), "done")
        return run

    def at_first(self, url):
        """The address of another node's client, at the first node."""
        ports = self.cluster.listen
        return url.replace(f":{ports[1]}/", f":{ports[0]}/")


def main():
    results = Results("clients")
    table = json.loads((HERE / "clients.json").read_text())
    chosen = sys.argv[1:] or list(table["clients"])
    python = python_tools("clients", *table["python"])
    node = node_tools(*table["npm"])
    places = {"{python}": str(python), "{bin}": str(node / "node_modules/.bin"), "{here}": str(HERE / "clients"),
              "{node}": str(node)}
    for secure in (False, True):
        with Cluster(2, secure, LIMITS) as cluster:
            stories = []
            for number, name in enumerate(chosen):
                entry = table["clients"][name]
                words = [fill(word, places) for word in entry["command"]]
                stories.append(Story(name, words, cluster, secure, number, entry.get("expected", {}), results))
            for step in (Story.texts_and_own_close, Story.refusals, Story.silence_and_kick, Story.stay):
                together([story.safely(step) for story in stories])
            cluster.terminate(0)
            together([story.safely(Story.stop) for story in stories])
    results.end()


def fill(word, places):
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def together(steps):
    threads = [threading.Thread(target=step) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
