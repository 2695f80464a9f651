"""The lab's login key, derived from its seed; the private half stays in the lab's folder."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labsim.entropy import Entropy


def private_key(entropy: Entropy) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(entropy.bytes("ssh-key", 32))


def public_key(entropy: Entropy) -> str:
    """The OpenSSH line, as it goes into sshAuthorizedKey."""
    line = (
        private_key(entropy)
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return f"{line.decode()} labsim"


def openssh_text(key: Ed25519PrivateKey) -> str:
    """A private key as OpenSSH keeps it in a file."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return encoded.decode()
