"""kubectl as a program, and the files that tell it where the API server is."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from novakube_local.errors import LocalCloudError
from novakube_local.pki import Pair


def run_kubectl(
    program: Path,
    kubeconfig: Path,
    arguments: Sequence[str],
    stdin: str | None = None,
    timeout_s: float = 120,
) -> str:
    """Standard output of kubectl.

    Raises:
        LocalCloudError: with what kubectl said.
    """
    done = subprocess.run(
        [str(program), f"--kubeconfig={kubeconfig}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise LocalCloudError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def kubeconfig(server: str, ca_file: Path, user: str, pair: Pair, namespace: str) -> str:
    """Text of a kubeconfig with everything in it."""
    cluster = {"server": server, "certificate-authority-data": _base64(ca_file)}
    credentials = {
        "client-certificate-data": _base64(pair.cert),
        "client-key-data": _base64(pair.key),
    }
    context = {"cluster": "novakube", "user": user, "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "novakube", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "novakube", "context": context}],
        "current-context": "novakube",
    }
    return yaml.safe_dump(content, sort_keys=False)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
