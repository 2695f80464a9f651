"""What libvirt told of a lab's domains while the lab lived: started, stopped, crashed, restarted, disk in trouble.

libvirt's events come through a loop that a process has once, on a daemon thread from the first machine on. Events
are evidence and nothing else: no decision waits for one, so a hypervisor that sends none does no harm.
"""

from __future__ import annotations

import collections
import functools
import json
import logging
import threading
from types import ModuleType
from typing import Any

from labsim.edge_time import real_s
from labsim.machines.libvirt.session import SESSION_URI, session_uri

log = logging.getLogger(__name__)

KEPT = 10_000  # of a lab; the oldest go


@functools.cache
def _loop(libvirt: ModuleType) -> threading.Thread:
    """The process's event loop. It has to be there before the connection whose events it brings."""
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while libvirt.virEventRunDefaultImpl() == 0:
            pass

    thread = threading.Thread(target=run, name="libvirt events", daemon=True)
    thread.start()
    return thread


class DomainEvents:
    """The events of every domain of one hypervisor, from `begin` on. Any thread."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._seen: collections.deque[tuple[str, dict[str, Any]]] = collections.deque(maxlen=KEPT)
        self._connection: Any = None  # a libvirt.virConnect; the binding carries no types
        self._heard: list[int] = []

    def begin(self, libvirt: ModuleType) -> None:
        """Listen, where nobody does yet."""
        if self._connection is not None:
            return
        names = _names(libvirt, "VIR_DOMAIN_EVENT_", _LIFECYCLE)

        def lifecycle(_: Any, domain: Any, event: int, detail: int, __: Any) -> None:
            self._note(domain, names.get(event, str(event)), detail=detail)

        def rebooted(_: Any, domain: Any, __: Any) -> None:
            self._note(domain, "rebooted from inside")

        def disk_trouble(_: Any, domain: Any, path: str, alias: str, action: int, reason: str, __: Any) -> None:
            self._note(domain, "disk in trouble", path=path, device=alias, action=action, reason=reason)

        try:
            _loop(libvirt)
            self._connection = libvirt.open(session_uri() if self._uri == SESSION_URI else self._uri)
            for kind, heard in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, rebooted),
                (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, disk_trouble),
            ):
                self._heard.append(self._connection.domainEventRegisterAny(None, kind, heard, None))
        except libvirt.libvirtError as error:
            log.info("no events of %s: %s", self._uri, error)

    def of(self, uuid: str) -> bytes:
        """The events of one domain, a line of JSON each, oldest first."""
        return b"".join(json.dumps(event).encode() + b"\n" for seen, event in tuple(self._seen) if seen == uuid)

    def close(self, libvirt: ModuleType) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                while self._heard:
                    connection.domainEventDeregisterAny(self._heard.pop())
                connection.close()
            except libvirt.libvirtError:
                return  # it was lost

    def _note(self, domain: Any, event: str, **fields: Any) -> None:
        self._seen.append((domain.UUIDString(), {"at_s": round(real_s(), 3), "event": event, **fields}))


_LIFECYCLE = (
    "DEFINED",
    "UNDEFINED",
    "STARTED",
    "SUSPENDED",
    "RESUMED",
    "STOPPED",
    "SHUTDOWN",
    "PMSUSPENDED",
    "CRASHED",
)


def _names(libvirt: ModuleType, prefix: str, words: tuple[str, ...]) -> dict[int, str]:
    return {getattr(libvirt, f"{prefix}{word}"): word.lower() for word in words}
