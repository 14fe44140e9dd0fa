"""A private etcd and kube-apiserver for contract tests: started, restarted, compacted.

Authorization is RBAC, as in a real cluster; the admin token is in system:masters, which no
process of novakube ever is. Binaries come from KUBEBUILDER_ASSETS or PATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.deadlines import READY_S, STOP_S
from tests.ports import free_port
from tests.waiting import wait_until_sync

ADMIN_TOKEN = "admin-of-contract-tests"


def program(name: str) -> str:
    """The binary's path; a missing one is a failure with the way out."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = shutil.which(name, path=assets) if assets else None
    found = found or shutil.which(name)
    if found is None:
        raise AssertionError(f"{name} is neither in KUBEBUILDER_ASSETS nor on PATH")
    return found


class ApiServer:
    """Data and logs live under one directory; processes die with ``stop``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.etcd_port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file = directory / "certs" / "apiserver.crt"
        self.token_file = directory / "admin.token"
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._write_credentials()

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (self.directory / "sa.key").write_bytes(pem)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "sa.pub").write_bytes(public)
        self.token_file.write_text(ADMIN_TOKEN)
        (self.directory / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")

    def start(self) -> None:
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self.start_server()

    def start_server(self) -> None:
        self._server = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--etcd-compaction-interval=0",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.directory / 'certs'}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.directory / 'sa.pub'}",
            f"--service-account-signing-key-file={self.directory / 'sa.key'}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--disable-admission-plugins=ServiceAccount",
        )
        wait_until_sync(self._ready, f"API server ready; {self.log('kube-apiserver')}", READY_S)

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _ready(self) -> bool:
        for process, name in ((self._etcd, "etcd"), (self._server, "kube-apiserver")):
            if process is None or process.poll() is not None:
                raise AssertionError(f"{name} ended: {self.log(name).read_text()[-2000:]}")
        try:
            answer = httpx.get(f"{self.url}/readyz", verify=False, timeout=2, headers=_ADMIN)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def stop_server(self, how: signal.Signals = signal.SIGKILL) -> None:
        self._end(self._server, how)

    def restart_server(self) -> None:
        """Killed as by a crash, then started again on the same data."""
        self.stop_server()
        self.start_server()

    def compact(self) -> None:
        """etcd forgets all history up to now."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.etcd_port}") as etcd:
            at = etcd.post("/v3/kv/range", json={"key": "AA=="}).json()["header"]["revision"]
            etcd.post("/v3/kv/compaction", json={"revision": at, "physical": True})

    def stop(self) -> None:
        self.stop_server()
        self._end(self._etcd, signal.SIGKILL)

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            return subprocess.Popen([program(name), *arguments], stdout=log, stderr=log)

    def _end(self, process: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(STOP_S)


_ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
