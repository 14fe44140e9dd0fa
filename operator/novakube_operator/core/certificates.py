"""The cloud's own certificate authority: keys, signing, judging. No I/O.

P-256 keys, SHA-256. A node's certificate names the node (DNS SAN) and nothing the node said
of itself: whoever holds a node's token can get a certificate for that node only.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from novakube_kit.errors import InvalidSpec

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
BACKDATE = timedelta(minutes=5)
"""Clocks of nodes differ."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: str
    key: str


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def new_authority(now: datetime) -> Pair:
    """A new certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("novakube")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key))


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def sign(
    authority: Pair,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    hosts: tuple[str, ...],
    now: datetime,
) -> str:
    """A leaf certificate, PEM, for clients and servers.

    Args:
        authority: who signs.
        public_key: whose certificate it is.
        common_name: subject; at most 64 characters are kept (RFC 5280 ub-common-name).
        hosts: DNS names and addresses.
        now: moment of issue.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    key = serialization.load_pem_private_key(authority.key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSpec("the certificate authority's key is no EC key", reason="InvalidAuthority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name[:64]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + LEAF_LIFE, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate)


def new_leaf(authority: Pair, common_name: str, hosts: tuple[str, ...], now: datetime) -> Pair:
    """A new key with its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(sign(authority, key.public_key(), common_name, hosts, now), _key_pem(key))


def requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request whose signature holds.

    Raises:
        InvalidSpec: no such request.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
    except ValueError as error:
        raise InvalidSpec(f"certificateRequest is no PEM request: {error}") from error
    key = request.public_key()
    if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSpec("certificateRequest must be signed by its own EC key")
    return key


def ends_at(certificate_pem: str) -> datetime:
    """When a certificate's life ends.

    Raises:
        InvalidSpec: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate_pem.encode()).not_valid_after_utc
    except ValueError as error:
        raise InvalidSpec(f"no PEM certificate: {error}", reason="InvalidCertificate") from error


def holds(
    certificate_pem: str | None,
    authority: Pair,
    hosts: tuple[str, ...],
    now: datetime,
    public_key: ec.EllipticCurvePublicKey | None = None,
) -> bool:
    """Whether a certificate is still the right one: key, issuer, hosts, enough life left."""
    if not certificate_pem:
        return False
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
        certificate.verify_directly_issued_by(issuer)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    if public_key is not None and certificate.public_key() != public_key:
        return False
    wanted = {_alternative(host) for host in hosts}
    return wanted == set(names) and certificate.not_valid_after_utc - now > RENEW_BEFORE
