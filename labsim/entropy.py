"""The one source of chance: every generated value is KDF(seed, owner, purpose).

There is no stream that is shared or advanced: a value depends on what it is for and on nothing else, so removing a
step from a scenario does not shift the values that come after it. A purpose that is asked for again gives the same
value again; whoever needs the n-th of a kind puts the n into the purpose.
"""

from __future__ import annotations

import functools
import hashlib
import uuid

# Kubernetes draws name suffixes from these letters: no vowels, so that no words appear, and none that look alike.
NAME_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@functools.lru_cache(maxsize=4096)
def _key(seed: str) -> bytes:
    return hashlib.blake2b(seed.encode(), digest_size=32).digest()


class Entropy:
    """Values derived from a seed, for one owner."""

    __slots__ = ("_owner", "_seed")

    def __init__(self, seed: int | str, owner: str = "") -> None:
        self._seed = str(seed)
        self._owner = owner

    @property
    def seed(self) -> str:
        return self._seed

    def child(self, owner: str) -> Entropy:
        """The values of an owner inside this one; siblings never share a value."""
        return Entropy(self._seed, f"{self._owner}/{owner}")

    def bytes(self, purpose: str, count: int = 32) -> bytes:
        """`count` bytes for `purpose`."""
        out = b""
        block = 0
        while len(out) < count:
            message = f"{self._owner}\0{purpose}\0{block}".encode()
            out += hashlib.blake2b(message, key=_key(self._seed), digest_size=64).digest()
            block += 1
        return out[:count]

    def integer(self, purpose: str, low: int, high: int) -> int:
        """A whole number with low <= value <= high. The bias of the modulus is far below 2**-60."""
        return low + int.from_bytes(self.bytes(purpose, 16), "big") % (high - low + 1)

    def uniform(self, purpose: str, low: float, high: float) -> float:
        """A number with low <= value < high."""
        return low + (high - low) * (int.from_bytes(self.bytes(purpose, 7), "big") / 2**56)

    def uuid(self, purpose: str) -> str:
        """A version 4 UUID in its canonical text form."""
        raw = bytearray(self.bytes(purpose, 16))
        raw[6] = (raw[6] & 0x0F) | 0x40
        raw[8] = (raw[8] & 0x3F) | 0x80
        return str(uuid.UUID(bytes=bytes(raw)))

    def text(self, purpose: str, length: int = 5, alphabet: str = NAME_SUFFIX_ALPHABET) -> str:
        """`length` letters of `alphabet`, for example a generateName suffix."""
        raw = self.bytes(purpose, 2 * length)
        size = len(alphabet)
        return "".join(alphabet[int.from_bytes(raw[2 * i : 2 * i + 2], "big") % size] for i in range(length))
