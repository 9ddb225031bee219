"""A Compose file as JSON, with its anchors and merge keys resolved, and what it demands of the environment filled in.
Needs ruamel.yaml."""

import json
import os
import re
import sys

from ruamel.yaml import YAML


def filled(value):
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: os.environ[found[1]], value)
    return value


with open(sys.argv[1], encoding="utf-8") as text:
    json.dump(filled(YAML(typ="safe").load(text)), sys.stdout, indent=1)
