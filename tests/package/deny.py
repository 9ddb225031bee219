"""Holds Cargo.lock to deny.toml as `cargo deny check licenses bans sources` would, without that tool."""

import json
import pathlib
import re
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = tomllib.loads((ROOT / "deny.toml").read_text())


def allowed(expression, allow, used):
    """Whether an SPDX expression can be met with the licences in `allow`; those that count are added to `used`."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def part():
        word = words.pop(0)
        if word == "(":
            found = whole()
            assert words.pop(0) == ")", expression
            return found
        if words[:1] == ["WITH"]:
            word = " ".join([word, words.pop(0), words.pop(0)])
        used.update({word} & allow)
        return word in allow

    def all_of():
        found = part()
        while words[:1] == ["AND"]:
            words.pop(0)
            found &= part()
        return found

    def whole():
        found = all_of()
        while words[:1] == ["OR"]:
            words.pop(0)
            found |= all_of()
        return found

    found = whole()
    assert not words, expression
    return found


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    allow, used = set(RULES["licenses"]["allow"]), set()
    banned = {rule["crate"] for rule in RULES["bans"]["deny"]}
    faults, sources = [], set()
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not allowed(package["license"] or "", allow, used):
            faults.append(f"{name}: {package['license']}")
        if package["name"] in banned:
            faults.append(f"{name} is banned")
        if package["source"]:
            sources.add(package["source"])
    faults += [f"{licence} is allowed and in nothing" for licence in sorted(allow - used)]
    if len(sources) != 1 or not sources.pop().startswith("registry+"):
        faults.append("not all packages are from the one registry")
    if faults:
        raise SystemExit("deny.toml:\n" + "\n".join(faults))
    print(f"{len(packages)} packages are as deny.toml says")


if __name__ == "__main__":
    main()
