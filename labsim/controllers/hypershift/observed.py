"""What the HyperShift processes keep in memory: token caches, kubeconfigs, lease times. All of it can be read again."""

from __future__ import annotations

import dataclasses

from labsim.controllers.hypershift.kubeconfigs import secret_text
from labsim.controllers.hypershift.names import key_text
from labsim.controllers.runtime.effects import Key, Program, get
from labsim.kube.certificates import Identity
from labsim.model.kinds import SECRET


@dataclasses.dataclass(frozen=True, slots=True)
class BearerUser:
    """Who a bearer token of a hosted cluster stands for."""

    name: str
    uid: str
    groups: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class HostedAuthentication:
    """How a hosted API server knows its clients: bearer tokens, and client certificates of these CAs (PEM)."""

    tokens: dict[str, BearerUser]
    client_ca_pem: str


@dataclasses.dataclass(frozen=True, slots=True)
class TokenEntry:
    """A payload that the ignition server has ready for a token."""

    namespace: str
    secret: str
    payload: bytes
    expires_s: float
    reached: bool


class Observed:
    """Volatile memory, by owner ("<control-plane namespace>/<name>") where it concerns one hosted cluster."""

    def __init__(self) -> None:
        self.kubeconfigs: dict[str, str] = {}
        self.signers: dict[str, Identity] = {}
        self.authentication: dict[str, HostedAuthentication] = {}
        self.published: set[tuple[str, str, str, int]] = set()  # owner, service, host, port
        self.tokens: dict[str, TokenEntry] = {}
        self.tokens_of: dict[str, set[str]] = {}  # "<ns>/<secret>" to the tokens that it put in
        self.heard_s: dict[str, dict[str, float]] = {}  # owner, node to the last sign of life: its Lease, or its coming
        self.hostnames: dict[tuple[str, str], Key] = {}  # (namespace, hostname) to the AgentMachine or Machine
        self.waiting_csrs: dict[tuple[str, str], set[Key]] = {}  # (namespace, hostname) to requests nobody vouches for
        self.scanned_s: dict[str, float] = {}  # when an expensive scan was made last, by its name

    def forget(self, owner: str) -> None:
        """Drop everything about a hosted cluster that is gone."""
        for table in (self.kubeconfigs, self.signers, self.authentication, self.heard_s):
            table.pop(owner, None)
        self.published = {entry for entry in self.published if entry[0] != owner}

    def scan_due_in_s(self, name: str, now_s: float, interval_s: float) -> float:
        """The seconds until the next scan of that name may be made."""
        return max(0.0, self.scanned_s.get(name, float("-inf")) + interval_s - now_s)

    def scan_wait_s(self, name: str, now_s: float, interval_s: float) -> float:
        """0 when the scan may be made now (and counts as made), else the seconds to wait."""
        wait_s = self.scan_due_in_s(name, now_s, interval_s)
        if wait_s <= 0:
            self.scanned_s[name] = now_s
        return wait_s


def admin_kubeconfig(observed: Observed, key: Key) -> Program[str | None]:
    """The administrator's kubeconfig of a hosted cluster whose API server runs; None before that."""
    owner = key_text(key)
    known = observed.kubeconfigs.get(owner)
    if known is not None:
        return known
    if not any(entry[0] == owner and entry[1] == "kube-apiserver" for entry in observed.published):
        return None
    secret = yield from get(SECRET, key.namespace, "admin-kubeconfig", live=True)
    text = secret_text(secret, "kubeconfig")
    if not text:
        return None
    observed.kubeconfigs[owner] = text
    return text
