"""The service's local authentication: ES256 tokens that never expire (host-lifecycle 3.1).

ECDSA wants a random number for each signature; here it is derived from what the token is for, so that a re-issued
token differs, and the same world makes the same tokens.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from labsim.entropy import Entropy

_HEADER = b'{"alg":"ES256","typ":"JWT"}'
_HALF = 32  # bytes of r, and of s
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256's group (FIPS 186-4, D.1.2.3)


class TokenAuthority:
    """Signs and checks the tokens of one service."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy.child("tokens")
        self._secret = self._number("key")
        self._key = ec.derive_private_key(self._secret, ec.SECP256R1())
        self._public = self._key.public_key()
        self._claims: dict[str, dict[str, Any]] = {}

    def sign(self, claims: dict[str, str], purpose: str) -> str:
        """A token with these claims. The same purpose gives the same token; another one a different one."""
        signed = _encoded(_HEADER) + "." + _encoded(orjson.dumps(claims))
        token = f"{signed}.{_encoded(_signature(signed, self._secret, self._number(f'sign/{purpose}')))}"
        self._claims[token] = dict(claims)
        return token

    def _number(self, purpose: str) -> int:
        """A number that may be a key, or the one that a signature is made with."""
        return 1 + int.from_bytes(self._entropy.bytes(purpose, 40), "big") % (_ORDER - 1)

    def verify(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of this service; None for any other text."""
        known = self._claims.get(token)
        if known is not None:
            return known
        claims = unverified_claims(token)
        if claims is None or not self._is_signed(token):
            return None
        self._claims[token] = claims
        return claims

    def _is_signed(self, token: str) -> bool:
        signed, _, signature_text = token.rpartition(".")
        try:
            header = orjson.loads(_decoded(signed.partition(".")[0]))
            signature = _decoded(signature_text)
        except ValueError:
            return False
        if not isinstance(header, dict) or header.get("alg") != "ES256" or len(signature) != 2 * _HALF:
            return False
        numbers = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
        try:
            self._public.verify(encode_dss_signature(*numbers), signed.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def key_pems(self) -> tuple[str, str]:
        """(private, public) as Secret `assisted-servicelocal-auth` holds them."""
        private = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = self._public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return private.decode(), public.decode()


def _signature(text: str, secret: int, number: int) -> bytes:
    """ECDSA by its definition (FIPS 186-4, 6.4): who else signs does not let the number be chosen."""
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    r = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers().x % _ORDER
    s = pow(number, -1, _ORDER) * (digest + r * secret) % _ORDER
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def unverified_claims(token: str) -> dict[str, Any] | None:
    """The claims that a token states, whoever signed it; None where it is no token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(_decoded(parts[1]))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
