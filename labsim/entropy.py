"""The one source of chance: every generated value is KDF(seed, owner, purpose).

There is no stream that is shared or advanced: a value depends on what it is for and on nothing else, so removing a
step from a scenario does not shift the values that come after it. A purpose that is asked for again gives the same
value again; whoever needs the n-th of a kind puts the n into the purpose.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
import zlib

# Kubernetes draws name suffixes from these letters: no vowels, so that no words appear, and none that look alike.
NAME_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

_BLOCK_BYTES = 64


@functools.lru_cache(maxsize=4096)
def _key(seed: str) -> bytes:
    return hashlib.blake2b(seed.encode(), digest_size=32).digest()


class Entropy:
    """Values derived from a seed, for one owner."""

    __slots__ = ("_owner", "_seed", "_start")

    def __init__(self, seed: int | str, owner: str = "") -> None:
        self._seed = str(seed)
        self._owner = owner
        self._start = hashlib.blake2b(f"{owner}\0".encode(), key=_key(self._seed), digest_size=64)

    @property
    def seed(self) -> str:
        return self._seed

    def child(self, owner: str) -> Entropy:
        """The values of an owner inside this one; siblings never share a value."""
        return Entropy(self._seed, f"{self._owner}/{owner}")

    def _block(self, purpose: str, number: int) -> bytes:
        state = self._start.copy()
        state.update(f"{purpose}\0{number}".encode())
        return state.digest()

    def bytes(self, purpose: str, count: int = 32) -> bytes:
        """`count` bytes for `purpose`."""
        if count <= _BLOCK_BYTES:
            return self._block(purpose, 0)[:count]
        blocks = range((count + _BLOCK_BYTES - 1) // _BLOCK_BYTES)
        return b"".join(self._block(purpose, block) for block in blocks)[:count]

    def integer(self, purpose: str, low: int, high: int) -> int:
        """A whole number with low <= value <= high. The bias of the modulus is far below 2**-60."""
        return low + int.from_bytes(self.bytes(purpose, 16), "big") % (high - low + 1)

    def uniform(self, purpose: str, low: float, high: float) -> float:
        """A number with low <= value < high."""
        return low + (high - low) * (int.from_bytes(self._block(purpose, 0)[:7], "big") * 2.0**-56)

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


class Delays:
    """How long one kind of event takes: a KDF of (seed, owner, purpose), of what is on its way, and of when it set off.

    Nothing is counted, so what one object meets does not shift what another one meets. Mixed by multiplication: even
    enough to explore interleavings, and cheap, since a large run asks for a million of them.
    """

    __slots__ = ("_factor", "_low_s", "_offset", "_step_s")

    def __init__(self, entropy: Entropy, purpose: str, low_s: float, high_s: float) -> None:
        drawn = entropy.bytes(f"delays/{purpose}", 16)
        self._factor = int.from_bytes(drawn[:8], "big") | 1
        self._offset = int.from_bytes(drawn[8:], "big")
        self._low_s = low_s
        self._step_s = (high_s - low_s) / 2**32

    def of(self, what: str, now_s: float) -> float:
        """The delay of what sets off now, in seconds; low <= delay < high."""
        mixed = (zlib.crc32(what.encode()) << 32 ^ int(now_s * 1e6)) * self._factor + self._offset
        return self._low_s + self._step_s * (mixed >> 32 & 0xFFFFFFFF)
