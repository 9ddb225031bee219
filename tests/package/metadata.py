"""Checks what a registry is told of each package, and that no dependency asks for a newer Rust than we say."""

import json
import subprocess

WANTED = ("description", "license", "readme", "repository", "rust_version")


def version(text):
    parts = [int(part) for part in text.split(".")]
    return parts + [0] * (3 - len(parts))


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    known = json.loads(subprocess.check_output(command))
    members = set(known["workspace_members"])
    published = [package for package in known["packages"] if package["id"] in members and package["publish"] != []]
    assert {package["name"] for package in published} == {"imcore", "imserver"}
    for package in published:
        for key in WANTED:
            assert package[key], f"{package['name']} has no {key}"
        for key in ("keywords", "categories"):
            assert 1 <= len(package[key]) <= 5, f"{package['name']}: {key} {package[key]}"
        assert package["documentation"] is None, "the registry's own pages are the documentation"
    assert len({package["repository"] for package in published}) == 1
    ours = published[0]["rust_version"]
    for package in known["packages"]:
        theirs = package["rust_version"]
        if theirs and version(theirs) > version(ours):
            raise SystemExit(f"{package['name']} {package['version']} needs Rust {theirs}; we say {ours}")
    print(f"{len(known['packages'])} packages need Rust {ours} or less")
    print(f"address: {published[0]['repository']}")


if __name__ == "__main__":
    main()
