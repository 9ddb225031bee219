"""Makes a release and uses each of its files as a newcomer would: `release.py BINARY`, BINARY being a static imserver.

The package for Debian is installed, started by its unit's command and purged on an overlay of this machine: there is no
systemd there, as in a container. Needs root, in mount, network and process namespaces of its own."""

import hashlib
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from containers import call, eventually
from image import machine
from websocket import Socket

ROOT = pathlib.Path(__file__).resolve().parents[2]


def step(text):
    print(f"-- {text}", flush=True)


def said(*words, **more):
    return subprocess.check_output([str(word) for word in words], text=True, **more)


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def first_message(words, environment, root="/"):
    """Starts the node, and has a client get a message by its API."""
    with tempfile.TemporaryFile("w+") as log:
        node = subprocess.Popen([shutil.which("chroot"), root, *words], env=environment, stdout=log, stderr=log)

        def key():
            log.seek(0)
            text = log.read()
            assert node.poll() is None, f"ended with {node.returncode}: {text}"
            return re.search(r"API at .*, key (\w+)", text)

        headers = {"Content-Type": "application/json",
                   "Authorization": f"Bearer {eventually('the API and its key', key)[1]}"}

        def post(path, body):
            request = urllib.request.Request(f"http://127.0.0.1:7001/v1/{path}", json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")

        client = Socket(post("connections", {"client": 42})["url"])
        post("messages", {"receivers": [42], "message": {"text": "hello"}})
        opcode, content = client.frame()
        assert (opcode, json.loads(content)) == (1, {"text": "hello"}), content
        node.terminate()
        assert client.closed() in (1001, 1012)
        assert node.wait(60) == 0


def sums(folder):
    step("checksums")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    named = dict(reversed(line.split("  ")) for line in lines)
    assert named.keys() == {file.name for file in folder.iterdir()} - {"SHA256SUMS"}
    for name, expected in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name


def bill(folder):
    step("bill of materials")
    document = json.loads(only(folder, "*.cdx.json").read_text())
    names = {component["name"] for component in document["components"]}
    assert {"imcore", "mio", "redis", "rustls"} <= names and "tokio" not in names
    known = {component["bom-ref"] for component in [*document["components"], document["metadata"]["component"]]}
    for entry in document["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known


def archive(folder, scratch):
    step("archive")
    call("tar", "-xzf", only(folder, "*.tar.gz"), "-C", scratch)
    root = only(scratch, "imserver-*-linux")
    for name in ("LICENSE", "THIRD-PARTY.txt", "deploy/imserver.service", "deploy/nginx.conf"):
        assert (root / name).stat().st_size > 0
    first_message([root / "imserver", "--api", "127.0.0.1:7001"], {})


def debian(folder, scratch):
    step("package for Debian: installed")
    package = only(folder, "*.deb")
    root = machine(scratch)
    shutil.copy(package, root / "imserver.deb")
    inside = ["chroot", root]
    plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    call(*inside, "dpkg", "--install", "/imserver.deb", env=plain)
    settings = root / "etc/imserver.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    unit = root / "lib/systemd/system/imserver.service"
    call(*inside, "systemd-analyze", "verify", "/lib/systemd/system/imserver.service", env=plain)
    step("started as its unit says")
    (command,) = re.findall(r"(?m)^ExecStart=(.*)$", unit.read_text())
    (file,) = re.findall(r"(?m)^EnvironmentFile=(.*)$", unit.read_text())
    lines = (root / file.lstrip("/")).read_text().splitlines()
    first_message(shlex.split(command), dict(line.split("=", 1) for line in lines if line and line[0] != "#"), root)
    step("removed: the settings stay; purged: nothing does")
    owned = said(*inside, "dpkg", "--listfiles", "imserver", env=plain).split()
    call(*inside, "dpkg", "--remove", "imserver", env=plain)
    assert settings.exists() and not unit.exists()
    call(*inside, "dpkg", "--purge", "imserver", env=plain)
    left = [path for path in owned if "imserver" in path and (root / path.lstrip("/")).exists()]
    assert not left, left


def client(folder, scratch):
    step("package for npm")
    package = only(folder, "imcore-client-*.tgz")
    names = {name.removeprefix("package/") for name in said("tar", "-tzf", package).split()}
    assert {"package.json", "LICENSE", "README.md", "im.js", "im.d.ts", "node.js", "im/core.js"} <= names
    assert not [name for name in names if "test" in name], names
    project = scratch / "project"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module"}')
    call("npm", "install", "--silent", "--offline", "--no-audit", package, cwd=project)
    script = """
        import { ImClient } from "imcore-client";
        import { Core } from "imcore-client/core";
        if (typeof ImClient !== "function" || typeof Core !== "function") throw new Error("nothing to import");
    """
    call("node", "--input-type=module", "--eval", script, cwd=project)


def main():
    call("ip", "link", "set", "lo", "up")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="imcore-release-"))
    # All mounts are within one, and the folder is removed only once it is empty: nothing that is mounted goes with it.
    call("mount", "-t", "tmpfs", "release", scratch)
    try:
        folder = scratch / "files"
        call(ROOT / "scripts/release", folder, sys.argv[1])
        sums(folder)
        bill(folder)
        archive(folder, scratch)
        client(folder, scratch)
        debian(folder, scratch)
    finally:
        call("umount", "--recursive", "--lazy", scratch)
        scratch.rmdir()


if __name__ == "__main__":
    main()
