"""Debian packages as input: resolved with the host's apt, downloaded, unpacked, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from novakube_guest.errors import BuildError

TIMEOUT_S = 600
_ENVIRONMENT = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}

Dependencies = Mapping[str, Sequence[Sequence[str]]]
"""Package -> its dependencies, each a list of alternatives in order of preference."""


def run(argv: Sequence[str], *, cwd: Path | None = None, stdin: bytes | None = None) -> str:
    """Runs a program to its end and returns what it printed.

    Raises:
        BuildError: it is not installed, failed, or took longer than TIMEOUT_S.
    """
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            input=stdin,
            env=_ENVIRONMENT,
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError as e:
        raise BuildError(f"{argv[0]} is not installed; it is needed to build the image") from e
    except subprocess.TimeoutExpired as e:
        raise BuildError(f"{argv[0]} did not end within {TIMEOUT_S} s") from e
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BuildError(f"{' '.join(argv)} failed with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def parse_depends(text: str) -> dict[str, list[list[str]]]:
    """Reads ``apt-cache depends --recurse``; a leading ``|`` marks "this or the next"."""
    graph: dict[str, list[list[str]]] = {}
    groups: list[list[str]] = []
    continued = False
    for line in text.splitlines():
        if line and not line[0].isspace():
            groups = graph.setdefault(line.strip(), [])
            continued = False
            continue
        found = re.match(r"^\s+(\|?)(?:Pre)?Depends: (\S+)$", line)
        if found is None:
            continue
        if continued:
            groups[-1].append(found[2])
        else:
            groups.append([found[2]])
        continued = found[1] == "|"
    return graph


def closure(roots: Iterable[str], graph: Dependencies, follow: str) -> list[str]:
    """The roots and, of what they depend on, the packages whose name matches ``follow``."""
    wanted: list[str] = []
    queue = list(roots)
    while queue:
        name = queue.pop(0)
        if name in wanted:
            continue
        wanted.append(name)
        queue += [group[0] for group in graph.get(name, []) if re.match(follow, group[0])]
    return sorted(wanted)


class Archive:
    """The host's package archive, and a cache of what was downloaded from it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def refresh_if_empty(self, probe: str) -> None:
        """Fetches the package lists when apt does not know ``probe``."""
        if not self._candidates([probe]):
            run(["apt-get", "-q", "update"])

    def first_known(self, names: Sequence[str]) -> str:
        """The first package of ``names`` that the archive has.

        Raises:
            BuildError: it has none of them.
        """
        known = self._candidates(names)
        for name in names:
            if name in known:
                return name
        raise BuildError(f"the package archive of this host has none of: {', '.join(names)}")

    def resolve(self, roots: Sequence[str], follow: str) -> dict[str, str]:
        """Versions of the roots and of their dependencies that match ``follow``.

        Raises:
            BuildError: a package has no candidate.
        """
        text = run(
            [
                "apt-cache",
                "depends",
                "--recurse",
                "--no-recommends",
                "--no-suggests",
                "--no-conflicts",
                "--no-breaks",
                "--no-replaces",
                "--no-enhances",
                *roots,
            ]
        )
        names = closure(roots, parse_depends(text), follow)
        versions = self._candidates(names)
        missing = [name for name in names if name not in versions]
        if missing:
            raise BuildError(f"the package archive of this host lacks: {', '.join(missing)}")
        return versions

    def fetch(self, versions: Mapping[str, str]) -> list[Path]:
        """Downloads what is not cached; returns the .deb files, sorted by name."""
        paths = {name: self._path(name, version) for name, version in versions.items()}
        absent = [name for name, path in paths.items() if not path.exists()]
        if absent:
            fresh = self._cache / "partial"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            run(
                [
                    "apt-get",
                    "-q",
                    "-o",
                    "APT::Sandbox::User=root",
                    "download",
                    *(f"{name}={versions[name]}" for name in absent),
                ],
                cwd=fresh,
            )
            for deb in fresh.iterdir():
                name = deb.name.split("_")[0]
                deb.rename(paths[name])
            fresh.rmdir()
        return [paths[name] for name in sorted(paths)]

    def _path(self, name: str, version: str) -> Path:
        return self._cache / f"{name}_{version.replace(':', '%3a')}.deb"

    @staticmethod
    def _candidates(names: Sequence[str]) -> dict[str, str]:
        versions: dict[str, str] = {}
        name = ""
        for line in run(["apt-cache", "policy", *names]).splitlines():
            if line and not line[0].isspace():
                name = line.rstrip(":")
            elif line.startswith("  Candidate: ") and not line.endswith("(none)"):
                versions[name] = line.removeprefix("  Candidate: ")
        return versions


def unpack(debs: Iterable[Path], into: Path) -> None:
    """Unpacks into one tree. No maintainer script runs."""
    into.mkdir(parents=True)
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(into)])
