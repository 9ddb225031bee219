"""Renders deploy/chart with Helm itself, in all variants, and checks what comes out: `kubernetes.py IMSERVER FOLDER`, or
`kubernetes.py --write` to make deploy/kubernetes/imserver.yaml, which is the chart with its defaults, anew.

IMSERVER is the program, asked by --check with the environment of each pod. FOLDER gets what is looked at elsewhere, as
JSON: pods.json for pods.py, and the object for the Prometheus operator, monitor.json. Needs helm-python-sdk (Helm 4 as a library) and kubernetes-validate (the schemas of the
Kubernetes API) from PyPI."""

import functools
import itertools
import json
import pathlib
import re
import subprocess
import sys

import helm_python
import kubernetes_validate
import yaml
from kubernetes_validate import utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/chart"
FOLDER = ROOT / "deploy/kubernetes"
PLAIN = FOLDER / "imserver.yaml"
HEAD = """\
# Three nodes of imserver, as deploy/chart makes them with its defaults: made by `tests/deploy/kubernetes.py --write`, and held to
# the chart by a test. How it works and what is to be changed is told in deploy/README.md.
#   kubectl create secret generic imserver --from-literal=IMSERVER_REDIS=redis://redis:6379 \\
#     --from-literal=IMSERVER_API_KEY=$(openssl rand -hex 16) --from-literal=IMSERVER_ADMIN_TOKEN=$(openssl rand -hex 16)
#   kubectl apply -f deploy/kubernetes/redis.yaml -f deploy/kubernetes/imserver.yaml
"""
# The Secret that whoever installs it makes.
SECRET = {
    "IMSERVER_REDIS": "redis://redis:6379",
    "IMSERVER_API_KEY": "b3c1f8d27a904e65",
    "IMSERVER_ADMIN_TOKEN": "7e02d95ac8f14b36",
}
# The oldest that the chart takes, and the newest that there are schemas of.
VERSIONS = ["1.27", utils.latest_version()]
# Each is a choice that changes what is made; all of their combinations are rendered.
CHOICES = [
    [{}, {"replicas": 1}, {"replicas": 12}],
    [{}, {"address": "name"}, {"address": "name", "scheme": "ws", "ingress": {"tlsSecret": ""}},
     {"ingress": {"enabled": False}}],
    [{}, {"drain": 0, "path": "/im/ws", "settings": {"IMSERVER_MESSAGE_LOG": "on", "IMSERVER_KEEP": "300"}}],
    [{}, {"networkPolicy": {"enabled": False}}],
    [{}, {"podMonitor": True, "pullSecrets": ["registry"], "nodeSelector": {"disk": "none"}, "image": {"tag": "edge"},
          "tolerations": [{"key": "sockets", "operator": "Exists"}],
          "networkPolicy": {"redisPorts": [6379, 26379], "redis": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}],
]
# What the chart must refuse rather than render.
REFUSED = [{"replicas": 0}, {"replica": 3}, {"address": "both"}, {"settings": {"IMSERVER_SERVERS": "a,b"}},
           {"settings": {"LISTEN": "x"}}, {"secret": ""}]
# Nothing is contacted: installs are dry.
NOWHERE = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
current-context: none
"""


def merged(*parts):
    result = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def rendered(values, release="imserver"):
    with helm_python.Config(kubeconfig_content=NOWHERE, storage_driver="memory") as config:
        return config.install(CHART, release, values, dry_run="client")["manifest"]


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


class Objects:
    """What one variant consists of."""

    def __init__(self, text):
        self.all = documents(text)
        self.names = [(one["kind"], one["metadata"]["name"]) for one in self.all]
        assert len(set(self.names)) == len(self.names), f"a name twice in {self.names}"

    def of(self, kind):
        return {one["metadata"]["name"]: one for one in self.all if one["kind"] == kind}

    def only(self, kind):
        (one,) = self.of(kind).values()
        return one

    def pods(self):
        """The pods as the cluster makes them: name, labels, spec of the container, environment."""
        nodes = self.only("StatefulSet")
        template = nodes["spec"]["template"]
        (container,) = template["spec"]["containers"]
        for index in range(nodes["spec"]["replicas"]):
            name = f"{nodes['metadata']['name']}-{index}"
            labels = {**template["metadata"]["labels"], "statefulset.kubernetes.io/pod-name": name}
            yield name, labels, container, self.environment(name, container)

    def environment(self, pod, container, namespace="default"):
        fields = {"metadata.name": pod, "metadata.namespace": namespace}
        variables = {}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                variables |= self.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
            else:
                assert source == {"secretRef": {"name": "imserver"}}
                variables |= SECRET
        own = {}
        for entry in container["env"]:
            if "value" in entry:
                own[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda found: own[found[1]], entry["value"])
            else:
                own[entry["name"]] = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        return {**variables, **own}


@functools.cache
def fits_schema(text):
    """Variants share most of their objects: each is looked at once."""
    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def check_schema(objects):
    for one in objects.all:
        # Of the operator, not of Kubernetes: its schema is elsewhere.
        if one["kind"] != "PodMonitor":
            fits_schema(json.dumps(one, sort_keys=True))


def check_wiring(objects):
    """What refers to something leads to what is meant: the API server takes dangling names without a word."""
    nodes, services = objects.only("StatefulSet"), objects.of("Service")
    pods = list(objects.pods())
    names = [name for name, *_ in pods]
    settings = objects.only("ConfigMap")["data"]
    assert settings["IMSERVER_SERVERS"].split(",") == names
    assert nodes["spec"]["serviceName"] in services
    ports = {port["name"]: port["containerPort"] for port in pods[0][2]["ports"]}
    for setting, port in (("LISTEN", "clients"), ("API", "api"), ("ADMIN", "admin")):
        assert settings[f"IMSERVER_{setting}"] == f"0.0.0.0:{ports[port]}"
    grace = nodes["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(settings["IMSERVER_DRAIN"]) + 27, "a stop may take longer than the grace period"
    for probe, path in (("readinessProbe", "/health/ready"), ("livenessProbe", "/health/live")):
        assert pods[0][2][probe]["httpGet"] == {"path": path, "port": "admin"}

    def chosen(selector):
        return [name for name, labels, *_ in pods if selector.items() <= labels.items()]

    for name, service in services.items():
        assert chosen(service["spec"]["selector"]) == ([name] if name in names else names), name
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"]), name
    for kind in ("StatefulSet", "PodDisruptionBudget"):
        assert chosen(objects.only(kind)["spec"]["selector"]["matchLabels"]) == names
    for policy in objects.of("NetworkPolicy").values():
        assert chosen(policy["spec"]["podSelector"]["matchLabels"]) == names
        assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": port}] for port in ports]
    for monitor in objects.of("PodMonitor").values():
        assert chosen(monitor["spec"]["selector"]["matchLabels"]) == names
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in ports and endpoint["authorization"]["credentials"]["key"] in SECRET
    check_addresses(objects, settings, names)


def check_addresses(objects, settings, names):
    """The ingress leads the address that each node's clients get to that node, by the rule of `pathType: Prefix`."""
    for ingress in objects.of("Ingress").values():
        for name in names:
            address = settings["IMSERVER_PUBLIC_URL"].replace("{server}", name).replace("{path}", settings["IMSERVER_PATH"])
            host, path = re.fullmatch(r"wss?://([^/]+)(/.*)", address).groups()
            found = [backend["backend"]["service"]
                     for rule in ingress["spec"]["rules"] if rule["host"] == host
                     for backend in rule["http"]["paths"] if f"{path}/".startswith(f"{backend['path']}/")]
            assert found == [{"name": name, "port": {"name": "clients"}}], f"{address} leads to {found}"


@functools.cache
def known_settings(imserver):
    shown = subprocess.run([imserver, "--help"], text=True, check=True, stdout=subprocess.PIPE).stdout
    return set(re.findall(r"env: (IMSERVER_\w+)", shown))


@functools.cache
def takes_settings(imserver, pairs):
    """The program itself says what it thinks of a pod's environment."""
    for variable, _ in pairs:
        assert variable in known_settings(imserver) or variable == "NAMESPACE", f"{variable} is no setting of imserver"
    asked = subprocess.run([imserver, "--check"], env=dict(pairs), text=True, capture_output=True, check=False)
    said = asked.stdout + asked.stderr
    assert asked.returncode == 0 and asked.stdout.rstrip().endswith("valid") and "WARN" not in said, f"{pairs}: {said}"


def check_settings(objects, imserver):
    for *_, environment in objects.pods():
        takes_settings(imserver, tuple(environment.items()))


def check_refusals():
    for values in REFUSED:
        try:
            rendered(values)
        except helm_python.HelmError:
            continue
        raise SystemExit(f"the chart takes {values}")


def check_chart():
    report = helm_python.chart.lint(CHART, strict=True)
    assert not [message for message in report["messages"] if "icon" not in str(message)], report
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    own = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert chart["version"] == chart["appVersion"] == own, f"deploy/chart/Chart.yaml is not of version {own}"


def written():
    return HEAD + rendered({})


def main():
    if sys.argv[1:] == ["--write"]:
        PLAIN.write_text(written())
        return
    imserver, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    check_chart()
    check_refusals()
    assert PLAIN.read_text() == written(), f"{PLAIN} is not what the chart makes: tests/deploy/kubernetes.py --write"
    for file in FOLDER.glob("*.yaml"):
        check_schema(Objects(file.read_text()))
    variants = list(itertools.product(*CHOICES))
    assert f" {len(variants)} variants" in (ROOT / "deploy/README.md").read_text(), f"the README does not say {len(variants)}"
    for choice in variants:
        objects = Objects(rendered(merged(*choice)))
        check_schema(objects)
        check_wiring(objects)
        check_settings(objects, imserver)
    print(f"{len(variants)} variants of the chart hold, by the schemas of Kubernetes {' and '.join(VERSIONS)}")
    default = Objects(rendered({}))
    (folder / "pods.json").write_text(json.dumps({
        "spec": default.only("StatefulSet")["spec"]["template"]["spec"],
        "pods": {name: environment for name, _, _, environment in default.pods()},
    }))
    (folder / "monitor.json").write_text(json.dumps(Objects(rendered({"podMonitor": True})).only("PodMonitor")))


if __name__ == "__main__":
    main()
