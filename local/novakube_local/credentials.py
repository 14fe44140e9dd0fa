"""What kubelet does for pods: hands out service account tokens and mounted Secrets as files.

Its own identity is a client certificate whose user may ask for tokens and read one Secret.
Tokens are asked for again at 80 % of their life.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_local.pki import Pair, write_private

USER = "novakube-local-credentials"
RENEW_AT = 0.8
RETRY_S = 2.0
SECRET_CHECK_S = 10.0
_log = logging.getLogger(__name__)


def bind_rights(admin: KubeHttp) -> None:
    """Gives `USER` its rights: tokens of accounts, Nodes to bind them to, one Secret."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": USER}}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}
    rules = [
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
    ]
    secret = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    namespaced = f"{rbac}/namespaces/novakube-system"
    for where, scope, granted in (
        (rbac, "Cluster", rules),
        (namespaced, "", [{**secret, "resourceNames": ["novakube-api-tls"]}]),
    ):
        role = f"{scope}Role"
        admin.ensure(f"{where}/{role.lower()}s", {**api, "kind": role, "rules": granted})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": USER}
        binding = {**api, "kind": f"{role}Binding", "roleRef": reference, "subjects": [subject]}
        admin.ensure(f"{where}/{role.lower()}bindings", binding)


class Credentials:
    """Keeps the files of one configuration fresh."""

    def __init__(self, config: dict[str, Any]) -> None:
        pair = Pair(Path(config["cert"]), Path(config["key"]))
        self.kube = KubeHttp(config["server"], Path(config["ca"]), pair)
        self.config = config
        self.due: dict[str, float] = {}

    def step(self) -> float:
        """Does what is due; seconds until the next."""
        for entry in [*self.config["tokens"], *self.config["secrets"]]:
            key = entry["file"] if "file" in entry else entry["dir"]
            if time.monotonic() < self.due.get(key, 0.0):
                continue
            try:
                wait_s = self.token(entry) if "file" in entry else self.secret(entry)
            except (ApiError, OSError) as error:
                _log.warning("%s: %s", key, error)
                wait_s = RETRY_S
            self.due[key] = time.monotonic() + wait_s
        return max(0.1, min(self.due.values(), default=RETRY_S) - time.monotonic())

    def token(self, entry: dict[str, Any]) -> float:
        """Writes a fresh token."""
        life_s = int(self.config["life_s"])
        token = self.kube.token(entry["namespace"], entry["account"], entry.get("node"), life_s)
        write_private(Path(entry["file"]), token.encode())
        return life_s * RENEW_AT

    def secret(self, entry: dict[str, Any]) -> float:
        """Writes a Secret's keys as files; the last one written is ``tls.crt``."""
        path = f"/api/v1/namespaces/{entry['namespace']}/secrets/{entry['name']}"
        found = self.kube.get(path)
        if found is None:
            return RETRY_S
        for name, value in sorted(found["data"].items(), key=lambda one: one[0] == "tls.crt"):
            file, content = Path(entry["dir"]) / name, base64.b64decode(value)
            if not file.exists() or file.read_bytes() != content:
                write_private(file, content)
        return SECRET_CHECK_S


def main() -> None:
    """``python -m novakube_local.credentials CONFIG.json``, until ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    credentials = Credentials(json.loads(Path(sys.argv[1]).read_text()))
    while True:
        time.sleep(credentials.step())


if __name__ == "__main__":
    main()
