"""Public keys: parsed far enough to know that they are one, and their fingerprints.

Source of the fingerprints: Nova's API reference, keypairs (MD5 of the ssh blob with colons;
SHA-1 of the certificate's DER with colons for x509).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_ssh_public_key

from novakube_kit.errors import InvalidSpec


def _colons(digest: str) -> str:
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def fingerprint(type: str, public_key: str) -> str:
    """The fingerprint of a key.

    Raises:
        InvalidSpec: not a public key of that type; the message says what is expected.
    """
    return _x509(public_key) if type == "x509" else _ssh(public_key)


def _ssh(line: str) -> str:
    try:
        load_ssh_public_key(line.strip().encode())
        blob = base64.b64decode(line.split()[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm, binascii.Error) as error:
        raise InvalidSpec(
            "spec.publicKey is no OpenSSH public key line (type, base64, comment), such as "
            f"'ssh-ed25519 AAAA... me@host': {error}",
            reason="InvalidKey",
        ) from error
    return _colons(hashlib.md5(blob, usedforsecurity=False).hexdigest())


def _x509(pem: str) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise InvalidSpec(
            f"spec.publicKey is no PEM certificate: {error}", reason="InvalidKey"
        ) from error
    der = certificate.public_bytes(Encoding.DER)
    return _colons(hashlib.sha1(der, usedforsecurity=False).hexdigest())
