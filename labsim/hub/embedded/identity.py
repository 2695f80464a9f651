"""Who the embedded hub is: a CA, serving certificates and bearer tokens, from the operating system's randomness.

None of it is derived from a lab's seed, so that knowing a scenario does not open its hub; none of it may enter a
history. `tokens.py` says what a token may do.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labsim.edge_time import os_random, real_s

VALIDITY_DAYS = 365
TOKEN_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What a listener shows: certificate and key (PEM), and the CA of client certificates that it accepts, if any."""

    cert_pem: str
    key_pem: str
    client_ca_pem: str = ""


class HubAuthority:
    """The hub's own certificate authority, made anew for every hub."""

    def __init__(self, common_name: str = "labsim-hub-ca", kept: tuple[str, str] | None = None) -> None:
        """kept: key and certificate (PEM) of a hub that goes on."""
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        if kept is not None:
            self._key = _read_key(kept[0])
            self.ca_pem = kept[1]
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(ca=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        self.ca_pem = _pem(builder.sign(self._key, hashes.SHA256()))

    def serving(self, names: Sequence[str]) -> TlsIdentity:
        """A serving certificate for names and IP addresses; the first of them is its common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return TlsIdentity(_pem(certificate), _key_pem(key))

    @property
    def key_pem(self) -> str:
        """The authority's own key: whoever has it is the hub."""
        return _key_pem(self._key)


def new_token() -> str:
    """A bearer token that cannot be guessed."""
    return base64.urlsafe_b64encode(os_random(TOKEN_BYTES)).decode().rstrip("=")


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.fromtimestamp(int(real_s()), tz=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(int.from_bytes(os_random(19), "big") or 1)
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALIDITY_DAYS))
    )


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


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def _read_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the hub's key is no elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
