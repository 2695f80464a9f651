"""Certificates of worlds: EC P-256 keys and signatures that depend on the seed and the clock only.

Hosted API servers, ignition servers and kubelets use these, so that two runs of one seed hold the same bytes. The
hub's own CA is made elsewhere, from the operating system's randomness. Times are in-world epoch seconds.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from labsim.entropy import Entropy

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CA_VALIDITY_S = 10 * 365 * 86_400
LEAF_VALIDITY_S = 365 * 86_400
# Certificates begin a little in the past, so that a client whose clock is behind accepts them.
BACKDATE_S = 2 * 86_400  # paced time runs ahead of a machine's own clock, which checks the certificate
_USAGES = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH}


class BadCertificate(ValueError):
    """A PEM that is no certificate or request, or one whose own signature does not hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its private key, both PEM."""

    cert_pem: str
    key_pem: str

    @property
    def certificate(self) -> x509.Certificate:
        return load_certificate(self.cert_pem)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return _load_key(self.key_pem)


def derived_key(entropy: Entropy, purpose: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 private key for a purpose: the same seed, owner and purpose give the same key."""
    raw = int.from_bytes(entropy.bytes(f"ec-key/{purpose}", 40), "big")
    return ec.derive_private_key(1 + raw % (P256_ORDER - 1), ec.SECP256R1())


def self_signed_ca(
    entropy: Entropy,
    purpose: str,
    common_name: str,
    now_s: float,
    *,
    organizational_unit: str = "",
    validity_s: int = CA_VALIDITY_S,
) -> Identity:
    """A certificate authority for a purpose."""
    key = derived_key(entropy, purpose)
    subject = _name(common_name, (), organizational_unit)
    builder = _builder(subject, subject, key.public_key(), _serial(entropy, purpose), now_s, validity_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return Identity(_pem(certificate), key_pem(key))


def issue(
    ca: Identity,
    entropy: Entropy,
    purpose: str,
    common_name: str,
    *,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    client: bool = False,
    server: bool = False,
    now_s: float,
    validity_s: int = LEAF_VALIDITY_S,
) -> Identity:
    """A leaf certificate of `ca` with a key derived for `purpose`; neither flag means both usages."""
    key = derived_key(entropy, purpose)
    usages = [*(["client auth"] if client else []), *(["server auth"] if server else [])]
    certificate = _leaf(
        ca,
        _name(common_name, organizations),
        key.public_key(),
        _serial(entropy, purpose),
        usages or ["client auth", "server auth"],
        _alternative_names(dns_names, ip_addresses),
        now_s,
        validity_s,
    )
    return Identity(_pem(certificate), key_pem(key))


def sign_csr(
    ca: Identity,
    csr_pem: str | bytes,
    now_s: float,
    usages: Iterable[str] = ("client auth",),
    *,
    validity_s: int = LEAF_VALIDITY_S,
) -> str:
    """The certificate (PEM) that answers a signing request; its subject, names and key are the request's.

    `usages` are Kubernetes' names ("client auth", "server auth", "digital signature", ...); those that are no
    extended usage are covered by the fixed key usage. Raises BadCertificate for a request that does not hold.
    """
    raw = csr_pem.encode() if isinstance(csr_pem, str) else csr_pem
    try:
        request = x509.load_pem_x509_csr(raw)
    except ValueError as problem:
        raise BadCertificate(f"not a certificate request: {problem}") from problem
    if not request.is_signature_valid:
        raise BadCertificate("the certificate request is not signed by its own key")
    public_key = request.public_key()
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names = None
    # The serial is a digest of what is signed, so that signing a request again gives the same certificate.
    digest = hashlib.sha256(raw + str(int(now_s)).encode()).digest()
    serial = int.from_bytes(digest[:16], "big") >> 1 or 1
    certificate = _leaf(ca, request.subject, public_key, serial, list(usages), names, now_s, validity_s)
    return _pem(certificate)


def csr(
    key: ec.EllipticCurvePrivateKey,
    common_name: str,
    *,
    organizations: Sequence[str] = (),
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
) -> str:
    """A certificate signing request (PEM), signed deterministically."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, organizations))
    names = _alternative_names(dns_names, ip_addresses)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return (
        builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(serialization.Encoding.PEM).decode()
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """An unencrypted private key in the SEC1 PEM form that Go and OpenSSL write for EC keys."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


@functools.lru_cache(maxsize=512)
def load_certificate(pem: str) -> x509.Certificate:
    """The first certificate of a PEM text; raises BadCertificate."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as problem:
        raise BadCertificate(f"not a certificate: {problem}") from problem


@functools.lru_cache(maxsize=4096)
def is_signed_by(cert_pem: str, ca_pem: str) -> bool:
    """Whether a certificate carries the signature of a CA. Dates and usages are the caller's to check."""
    certificate, authority = load_certificate(cert_pem), load_certificate(ca_pem)
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def allows_client_auth(certificate: x509.Certificate) -> bool:
    """Whether the extended key usage, where there is one, names client authentication."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


@functools.lru_cache(maxsize=256)
def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificate("the private key is not an EC key")
    return key


def _leaf(
    ca: Identity,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    serial: int,
    usages: list[str],
    names: x509.SubjectAlternativeName | None,
    now_s: float,
    validity_s: int,
) -> x509.Certificate:
    authority = ca.certificate
    builder = _builder(subject, authority.subject, public_key, serial, now_s, validity_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    extended: list[ObjectIdentifier] = [_USAGES[usage] for usage in usages if usage in _USAGES]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(authority_key, critical=False)
    return builder.sign(ca.key, hashes.SHA256(), ecdsa_deterministic=True)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    serial: int,
    now_s: float,
    validity_s: int,
) -> x509.CertificateBuilder:
    start = datetime.datetime.fromtimestamp(int(now_s) - BACKDATE_S, tz=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(seconds=validity_s + BACKDATE_S))
    )


def _name(common_name: str, organizations: Sequence[str], organizational_unit: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    if organizational_unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, organizational_unit))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _alternative_names(dns_names: Sequence[str], ip_addresses: Sequence[str]) -> x509.SubjectAlternativeName | None:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
    return x509.SubjectAlternativeName(names) if names else None


def _serial(entropy: Entropy, purpose: str) -> int:
    return (int.from_bytes(entropy.bytes(f"serial/{purpose}", 16), "big") >> 1) or 1


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
