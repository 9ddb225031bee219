"""Real nodes on a Redis of their own, for suites and clients that others wrote. Used by the files beside it; knows the
program from outside only: flags, configuration file, HTTP API."""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target" / "suites"
PATIENCE = 30


def eventually(what, condition):
    """Asks again until the answer is yes, and returns it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not: {what}")
        time.sleep(0.02)


def free_ports(count):
    """Below those that the kernel gives to outgoing connections, which could take one before its server does."""
    ports = []
    for port in random.sample(range(10_000, 12_000), 2_000):
        if len(ports) == count:
            break
        try:
            socket.create_server(("127.0.0.1", port)).close()
            ports.append(port)
        except OSError:
            pass
    return ports


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def certificate(folder):
    """A leaf certificate for localhost, signed by an authority of its own: paths of authority, certificate, key."""
    folder = Path(folder)
    ca, ca_key, leaf, key, request, extra = (
        folder / name for name in ("ca.pem", "ca.key", "leaf.pem", "leaf.key", "leaf.csr", "leaf.ext")
    )
    extra.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 365, "-subj", "/CN=imcore test authority",
            "-keyout", ca_key, "-out", ca)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", 365,
            "-extfile", extra, "-out", leaf)
    return ca, leaf, key


class Cluster:
    """Some nodes on one Redis; `with Cluster(..) as cluster`."""

    def __init__(self, nodes=2, secure=False, limits=None):
        self.folder = Path(tempfile.mkdtemp(prefix="imcore-suites-"))
        self.key = secrets.token_hex(16)
        self.secure = secure
        self.ca = None
        settings = {"limits": limits or {}}
        if secure:
            self.ca, leaf, leaf_key = certificate(self.folder)
            settings |= {"tls_cert": str(leaf), "tls_key": str(leaf_key)}
        config = self.folder / "imserver.json"
        config.write_text(json.dumps(settings))
        redis_port, *ports = free_ports(1 + 3 * nodes)
        self.listen, self.api, self.admin = ports[:nodes], ports[nodes:2 * nodes], ports[2 * nodes:]
        self.processes = [self._start("redis", [
            "redis-server", "--port", redis_port, "--bind", "127.0.0.1", "--save", "", "--dir", self.folder])]
        eventually("redis", lambda: answers(redis_port))
        names = [f"localhost:{port}" for port in self.listen]
        program = os.environ.get("IMSERVER", str(ROOT / "target" / "debug" / "imserver"))
        for index, name in enumerate(names):
            self.processes.append(self._start(f"node-{index}", [
                program, "--config", config, "--redis", f"redis://127.0.0.1:{redis_port}",
                "--servers", ",".join(names), "--server", name, "--listen", f"127.0.0.1:{self.listen[index]}",
                "--api", f"127.0.0.1:{self.api[index]}", "--admin", f"127.0.0.1:{self.admin[index]}"]))
        for index in range(nodes):
            eventually(f"node {index} ready", lambda: self.call("GET", "/health/ready", node=index, admin=True)[0] == 200)

    def _start(self, name, words):
        log = open(self.folder / f"{name}.log", "wb")
        env = os.environ | {"IMSERVER_API_KEY": self.key, "IMSERVER_ADMIN_TOKEN": self.key}
        return subprocess.Popen(list(map(str, words)), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        for log in self.folder.glob("node-*.log"):
            if "panicked" in log.read_text(errors="replace"):
                raise AssertionError(f"a node panicked:\n{log.read_text(errors='replace')}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, node=0, admin=False):
        """Status and JSON of one request to a node's API, or to its admin listener."""
        port = (self.admin if admin else self.api)[node]
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if body is not None:
            request.data = json.dumps(body, ensure_ascii=False).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text[:1] in b"{[" and text else None
        except urllib.error.HTTPError as refusal:
            return refusal.code, None
        except OSError:
            return 0, None

    def address(self, client):
        status, answer = self.call("POST", "/v1/connections", {"client": client})
        assert status == 201, f"no address for {client}: {status}"
        return answer["url"]

    def is_online(self, client):
        status, answer = self.call("GET", f"/v1/clients/{client}")
        return status == 200 and answer["online"]

    def memory(self, node):
        """Resident bytes of a node."""
        status = Path(f"/proc/{self.processes[1 + node].pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))

    def terminate(self, node):
        self.processes[1 + node].send_signal(signal.SIGTERM)


def python_tools(name, *packages):
    """A virtual environment with these packages, made once: its `python`."""
    folder = TOOLS / name
    python = folder / "bin" / "python"
    mark = folder / "packages"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        subprocess.run(["python3", "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        mark.write_text(" ".join(packages))
    return python


def node_tools(*packages):
    """A folder with these npm packages, made once."""
    folder = TOOLS / "node"
    mark = folder / "packages"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", folder, *packages], check=True)
        mark.write_text(" ".join(packages))
    return folder


class Results:
    """Counts what a suite came to, against the result that is expected of it."""

    def __init__(self, suite):
        self.suite, self.passed, self.failed = suite, 0, []

    def expect(self, case, seen, expected):
        if seen == expected:
            self.passed += 1
        else:
            self.failed.append(f"{case}: {seen!r} instead of {expected!r}")

    def end(self):
        for line in self.failed:
            print(f"  {line}")
        print(f"{self.suite}: {self.passed} passed, {len(self.failed)} failed", flush=True)
        raise SystemExit(bool(self.failed))
