"""Containers without an engine: a tree of files and a command in namespaces of their own (network, mounts, process
ids), as a user without rights, with names that a DNS server on the bridge knows, as Docker's does.

Needs root, in a network and a mount namespace of its own: there everything ends with the process."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

BRIDGE = "10.77.0.1"
# Where a container's root is built. Its own layer holds what an engine puts into every container.
SCRIPT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$LAYER/upper,workdir=$LAYER/work" "$LAYER/root"
mount -o remount,ro "$LAYER/root"
mount -t proc proc "$LAYER/root/proc"
[ -z "$VOLUME" ] || mount --bind "$LAYER/volume" "$LAYER/root$VOLUME"
# A machine may not give as much to its own root.
if [ -n "$FILES" ] && (ulimit -n "$FILES") 2>&-; then ulimit -n "$FILES"; fi
exec setpriv --no-new-privs "$@"
"""


def call(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def eventually(what, condition, seconds=60):
    """Asks again until the answer is yes, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise SystemExit(f"still not: {what}")


@contextlib.contextmanager
def playground():
    """A folder for containers, gone with all that is mounted in it."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="imcore-containers-"))
    # Containers do not run as root and must get through to theirs.
    call("mount", "-t", "tmpfs", "-o", "mode=755", "containers", scratch)
    try:
        yield scratch
    finally:
        # Removed only once it is empty: nothing that is mounted goes with it.
        call("umount", "--recursive", "--lazy", scratch)
        scratch.rmdir()


class Network:
    """The bridge that all containers are connected to, and its DNS server."""

    def __init__(self):
        call("ip", "link", "set", "lo", "up")
        # An address of its own: without, it takes the lowest of its ports', and changes it when that container goes.
        # The others would go on sending to the old one until they ask again.
        call("ip", "link", "add", "bridge", "address", "02:00:0a:4d:00:01", "type", "bridge")
        call("ip", "address", "add", f"{BRIDGE}/24", "dev", "bridge")
        call("ip", "link", "set", "bridge", "up")
        self.names = {}
        self.asked = set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((BRIDGE, 53))
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        """One question, one answer: an address, no such record (3 is "no such name"), or nothing of that type."""
        while True:
            query, peer = self.socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name = ".".join(labels)
            self.asked.add(name)
            question = query[12:at + 5]
            address = self.names.get(name)
            record = b""
            if address and query[at + 2] == 1:
                record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(address)
            code = b"\x81\x80" if address else b"\x81\x83"
            counts = b"\0\1\0" + bytes([bool(record)]) + b"\0\0\0\0"
            self.socket.sendto(query[:2] + code + counts + question + record, peer)

    def address(self, name):
        """The next address, which the name leads to from now on."""
        return self.names.setdefault(name, f"10.77.0.{len(self.names) + 2}")


def publish(port, address, target):
    """Leads connections to 127.0.0.1:port on to a container, as an engine does for `ports`."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept():
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection((address, target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class Container:
    """One running container."""

    def __init__(self, network, name, tree, command, environment, scratch, *, user="65532:65532", files=None,
                 hosts=None, sysctls=None, put=None, volume=""):
        """`hosts` are lines of /etc/hosts; without any, names are asked for by DNS. `put` are further files, `volume`
        is a folder that can be written to."""
        self.name = name
        self.user, self.environment = user, environment
        self.folder = scratch / name
        for part in ("upper/etc", "upper/proc", f"upper{volume}", "volume", "work", "root"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.put_files(hosts, put or {})
        self.address = network.address(name)
        # Holds the network, which an engine makes before the program starts.
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.connect(sysctls or {})
        self.log = self.folder / "log"
        variables = {"TREE": str(tree), "LAYER": str(self.folder), "FILES": str(files or ""),
                     "VOLUME": volume}
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.in_network(), *inside, "sh", "-c", SCRIPT, "sh", *self.inside(command)],
                env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        self.pid = int(eventually(f"{name} starts", lambda: self.first_word(children)))

    def put_files(self, hosts, put):
        files = {"etc/hostname": f"{self.name}\n", "etc/hosts": "127.0.0.1 localhost\n" + (hosts or ""), **put}
        if hosts is None:
            files["etc/resolv.conf"] = f"nameserver {BRIDGE}\noptions ndots:0\n"
        for path, text in files.items():
            place = self.folder / "upper" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def connect(self, sysctls):
        own = os.stat("/proc/self/ns/net").st_ino
        held = f"/proc/{self.holder.pid}/ns/net"
        eventually("a network", lambda: os.stat(held).st_ino != own)
        self.cable = f"to-{self.name}"[:15]
        call("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        call("ip", "link", "set", self.cable, "master", "bridge", "up")
        call(*self.in_network(), "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            call(*self.in_network(), "ip", "link", "set", device, "up")
        for name, value in sysctls.items():
            call(*self.in_network(), "sysctl", "-qw", f"{name}={value}")

    def first_word(self, path):
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} did not start:\n{self.log.read_text()}")
        return pathlib.Path(path).read_text().partition(" ")[0]

    def in_network(self):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def inside(self, command):
        """The command with the container's root, user and environment, and nothing of ours."""
        pairs = [f"{name}={value}" for name, value in self.environment.items()]
        chroot = ["chroot", f"--userspec={self.user}", "--groups=", str(self.folder / "root")]
        return ["env", "-i", *pairs, shutil.which(chroot[0]), *chroot[1:], *command]

    def execute(self, command, timeout):
        """Runs a further command in the container: exit code, and what it said."""
        spaces = ["nsenter", "--net", "--mount", "--pid", "--target", str(self.pid)]
        done = subprocess.run([*spaces, *self.inside(command)], timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def ends(self, seconds):
        """The exit code; an engine would kill what has not ended after `seconds`."""
        code = self.process.wait(seconds)
        # By itself it would go some time after its other end; a successor has the same name.
        call("ip", "link", "delete", self.cable)
        self.holder.kill()
        self.holder.wait()
        return code

    def stop(self, seconds):
        self.terminate()
        return self.ends(seconds)
