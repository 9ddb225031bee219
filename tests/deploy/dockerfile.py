"""Reads a Dockerfile: its stages, each with its steps. Knows what deploy/Dockerfile uses and refuses the rest."""

import json
import re
import shlex
from dataclasses import dataclass, field

STEPS = "WORKDIR COPY RUN LABEL USER ENV EXPOSE HEALTHCHECK STOPSIGNAL ENTRYPOINT".split()


@dataclass
class Stage:
    base: str
    name: str
    # (instruction, its text), in order.
    steps: list = field(default_factory=list)

    def only(self, word):
        """The text of the last such step, which is the one that counts."""
        return [text for step, text in self.steps if step == word][-1]

    def environment(self):
        texts = [text for step, text in self.steps if step == "ENV"]
        return dict(pair.split("=", 1) for text in texts for pair in shlex.split(text))


def read(path):
    """All stages of the file, the last of which is the image."""
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if not line.lstrip().startswith("#")]
    stages, arguments = [], {}
    for line in "".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, text = line.strip().split(maxsplit=1)
        if word == "ARG":
            name, value = text.split("=", 1)
            arguments[name] = value
        elif word == "FROM":
            text = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], text)
            base, *name = re.split(r"\s+AS\s+", text)
            stages.append(Stage(base, "".join(name)))
        elif word in STEPS:
            stages[-1].steps.append((word, text))
        else:
            raise SystemExit(f"{path}: {word} is not known to tests/deploy/dockerfile.py")
    return stages


def run(text):
    """The targets of a RUN's cache mounts, and its command."""
    targets = []
    while found := re.match(r"\s*--mount=type=cache,target=(\S+)\s+", text):
        targets.append(found[1])
        text = text[found.end():]
    return targets, text


def health(text):
    """Options of a HEALTHCHECK, in seconds, and its command."""
    options = {name: float(value) for name, value in re.findall(r"--([\w-]+)=(\d+)s", text)}
    return options, json.loads(text.split("CMD", 1)[1])


def ignored(patterns, path):
    """Whether a .dockerignore with these lines keeps `path` out; the last line that fits counts."""
    verdict = False
    for pattern in patterns:
        keep, pattern = pattern.startswith("!"), pattern.lstrip("!")
        expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{expression}(/.*)?", path):
            verdict = not keep
    return verdict
