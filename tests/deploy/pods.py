"""Starts the pods of deploy/chart without a cluster, with their probes and an update as Kubernetes does it:
`pods.py IMAGE PODS`.

IMAGE is the folder that image.py made, PODS what kubernetes.py wrote. Needs root, in a network and a mount namespace of its
own."""

import http.client
import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

from containers import Network, eventually, playground
from play import COMMAND, fail, node, redis, step
from websocket import Socket


def request(container, port, method, path, key=None, body=None, host=None):
    """Status and content of an answer; the first is `None` if there is none."""
    headers = {"Host": host or f"{container.address}:{port}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    connection = http.client.HTTPConnection(container.address, port, timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as why:
        return None, str(why)
    finally:
        connection.close()


class Pods:
    def __init__(self, network, tree, scratch, description):
        self.network, self.tree, self.scratch = network, tree, scratch
        self.spec, self.environments = description["spec"], description["pods"]
        (self.container,) = self.spec["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.running = {}

    def start(self, name):
        assert "command" not in self.container and "args" not in self.container, f"the image has its own: {COMMAND}"
        user = self.spec["securityContext"]
        self.running[name] = node(self.network, name, self.tree, self.environments[name], self.scratch,
                                  user=f"{user['runAsUser']}:{user['runAsGroup']}")

    def probe(self, name, which):
        """As the kubelet asks: the pod's address is the host, and every status from 200 up to 399 is well."""
        asked = self.container[which]["httpGet"]
        status, _ = request(self.running[name], self.ports[asked["port"]], "GET", asked["path"])
        return status is not None and 200 <= status < 400

    def is_ready(self, name):
        return self.probe(name, "readinessProbe")

    def is_alive(self, name):
        return self.probe(name, "livenessProbe")

    def address(self, asked, client, host):
        """The address of a client, from the API of one of the nodes under the name of its service."""
        environment = self.environments[asked]
        answer = request(self.running[asked], self.ports["api"], "POST", "/v1/connections", environment["IMSERVER_API_KEY"],
                         {"client": client}, host)
        assert answer[0] == 201, f"{asked} under {host}: {answer}"
        return json.loads(answer[1])["url"]

    def connect(self, client, owner, host="imserver-api:7001"):
        """A client through its address; the ingress only leads the path on to the pod."""
        asked = next(iter(self.environments))
        url = self.address(asked, client, host)
        front = f"wss://im.example.com/ws/{owner}?"
        assert url.startswith(front), url
        return Socket(url.replace("wss://im.example.com", f"ws://{self.running[owner].address}:{self.ports['clients']}"))

    def stop(self, name):
        """A pod is deleted: its clients are told, and it ends by itself before it would be killed."""
        code = self.running.pop(name).stop(self.spec["terminationGracePeriodSeconds"])
        assert code == 0, f"{name} ended with {code}"


def play(network, tree, scratch, description):
    pods = Pods(network, tree, scratch, description)
    names = list(pods.environments)
    step(f"{', '.join(names)} start before Redis: alive, not ready")
    for name in names:
        pods.start(name)
    for name in names:
        eventually(f"{name} lives", lambda: pods.is_alive(name))
        assert not pods.is_ready(name)
    step("Redis comes: ready, without a warning")
    store = redis(network, scratch)
    for name in names:
        eventually(f"{name} is ready", lambda: pods.is_ready(name))
        text = pods.running[name].log.read_text()
        if [line for line in text.splitlines() if " WARN " in line and not expected(line)]:
            fail(pods.running[name], "warnings")
        token = pods.environments[name]["IMSERVER_ADMIN_TOKEN"]
        assert request(pods.running[name], pods.ports["admin"], "GET", "/metrics", token)[0] == 200
        assert request(pods.running[name], pods.ports["admin"], "GET", "/metrics")[0] == 401
    step("clients reach their own node by the path of its name; the API answers under all names of its service")
    hosts = ["imserver-api", "imserver-api.default", "imserver-api.default.svc", "imserver-api.default.svc.cluster.local"]
    for host in hosts:
        # An integer id belongs to the node with the index of its remainder.
        pods.connect(len(names), names[0], f"{host}:7001")
    clients = {name: pods.connect(len(names) + index, name) for index, name in enumerate(names)}
    step("an update: each is replaced in turn, from the last to the first; the others' clients notice nothing")
    with ThreadPoolExecutor() as pool:
        for name in reversed(names):
            closed = pool.submit(clients[name].closed)
            pods.stop(name)
            assert closed.result() == 1012
            pods.start(name)
            eventually(f"{name} is ready again", lambda: pods.is_ready(name))
            clients[name] = pods.connect(len(names) + names.index(name), name)
    step("more pods than the list has names: a further one ends by itself, the others go on")
    code, said = pods.running[names[0]].execute([*COMMAND, "--server", f"imserver-{len(names)}"], 30)
    assert (code, "is not in servers" in said) == (2, True), said
    assert all(pods.is_ready(name) and pods.is_alive(name) for name in names)
    step("Redis goes: none is ready, none is to be restarted")
    store.stop(30)
    for name in names:
        eventually(f"{name} is not ready", lambda: not pods.is_ready(name))
        assert pods.is_alive(name)
    with ThreadPoolExecutor() as pool:
        closed = [pool.submit(client.closed) for client in clients.values()]
        list(pool.map(pods.stop, names))
        assert [one.result() for one in closed] == [1012] * len(names)


def expected(line):
    """Redis was away on purpose, and this machine may not give as many files."""
    return any(words in line for words in ("limit of open files", "until the broker is back", "cannot be reached"))


def main():
    tree, file = sys.argv[1:]
    with playground() as scratch:
        play(Network(), tree, scratch, json.loads(pathlib.Path(file).read_text()))


if __name__ == "__main__":
    main()
