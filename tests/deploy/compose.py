"""A Compose file as JSON, with its anchors and merge keys resolved. Needs ruamel.yaml."""

import json
import sys

from ruamel.yaml import YAML

with open(sys.argv[1], encoding="utf-8") as text:
    json.dump(YAML(typ="safe").load(text), sys.stdout, indent=1)
