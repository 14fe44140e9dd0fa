"""Who the agent is: its node's account towards the API, its node's certificate towards peers.

The process starts with an account that may only ask for the token of ``novakube-node`` in its
node's namespace; everything else is done with that token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from novakube_agent.journal import STATE_UNUSABLE
from novakube_crds.base import NODE_NAMESPACE_PREFIX
from novakube_kit.backoff import Backoff
from novakube_kit.errors import NovakubeError, Retryable
from novakube_kit.kube_aio import AioKube
from novakube_kit.tokens import RequestedToken

_log = logging.getLogger(__name__)
NODE_ACCOUNT = "novakube-node"
TOKEN_LIFE_S = 3600
WAIT_FIRST_S = 0.5
WAIT_MAX_S = 30.0


def node_namespace(node: str) -> str:
    """The node's mailbox."""
    return f"{NODE_NAMESPACE_PREFIX}{node}"


async def node_token(base: AioKube, node: str) -> RequestedToken:
    """The node account's token source, once it gives its first token.

    Waits with backoff, and says in the log what for, until the operator has made the
    namespace and the account.
    """
    token = RequestedToken(base, node_namespace(node), NODE_ACCOUNT, life_s=TOKEN_LIFE_S)
    backoff = Backoff(WAIT_FIRST_S, WAIT_MAX_S)
    while True:
        try:
            await token.token()
        except NovakubeError as error:
            pause_s = backoff.next_s()
            _log.info(
                "waiting for the token of %s/%s: %s", node_namespace(node), NODE_ACCOUNT, error
            )
            await asyncio.sleep(pause_s)
        else:
            return token


class NodeCertificate:
    """Key, request and certificate of the node, as files below ``identity/``.

    The key is made here and never leaves the node. The operator signs the request, and signs
    it again before the certificate ends.
    """

    def __init__(self, directory: Path, node: str) -> None:
        self._directory = directory
        self._node = node
        self.request_pem = ""
        self.expires_at: datetime | None = None
        self.changed = asyncio.Event()
        """Set when the files changed; whoever serves with them clears it."""

    @property
    def key_file(self) -> Path:
        """The private key, readable by its owner alone."""
        return self._directory / "tls.key"

    @property
    def certificate_file(self) -> Path:
        """The signed certificate."""
        return self._directory / "tls.crt"

    @property
    def ca_file(self) -> Path:
        """Whom to trust."""
        return self._directory / "ca.crt"

    async def load(self) -> None:
        """Makes what is missing and reads what is there.

        Raises:
            Retryable: the state directory cannot be read or written.
        """
        with _usable(self._directory):
            await asyncio.to_thread(self._load)

    async def accept(self, certificate: str | None, ca_bundle: str | None) -> None:
        """Takes what the operator signed; one of another key (an older request's) is left.

        Raises:
            Retryable: the state directory cannot be read or written.
        """
        if not certificate or not ca_bundle:
            return
        with _usable(self._directory):
            if await asyncio.to_thread(self._accept, certificate, ca_bundle):
                self.changed.set()

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3 with a client certificate of our CA demanded. Blocking; small files."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate_file, self.key_file)
        context.load_verify_locations(self.ca_file)
        return context

    def _load(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.key_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            _write(self.key_file, pem, 0o600)
        self.request_pem = self._request()
        if self.certificate_file.exists() and self.ca_file.exists():
            self.expires_at = _expiry(self.certificate_file.read_bytes())
            self.changed.set()

    def _request(self) -> str:
        """Kept in a file: signatures are random, and a report must not change without cause."""
        file = self._directory / "tls.csr"
        if not file.exists():
            key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ssl.SSLError(f"{self.key_file} holds no EC key; remove it to get a new one")
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._node[:64])])
            request = (
                x509.CertificateSigningRequestBuilder()
                .subject_name(name)
                .add_extension(
                    x509.SubjectAlternativeName([x509.DNSName(self._node)]), critical=False
                )
                .sign(key, hashes.SHA256())
            )
            _write(file, request.public_bytes(serialization.Encoding.PEM), 0o644)
        return file.read_text()

    def _accept(self, certificate: str, ca_bundle: str) -> bool:
        offered = x509.load_pem_x509_certificate(certificate.encode())
        request = x509.load_pem_x509_csr(self.request_pem.encode())
        if offered.public_key() != request.public_key():
            _log.info("certificate is of another key; waiting for the operator to sign ours")
            return False
        known = {file: file.read_text() if file.exists() else "" for file in
                 (self.certificate_file, self.ca_file)}  # fmt: skip
        wanted = {self.certificate_file: certificate, self.ca_file: ca_bundle}
        if known == wanted:
            return False
        for file, text in wanted.items():
            _write(file, text.encode(), 0o644)
        self.expires_at = offered.not_valid_after_utc
        return True


@contextlib.contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retryable(f"{directory}: {error}", reason=STATE_UNUSABLE) from error


def _expiry(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _write(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all; never readable more widely than ``mode``, not even for a moment."""
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
