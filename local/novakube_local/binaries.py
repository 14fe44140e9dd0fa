"""Where the control plane's programs come from: given, built before, on PATH, or built now."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from novakube_local.errors import LocalCloudError, log_tail

ROOT = Path(__file__).resolve().parents[2]
CLONE_BIN = ROOT / ".local" / "bin"
KUBERNETES_VERSION = "v1.34.4"
"""The version of k8s.io/kubernetes in local/kubernetes/go.mod."""
OLDEST = (1, 32)
"""The oldest Kubernetes novakube supports."""
VERSION_TIMEOUT_S = 20
BUILD_TIMEOUT_S = 3600
_VERSION_FLAG = "-X k8s.io/component-base/version."


@dataclass(frozen=True, slots=True)
class Program:
    """One program and the Go package that builds it."""

    name: str
    module: str
    """Folder of its go.mod, relative to the clone."""
    package: str


PROGRAMS = {
    program.name: program
    for program in (
        Program("etcd", "local/kubernetes", "go.etcd.io/etcd/server/v3"),
        Program("kube-apiserver", "local/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
        Program(
            "kube-controller-manager",
            "local/kubernetes",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        Program("kubectl", "local/kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
        Program("helm", "local/helm", "helm.sh/helm/v3/cmd/helm"),
    )
}
CLUSTER_PROGRAMS = {
    name: Program(name, "local/kubernetes", f"k8s.io/kubernetes/cmd/{name}")
    for name in ("kube-scheduler", "kubelet", "kube-proxy")
}
"""What a cluster with kubelets needs besides; built when one is asked for."""


def find(name: str) -> Path | None:
    """The program: in ``KUBEBUILDER_ASSETS``, built in this clone, or on PATH if new enough."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for directory in (Path(assets) if assets else None, CLONE_BIN):
        if directory is not None and os.access(directory / name, os.X_OK):
            return directory / name
    on_path = shutil.which(name)
    if on_path is not None and _supported(name, Path(on_path)):
        return Path(on_path)
    return None


def require(name: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """The program, built when there is none.

    Raises:
        LocalCloudError: it cannot be built; tells why.
    """
    return find(name) or build((PROGRAMS | CLUSTER_PROGRAMS)[name], say)


def build(program: Program, say: Callable[[str], None]) -> Path:
    """Builds into the clone's ``.local/bin``; Go's own caches make a second build short."""
    go = find_go()
    if go is None:
        raise LocalCloudError(
            f"{program.name} is not in KUBEBUILDER_ASSETS, {CLONE_BIN} or PATH, and there is no "
            "Go to build it: run scripts/bootstrap.sh, or install Go >= 1.24"
        )
    CLONE_BIN.mkdir(parents=True, exist_ok=True)
    log = CLONE_BIN.parent / "log" / f"build-{program.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    target = CLONE_BIN / program.name
    partial = target.with_name(f".{program.name}.partial")
    say(f"building {program.name} (once; log in {log.relative_to(ROOT)})")
    command = [go, "build", "-trimpath", "-ldflags", ldflags(), "-o", str(partial)]
    with log.open("wb") as output:
        done = subprocess.run(
            [*command, program.package],
            cwd=ROOT / program.module,
            env={**os.environ, "CGO_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise LocalCloudError(f"{program.name} does not build\n{log_tail(log)}")
    partial.replace(target)
    return target


def find_go() -> str | None:
    """Go's own program: on PATH, or PyPI's that scripts/bootstrap.sh installed."""
    return shutil.which("go", path=f"{os.environ.get('PATH', '')}:{ROOT / '.local' / 'go' / 'bin'}")


def ldflags() -> str:
    """Linker flags; without the version the API server calls itself v0.0.0."""
    major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
    fields = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    settings = [f"{_VERSION_FLAG}{name}={value}" for name, value in fields.items()]
    return " ".join(["-s -w", *settings])


def parse_version(text: str) -> tuple[int, int] | None:
    """The first ``major.minor`` a program tells of itself."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _supported(name: str, path: Path) -> bool:
    """Whether a program from PATH is new enough; those without a Kubernetes version: etcd 3.5."""
    arguments = {"kubectl": ["version", "--client"], "helm": ["version", "--short"]}
    oldest = {"etcd": (3, 5), "helm": (3, 14)}.get(name, OLDEST)
    told = subprocess.run(
        [str(path), *arguments.get(name, ["--version"])],
        capture_output=True,
        text=True,
        timeout=VERSION_TIMEOUT_S,
        check=False,
    )
    version = parse_version(told.stdout)
    return told.returncode == 0 and version is not None and version >= oldest
