"""Starts the image without a container engine, alone and as deploy/docker-compose.yml says: `play.py IMAGE COMPOSE`.

IMAGE is the folder that image.py made, COMPOSE the Compose file as JSON. Needs root, in a network and a mount
namespace of its own."""

import json
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import dockerfile
from containers import Container, Network, call, eventually, playground, publish
from websocket import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = dockerfile.read(ROOT / "deploy/Dockerfile")[-1]
COMMAND = json.loads(IMAGE.only("ENTRYPOINT"))
HEALTH, QUESTION = dockerfile.health(IMAGE.only("HEALTHCHECK"))


def step(text):
    print(f"-- {text}", flush=True)


def fail(container, text):
    raise SystemExit(f"{container.name}: {text}\n{container.log.read_text()}")


def node(network, name, tree, environment, scratch, *, user=IMAGE.only("USER"), **more):
    """A container of the image."""
    environment = {**IMAGE.environment(), **environment}
    return Container(network, name, tree, COMMAND, environment, scratch, user=user, **more)


def is_healthy(container):
    return container.execute(QUESTION, HEALTH["timeout"])[0] == 0


def redis(network, scratch, name="redis", arguments=(), **more):
    """This machine's Redis in a container of its own; the image of the Compose file cannot be had here."""
    program = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data", "--save", ""]
    environment = {"PATH": "/usr/bin:/bin"}
    return Container(network, name, "/", [*program, *arguments], environment, scratch, user="0:0", volume="/data",
                     **more)


def alone(network, tree, scratch):
    step("one node, the name of Redis from /etc/hosts")
    store = redis(network, scratch, "store")
    environment = {"IMSERVER_REDIS": "redis://redis:6379", "IMSERVER_SERVER": "im-0"}
    one = node(network, "by-hosts", tree, environment, scratch, hosts=f"{store.address} redis\n")
    eventually("healthy", lambda: is_healthy(one))
    assert "redis" not in network.asked, "the name was asked for by DNS"
    status = pathlib.Path(f"/proc/{one.pid}/status").read_text()
    for line in ("Uid:\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status, f"{line} not in\n{status}"
    step("Redis goes: unhealthy with a reason, but alive")
    store.stop(30)
    eventually("unhealthy", lambda: not is_healthy(one))
    code, word = one.execute(QUESTION, HEALTH["timeout"])
    assert (code, word.startswith("imserver: not ready: ")) == (1, True), word
    assert one.execute([*QUESTION, "live"], HEALTH["timeout"]) == (0, "live\n")
    assert one.stop(30) == 0


def over_tls(network, tree, scratch):
    step("rediss:// with the authority among the CA certificates, and without")
    folder = scratch / "tls"
    folder.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    quiet = {"cwd": folder, "stderr": subprocess.DEVNULL}
    call("openssl", "req", "-x509", *key, "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem", **quiet)
    call("openssl", "req", "-x509", *key, "-subj", "/CN=secure", "-addext", "subjectAltName=DNS:secure",
         "-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key",
         "-keyout", "key.pem", "-out", "own.pem", **quiet)
    put = {f"etc/tls/{name}": (folder / name).read_text() for name in ("own.pem", "key.pem", "ca.pem")}
    tls = ["--tls-port", "6380", "--tls-cert-file", "/etc/tls/own.pem", "--tls-key-file", "/etc/tls/key.pem",
           "--tls-ca-cert-file", "/etc/tls/ca.pem", "--tls-auth-clients", "no"]
    secure = redis(network, scratch, "secure", tls, put=put)
    environment = {"IMSERVER_REDIS": "rediss://secure:6380", "IMSERVER_SERVER": "im-0"}
    place = "etc/ssl/certs/ca-certificates.crt"
    known = (pathlib.Path(tree) / place).read_text()
    assert known.count("BEGIN CERTIFICATE") > 50, "the image's CA certificates"
    trusting = node(network, "trusting", tree, environment, scratch,
                    put={place: known + (folder / "ca.pem").read_text()})
    eventually("healthy over TLS", lambda: is_healthy(trusting))
    wary = node(network, "wary", tree, environment, scratch)
    eventually("an unknown authority is refused", lambda: "UnknownIssuer" in wary.log.read_text())
    assert not is_healthy(wary)
    for container in (trusting, wary, secure):
        assert container.stop(30) == 0, container.log.read_text()


def seconds(text):
    return float(re.fullmatch(r"(\d+)s", text)[1])


def compose(network, tree, scratch, file):
    services = json.loads(pathlib.Path(file).read_text())["services"]
    step(f"docker-compose.yml: {', '.join(services)}")
    ports, running = {}, {}

    def started(name, container):
        running[name] = container
        for mapping in services[name].get("ports", []):
            host, near, far = mapping.split(":")
            assert host == "127.0.0.1", mapping
            publish(int(near), container.address, int(far))
            # The first one is what clients of the service use.
            ports.setdefault(name, int(near))

    store = services["redis"]
    assert store["command"][0] == "redis-server"
    started("redis", redis(network, scratch, "redis", store["command"][1:]))
    test, check = store["healthcheck"]["test"][1:], store["healthcheck"]
    ask = lambda: running["redis"].execute(test, seconds(check["timeout"]))[1].strip() == "PONG"
    eventually("Redis is healthy", ask, check["retries"] * seconds(check["interval"]))
    nodes = [name for name in services if name != "redis"]
    for name in nodes:
        service = services[name]
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "healthcheck" not in service
        started(name, node(network, name, tree, service["environment"], scratch, sysctls=service["sysctls"],
                           files=service["ulimits"]["nofile"]))
    for name in nodes:
        eventually(f"{name} is healthy", lambda: is_healthy(running[name]))
        text = running[name].log.read_text()
        warnings = [line for line in text.splitlines() if " WARN " in line and "limit of open files" not in line]
        if warnings:
            fail(running[name], "warnings")
        if "up to 250000 connections" not in text:
            step(f"this machine does not allow {services[name]['ulimits']['nofile']} open files")
    assert "redis" in network.asked, "the name was not asked for by DNS"
    load(services, ports, nodes)
    stop(services, ports, nodes, running)


def load(services, ports, nodes):
    step("messages to clients of every node, through the published ports")
    settings = services[nodes[0]]["environment"]
    tool = [ROOT / "target/release/loadtest", "mixed", "--clients", "300", "--seconds", "5", "--churn-rate", "20"]
    # The nodes are not the tool's own: it wants to be told which client ids nobody uses.
    call(*tool, "--redis", f"redis://127.0.0.1:{ports['redis']}", "--servers", settings["IMSERVER_SERVERS"],
         "--public-url", settings["IMSERVER_PUBLIC_URL"], "--first-client", "4000000000000")


def stop(services, ports, nodes, running):
    step("SIGTERM: clients are told, nodes end within their grace period")
    # An integer id belongs to the node with the index of its remainder.
    clients = {name: Client(ports["redis"], ports[name], len(nodes) + index) for index, name in enumerate(nodes)}
    # They read all the while, as clients do.
    with ThreadPoolExecutor() as pool:
        closed = {name: pool.submit(client.closed) for name, client in clients.items()}
        for name in nodes:
            running[name].terminate()
        for name in nodes:
            code = running[name].ends(seconds(services[name]["stop_grace_period"]))
            if code != 0:
                fail(running[name], f"ended with {code}")
            assert closed[name].result() == 1012
    online = subprocess.run([*clients[nodes[0]].redis, "hlen", "im_v2_wsOnline"], check=True, text=True,
                            stdout=subprocess.PIPE)
    assert online.stdout.strip() == "0", "somebody is still online"
    assert running["redis"].stop(30) == 0


def main():
    tree, file = sys.argv[1:]
    network = Network()
    with playground() as scratch:
        alone(network, tree, scratch)
        over_tls(network, tree, scratch)
        compose(network, tree, scratch, file)


if __name__ == "__main__":
    main()
