"""Tokens and certificates change under every process, and none of them is started again."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pyroute2 import netns

from novakube_kit.kube import Json
from novakube_kit.tokens import FILE_CHECK_S
from novakube_local import members
from novakube_local.kubehttp import ApiError, KubeHttp
from novakube_local.layout import CLOUD, node_address
from novakube_local.pki import signing_pair, write_private
from tests.deadlines import MACHINE_S
from tests.e2e.cloud import NODE, LocalCloud
from tests.e2e.test_bad_input import instance
from tests.waiting import wait_until_sync

pytestmark = pytest.mark.timeout(900)
LIFE_S = 25
LEEWAY_S = 60
"""The API server takes a token for so long after its end. Source: go-jose, jwt.DefaultLeeway."""
EVERY_S = 10.0
"""Rotated so often: with the look at the file every 10 s no token is used up to its end."""
HELLO = "novakube-guest ready hello "
REPORT = f"/apis/novakube.dev/v1alpha1/namespaces/novakube-node-{NODE}/hypervisorreports/node"
assert EVERY_S + FILE_CHECK_S < LIFE_S


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def parts(token: str) -> list[Json]:
    """Header and claims."""
    texts = token.split(".")[:2]
    return [json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) for text in texts]


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """As ES256 wants it. Source: RFC 7518, section 3.4."""
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class ShortTokens:
    """Tokens as the API server grants them but for their life, which it grants from 600 s on.

    Signed with the key whose public half the API server trusts.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        pem = signing_pair(cloud.layout.control_plane / "pki").key.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        config = json.loads((cloud.layout.credentials / "config.json").read_text())
        self._granted = {
            Path(one["file"]): cloud.plane.token(one["namespace"], one["account"], one.get("node"))
            for one in config["tokens"]
        }
        self._due = 0.0

    def rotate(self) -> dict[Path, str]:
        """Fresh tokens in all files; what was written."""
        written = {file: self._shortened(token) for file, token in self._granted.items()}
        for file, token in written.items():
            write_private(file, token.encode())
        self._due = time.monotonic() + EVERY_S
        return written

    def keep_fresh(self) -> None:
        """Rotates when it is time."""
        if time.monotonic() >= self._due:
            self.rotate()

    def give_back(self) -> None:
        """Tokens of the usual life, until the cloud's own process renews them."""
        for file, token in self._granted.items():
            write_private(file, token.encode())

    def _shortened(self, token: str) -> str:
        header, claims = parts(token)
        now = int(time.time()) - LEEWAY_S
        claims |= {"iat": now, "nbf": now, "exp": now + LIFE_S, "jti": str(uuid.uuid4())}
        signed = ".".join(part(json.dumps(one).encode()) for one in (header, claims))
        return f"{signed}.{part(sign(self._key, signed.encode()))}"


def refused(cloud: LocalCloud, token: str) -> bool:
    """Whether the API server no longer knows who that is."""
    try:
        KubeHttp(cloud.plane.server, cloud.plane.ca_file, token=token).call("GET", "/api")
    except ApiError as error:
        return error.code == 401
    return False


def test_tokens_end_under_every_process(cloud: LocalCloud, namespace: str) -> None:
    services = {"operator": cloud.operator, "api": cloud.api, "agent": cloud.node.agent}
    pids = {name: one.pid() for name, one in services.items()}
    with cloud.credentials.stopped():
        tokens = ShortTokens(cloud)
        first = tokens.rotate()
        assert len(first) == 3
        assert not any(refused(cloud, token) for token in first.values())

        def all_refused(written: dict[Path, str]) -> bool:
            tokens.keep_fresh()
            return all(refused(cloud, token) for token in written.values())

        wait_until_sync(lambda: all_refused(first), "the first tokens ended", MACHINE_S)
        second = tokens.rotate()
        wait_until_sync(lambda: all_refused(second), "those after them too", MACHINE_S)
        tokens.rotate()
        # Each process does what needs its token: writes, watches, reviews of other tokens.
        instance(cloud, namespace, "later")
        cloud.running("later", namespace)
        assert HELLO in cloud.console_log("hello", "demo")
        tokens.give_back()
    assert {name: one.pid() for name, one in services.items()} == pids


def served_certificate(cloud: LocalCloud) -> x509.Certificate:
    """What the node's agent shows to whom connects now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    pid = members.alive(cloud.layout.load(), CLOUD)
    plain = netns_socket(f"/proc/{pid}/ns/net")
    plain.settimeout(MACHINE_S)
    plain.connect((node_address(NODE), 8776))
    with context.wrap_socket(plain) as secured:
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def netns_socket(path: str) -> socket.socket:
    """A TCP socket of another network namespace; a thread goes there for it."""
    made: list[socket.socket] = []

    def make() -> None:
        netns.setns(path)
        made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def test_agent_takes_a_renewed_certificate(cloud: LocalCloud) -> None:
    before, pid = served_certificate(cloud), cloud.node.agent.pid()
    assert HELLO in cloud.console_log("hello", "demo")
    # As if its end were near: the operator signs the node's request anew.
    cloud.admin.call(
        "PATCH", REPORT, {"spec": {"certificate": None}}, "application/merge-patch+json"
    )
    wait_until_sync(
        lambda: served_certificate(cloud).serial_number != before.serial_number,
        "the agent shows a new certificate", MACHINE_S,
    )  # fmt: skip
    report = cloud.admin.call("GET", REPORT)
    renewed = x509.load_pem_x509_certificate(report["spec"]["certificate"].encode())
    assert served_certificate(cloud).serial_number == renewed.serial_number
    assert renewed.public_key() == before.public_key()
    assert HELLO in cloud.console_log("hello", "demo")
    assert cloud.node.agent.pid() == pid
