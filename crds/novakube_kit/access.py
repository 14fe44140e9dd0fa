"""How a process reaches the Kubernetes API: server, trust and credentials."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from novakube_kit.errors import InvalidSpec
from novakube_kit.tokens import FileToken, StaticToken, TokenSource

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/."""


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """One server and one identity. PEM material is text, whatever it came from."""

    server: str
    """``https://host:port``, no path at the end."""
    ca_pem: str | None = None
    """None: the system's trust store."""
    token: TokenSource | None = None
    certificate_pem: str | None = None
    key_pem: str | None = None
    namespace: str = "default"
    """The context's or the pod's own namespace."""

    def with_token(self, token: TokenSource) -> ClusterAccess:
        """The same server as another identity."""
        return ClusterAccess(self.server, self.ca_pem, token, namespace=self.namespace)


def discover(environment: Mapping[str, str] | None = None) -> ClusterAccess:
    """Access from settings, else the pod, else a kubeconfig.

    ``NOVAKUBE_API_SERVER`` with ``NOVAKUBE_CA_FILE`` and ``NOVAKUBE_TOKEN_FILE``, else the
    pod's service account, else ``KUBECONFIG`` (default ``~/.kube/config``).

    Raises:
        InvalidSpec: none of them is there, or what is there is incomplete; says what to set.
    """
    env = os.environ if environment is None else environment
    server = env.get("NOVAKUBE_API_SERVER", "")
    if server:
        return _from_settings(server, env)
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    if host and (SERVICE_ACCOUNT_DIR / "token").exists():
        return _in_cluster(host, env.get("KUBERNETES_SERVICE_PORT", "443"))
    listed = env.get("KUBECONFIG", "")
    paths = [Path(part) for part in listed.split(os.pathsep) if part]
    for path in paths or [Path(env.get("HOME", "/root")) / ".kube" / "config"]:
        if path.exists():
            return from_kubeconfig(path)
    raise InvalidSpec(
        "no access to a Kubernetes API: set NOVAKUBE_API_SERVER, NOVAKUBE_CA_FILE and "
        "NOVAKUBE_TOKEN_FILE, or KUBECONFIG, or run in a pod with a service account",
        reason="InvalidConfiguration",
    )


def _from_settings(server: str, env: Mapping[str, str]) -> ClusterAccess:
    ca_file, token_file = env.get("NOVAKUBE_CA_FILE", ""), env.get("NOVAKUBE_TOKEN_FILE", "")
    if not token_file:
        raise InvalidSpec(
            "NOVAKUBE_API_SERVER is set but NOVAKUBE_TOKEN_FILE is not",
            reason="InvalidConfiguration",
        )
    return ClusterAccess(
        server.rstrip("/"),
        _text(Path(ca_file), "NOVAKUBE_CA_FILE") if ca_file else None,
        FileToken(Path(token_file)),
    )


def _in_cluster(host: str, port: str) -> ClusterAccess:
    address = f"[{host}]" if ":" in host else host
    return ClusterAccess(
        f"https://{address}:{port}",
        _text(SERVICE_ACCOUNT_DIR / "ca.crt", "service account CA"),
        FileToken(SERVICE_ACCOUNT_DIR / "token"),
        namespace=_text(SERVICE_ACCOUNT_DIR / "namespace", "service account namespace").strip(),
    )


def from_kubeconfig(path: Path, context: str | None = None) -> ClusterAccess:
    """The named or current context of a kubeconfig: token, token file or client certificate.

    Raises:
        InvalidSpec: unreadable, without such a context, or with credentials of another sort
            (exec plugins, auth providers); the message names the field.
    """
    try:
        config = yaml.safe_load(_text(path, "kubeconfig"))
    except yaml.YAMLError as error:
        raise _bad(path, f"no YAML: {error}") from error
    if not isinstance(config, dict):
        raise _bad(path, "not a kubeconfig")
    wanted = context or config.get("current-context") or ""
    chosen = _named(config, "contexts", wanted, path).get("context", {})
    cluster = _named(config, "clusters", chosen.get("cluster", ""), path).get("cluster", {})
    user = _named(config, "users", chosen.get("user", ""), path).get("user", {}) or {}
    if not cluster.get("server"):
        raise _bad(path, f"cluster {chosen.get('cluster')!r} has no server")
    if cluster.get("insecure-skip-tls-verify"):
        raise _bad(path, "insecure-skip-tls-verify is refused; give certificate-authority")
    return ClusterAccess(
        str(cluster["server"]).rstrip("/"),
        _pem(cluster, "certificate-authority", path),
        _user_token(user, path),
        _pem(user, "client-certificate", path),
        _pem(user, "client-key", path),
        str(chosen.get("namespace") or "default"),
    )


def _user_token(user: Mapping[str, Any], path: Path) -> TokenSource | None:
    if user.get("tokenFile"):
        return FileToken(path.parent / str(user["tokenFile"]))
    if user.get("token"):
        return StaticToken(str(user["token"]))
    for sort in ("exec", "auth-provider", "username"):
        if sort in user:
            raise _bad(path, f"users[].user.{sort} is not supported; give token, tokenFile "
                             "or client-certificate and client-key")  # fmt: skip
    return None


def _named(config: Mapping[str, Any], section: str, name: str, path: Path) -> Mapping[str, Any]:
    for entry in config.get(section) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    raise _bad(path, f"{section} has no entry named {name!r}")


def _pem(entry: Mapping[str, Any], field: str, path: Path) -> str | None:
    """Inline data wins over a file, as in kubectl; files are relative to the kubeconfig."""
    data = entry.get(f"{field}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _bad(path, f"{field}-data is not base64 of PEM: {error}") from error
    file = entry.get(field)
    return _text(path.parent / str(file), field) if file else None


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{what} {path}: {error}", reason="InvalidConfiguration") from error


def _bad(path: Path, why: str) -> InvalidSpec:
    return InvalidSpec(f"kubeconfig {path}: {why}", reason="InvalidConfiguration")
