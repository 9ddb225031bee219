"""Builds the image of deploy/Dockerfile without a container engine: `image.py FOLDER`.

Runs each step of the file. The first stage's base is this machine (Debian with Rust, as there), seen through an
overlay that takes all changes; the last one's is an empty folder. What comes out is FOLDER, the image's files.
Needs root, in a mount namespace of its own."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import dockerfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/Dockerfile"


def call(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, **more)


def machine(scratch):
    """This machine's files, with changes kept apart."""
    # In memory: the upper layer of an overlay cannot be on another overlay, which a CI machine's root may be.
    root, upper, work = (scratch / name for name in ("root", "upper", "work"))
    for folder in (root, upper, work):
        folder.mkdir()
    call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root)
    for folder in ("dev", "proc"):
        call("mount", "--rbind", f"/{folder}", root / folder)
    return root


def context():
    """The files that a build is sent."""
    listed = call("git", "ls-files", "-coz", "--exclude-standard", cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    paths = [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
    return [path for path in paths if not dockerfile.ignored(patterns, path)]


def copy(stage_roots, root, folder, text):
    *options, source, target = text.split()
    if options:
        origin = stage_roots[options[0].removeprefix("--from=")]
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(origin / source.lstrip("/"), place)
        return
    assert (source, target) == (".", "."), f"COPY {text}"
    for path in context():
        place = root / folder.lstrip("/") / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, place)


def run(root, folder, environment, text):
    targets, command = dockerfile.run(text)
    for target in targets:
        cache = ROOT / "target/image" / target.strip("/").replace("/", "-")
        place = root / target.lstrip("/")
        for path in (cache, place):
            path.mkdir(parents=True, exist_ok=True)
        call("mount", "--bind", cache, place)
    call("chroot", root, "sh", "-c", f"cd {folder} && {command}", env={**os.environ, **environment})


def build(result, scratch):
    roots = {}
    stages = dockerfile.read(FILE)
    for stage in stages:
        is_last = stage is stages[-1]
        assert is_last == (stage.base == "scratch"), f"no stand-in for {stage.base}"
        if not is_last:
            rust = subprocess.check_output(["rustc", "--version"], text=True).strip()
            print(f"{stage.name}: FROM {stage.base}, for which this machine stands in, with {rust}")
        root = roots[stage.name] = result if is_last else machine(scratch)
        folder = "/"
        for word, text in stage.steps:
            print(f"{stage.name or 'image'}: {word} {' '.join(text.split())}", flush=True)
            if word == "WORKDIR":
                folder = text
                (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                copy(roots, root, folder, text)
            elif word == "RUN":
                run(root, folder, stage.environment(), text)


def main():
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="imcore-image-"))
    # All mounts are within one, and the folder is removed only once it is empty: nothing that is mounted goes with it.
    call("mount", "-t", "tmpfs", "image", scratch)
    try:
        build(pathlib.Path(sys.argv[1]).resolve(), scratch)
    finally:
        call("umount", "--recursive", "--lazy", scratch)
        scratch.rmdir()


if __name__ == "__main__":
    main()
