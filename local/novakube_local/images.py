"""novakube's container images: built by docker where it answers, else by buildah, kept as archives.

Where no image registry is reached, their base is a Debian that mmdebstrap makes; ``BASE`` names
another one. Settings of this machine for package registries reach the build as secrets and are
in no layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from novakube_local import binaries
from novakube_local.errors import LocalCloudError, log_tail
from novakube_local.kubelet import PAUSE_IMAGE
from novakube_local.layout import Layout, write_json

COMPONENTS = {
    "operator": ("crds", "operator"),
    "manage": ("crds", "operator"),
    "api": ("crds", "api"),
    "agent": ("crds", "agents"),
}
"""Image -> the source folders it is made of."""
REGISTRY = "docker.io/novakube"
BASE = "localhost/novakube-base:bookworm"
SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = ("buildah", "mmdebstrap")
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
BUILD_S = 1800
QUICK_S = 60


@dataclass(frozen=True, slots=True)
class Source:
    """Of which sources images are made, and what they are called."""

    root: Path
    tag: str
    revision: str


@dataclass(frozen=True, slots=True)
class Image:
    """One built image."""

    component: str
    reference: str
    archive: Path
    """As `docker save` writes it."""
    size: int
    """Bytes of its file systems, uncompressed."""


def version() -> str:
    """Of the project; also the images' tag."""
    parsed = tomllib.loads((binaries.ROOT / "pyproject.toml").read_text())
    return str(parsed["project"]["version"])


class Images:
    """The images of one clone; of an earlier commit, when its sources are given."""

    def __init__(
        self, layout: Layout, say: Callable[[str], None], source: Source | None = None
    ) -> None:
        self.layout = layout
        self.say = say
        self.source = source or Source(layout.root, version(), _head(layout.root))
        self.folder = layout.container_images
        self.archives = self.folder / self.source.tag if source else self.folder
        self.log = layout.logs / "images.log"

    def build(self) -> list[Image]:
        """Builds what is missing or made of other sources than those here now.

        Raises:
            LocalCloudError: no program to build with, or a build failed; with the end of its log.
        """
        self.archives.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        builder: Builder | None = None
        built = []
        for component in ("pause", *COMPONENTS):
            stamp = self.archives / f"{component}.json"
            digest = self._digest(component)
            known = json.loads(stamp.read_text()) if stamp.exists() else {}
            archive = self.archives / f"{component}.tar"
            if known.get("digest") != digest or not archive.exists():
                builder = builder or self._builder()
                self.say(f"image {component} (log in {self.log.relative_to(self.layout.root)})")
                archive.unlink(missing_ok=True)
                size = self._build(builder, component, archive)
                known = {"digest": digest, "size": size}
                write_json(stamp, known)
            built.append(Image(component, self.name(component), archive, int(known["size"])))
        return built

    def name(self, component: str) -> str:
        """Of the image of a component."""
        return reference(component, self.source.tag)

    def _digest(self, component: str) -> str:
        """Of everything that the image is made of."""
        root = self.source.root
        found = hashlib.sha256((os.environ.get("BASE") or "").encode())
        for path in _sources(root, component):
            found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
        return found.hexdigest()

    def _builder(self) -> Builder:
        docker = shutil.which("docker")
        if docker and _answers([docker, "info"]):
            return Docker(self, os.environ.get("BASE"))
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing:
            raise LocalCloudError(
                f"no Docker daemon answers, and not on PATH: {', '.join(missing)}; "
                "scripts/bootstrap.sh cluster installs them"
            )
        return Buildah(self, os.environ.get("BASE"))

    def _build(self, builder: Builder, component: str, archive: Path) -> int:
        context = self.source.root
        if component == "pause":
            context = self.folder / "pause"
            self._compile_pause(context)
        return builder.build(component, context, archive)

    def _compile_pause(self, context: Path) -> None:
        """Kubernetes' own first process of a pod, from the source of the version in go.mod."""
        go = binaries.find_go()
        if go is None:
            raise LocalCloudError(
                "the pause image is made of Kubernetes' own source, which Go downloads: "
                "scripts/bootstrap.sh cluster installs Go"
            )
        module = ["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]
        cwd = self.layout.root / "local" / "kubernetes"
        source = self.run([go, *module], cwd=cwd).strip()
        context.mkdir(exist_ok=True)
        pause_c = f"{source}/build/pause/linux/pause.c"
        version = f"-DVERSION={binaries.KUBERNETES_VERSION}"
        self.run(["gcc", "-Os", "-static", version, "-o", str(context / "pause"), pause_c])

    def run(self, argv: list[str], cwd: Path | None = None, deadline_s: float = BUILD_S) -> str:
        """A step's standard output; the rest goes to the log.

        Raises:
            LocalCloudError: it failed.
        """
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(argv)}\n".encode())
            log.flush()
            done = subprocess.run(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                timeout=deadline_s,
                check=False,
            )
            log.write(done.stdout)
        if done.returncode != 0:
            raise LocalCloudError(f"{argv[0]} failed\n{log_tail(self.log)}")
        return done.stdout.decode()

    def secrets(self) -> list[str]:
        """Options that lend this machine's way to PyPI to the build."""
        pip = self.folder / "pip.conf"
        told = self.run([sys.executable, "-m", "pip", "config", "list"], deadline_s=QUICK_S)
        pip.write_text(pip_settings(told))
        options = ["--secret", f"id=pip,src={pip}"]
        return [*options, "--secret", f"id=ca,src={CA_BUNDLE}"] if CA_BUNDLE.exists() else options

    def arguments(self) -> list[str]:
        """Options that name what is built."""
        values = {"VERSION": self.source.tag, "REVISION": self.source.revision}
        return [
            word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")
        ]


class Builder(ABC):
    """A program that builds images."""

    def __init__(self, images: Images, base: str | None) -> None:
        self.images = images
        self.base = base

    @abstractmethod
    def build(self, component: str, context: Path, archive: Path) -> int:
        """Builds an image into an archive; its size in bytes."""

    def options(self, component: str) -> list[str]:
        """What every builder is told."""
        file = self.images.source.root / "images" / component / "Containerfile"
        options = ["--file", str(file), "--tag", self.images.name(component)]
        if component == "pause":
            return options
        base = ["--build-arg", f"BASE={self.base}"] if self.base else []
        return [*options, *base, *self.images.arguments(), *self.images.secrets()]


class Docker(Builder):
    """The machine's Docker daemon."""

    def build(self, component: str, context: Path, archive: Path) -> int:
        """As `Builder.build`."""
        run = self.images.run
        run(["docker", "build", *self.options(component), str(context)])
        name = self.images.name(component)
        run(["docker", "save", "--output", str(archive), name])
        size = run(["docker", "image", "inspect", "--format", "{{.Size}}", name])
        return int(size)


class Buildah(Builder):
    """buildah with a store of the clone; needs no daemon and no registry."""

    def __init__(self, images: Images, base: str | None) -> None:
        super().__init__(images, base or BASE)
        store = images.folder / "store"
        self.policy = images.folder / "policy.json"
        write_json(self.policy, {"default": [{"type": "insecureAcceptAnything"}]})
        self.command = [
            "buildah", "--root", str(store / "root"), "--runroot", str(store / "run"),
            "--storage-driver", "overlay",
        ]  # fmt: skip
        if self.base == BASE:
            self._make_base()

    def _make_base(self) -> None:
        """Debian's smallest system; made once."""
        if BASE in self.images.run([*self.command, "images", "--format", "{{.Name}}:{{.Tag}}"]):
            return
        self.images.say("base image (mmdebstrap)")
        context = self.images.folder / "base"
        context.mkdir(exist_ok=True)
        leave_out = [
            f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")
        ]
        kept = "--dpkgopt=path-include=/usr/share/doc/*/copyright"
        self.images.run(
            ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", *leave_out, kept,
             SUITE, str(context / "base.tar")]
        )  # fmt: skip
        (context / "Containerfile").write_text('FROM scratch\nADD base.tar /\nCMD ["bash"]\n')
        self._bud(["--tag", BASE, str(context)])
        shutil.rmtree(context)

    def _bud(self, options: list[str]) -> None:
        fixed = ["--signature-policy", str(self.policy), "--isolation", "chroot", "--layers"]
        self.images.run([*self.command, "bud", *fixed, *options])

    def build(self, component: str, context: Path, archive: Path) -> int:
        """As `Builder.build`."""
        ignored = self.images.source.root / ".dockerignore"
        options = [] if component == "pause" else ["--ignorefile", str(ignored)]
        self._bud([*self.options(component), *options, str(context)])
        name = self.images.name(component)
        push = ["push", "--signature-policy", str(self.policy), name]
        self.images.run([*self.command, *push, f"docker-archive:{archive}:{name}"])
        return archive.stat().st_size


def reference(component: str, tag: str = "") -> str:
    """Name of an image, as containerd writes it in full; without a tag the version's."""
    return PAUSE_IMAGE if component == "pause" else f"{REGISTRY}/{component}:{tag or version()}"


def _head(root: Path) -> str:
    """The commit that is checked out there."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=QUICK_S,
        check=False,
    )
    return head.stdout.strip() or "unknown"


def pip_settings(listed: str) -> str:
    """A pip.conf of those of `pip config list`'s settings that lead to an index."""
    lines = ["[global]"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2].removeprefix("default-")
        if setting in PIP_SETTINGS:
            lines.append(f"{setting} = {value.strip(chr(39))}")
    return "\n".join(lines) + "\n"


def _sources(root: Path, component: str) -> Iterator[Path]:
    yield from sorted(path for path in (root / "images").glob("*") if path.is_file())
    yield from sorted((root / "images" / component).iterdir())
    if component == "pause":
        return
    yield from (root / name for name in ("pyproject.toml", "requirements.lock"))
    yield from sorted((root / "images" / "operator").iterdir())
    for folder in COMPONENTS[component]:
        yield from sorted((root / folder).rglob("*.py"))


def _answers(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, timeout=QUICK_S, check=False)
    return done.returncode == 0


def table(images: list[Image]) -> str:
    """What was built: name, size, archive."""
    rows = [f"{one.reference:40}{one.size / 1e6:8.1f} MB  {one.archive}" for one in images]
    return "\n".join(rows)
