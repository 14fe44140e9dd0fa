"""Certificates: what is signed verifies, what does not fit is replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from novakube_kit.errors import InvalidSpec
from novakube_operator.core.certificates import (
    LEAF_LIFE,
    RENEW_BEFORE,
    holds,
    new_authority,
    new_leaf,
    requested_key,
    sign,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AUTHORITY = new_authority(NOW)
HOSTS = ("n1", "192.0.2.1")


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody else")])
    built = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM).decode()


def test_a_node_gets_its_own_name_whatever_it_asked_for() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = sign(AUTHORITY, requested_key(request(key)), "novakube-node:n1", ("n1",), NOW)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert certificate.subject.rfc4514_string() == "CN=novakube-node:n1"
    assert holds(pem, AUTHORITY, ("n1",), NOW, key.public_key())


LEAF = new_leaf(AUTHORITY, "novakube-api", HOSTS, NOW).certificate
FOREIGN = new_leaf(new_authority(NOW), "novakube-api", HOSTS, NOW).certificate


@pytest.mark.parametrize(
    ("pem", "hosts", "now", "want"),
    [
        (LEAF, HOSTS, NOW, True),
        (LEAF, ("n1",), NOW, False),
        (LEAF, HOSTS, NOW + LEAF_LIFE - RENEW_BEFORE + timedelta(hours=1), False),
        (FOREIGN, HOSTS, NOW, False),
        ("no certificate", HOSTS, NOW, False),
        (None, HOSTS, NOW, False),
    ],
)
def test_holds(pem: str | None, hosts: tuple[str, ...], now: datetime, want: bool) -> None:
    assert holds(pem, AUTHORITY, hosts, now) is want


def test_another_key_needs_another_certificate() -> None:
    assert not holds(
        LEAF, AUTHORITY, HOSTS, NOW, ec.generate_private_key(ec.SECP256R1()).public_key()
    )


@pytest.mark.parametrize(
    "pem", ["", "nonsense", request(rsa.generate_private_key(public_exponent=65537, key_size=2048))]
)
def test_a_bad_request_names_the_field(pem: str) -> None:
    with pytest.raises(InvalidSpec, match="certificateRequest"):
        requested_key(pem)
