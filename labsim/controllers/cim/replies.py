"""What the service makes of a step's reply (host-lifecycle 3.5)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from labsim.controllers.cim.database import Database
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.host_states import Event, find_rule
from labsim.controllers.cim.instructions import accepts_inventory
from labsim.controllers.cim.inventory import Inventory, parse_inventory
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.rows import ApiVip, Host
from labsim.controllers.cim.validations.network import passes_without_dns

MEDIA_EXIT_CODE = 256
ALREADY_RUNNING_EXIT_CODE = 125
_REMOTE_OBJECT = '{"host_id":'
_REMOTE_START, _REMOTE_NEXT, _REMOTE_END = '{"remote_hosts":[' + _REMOTE_OBJECT, "}," + _REMOTE_OBJECT, "}]}"
ALREADY_RUNNING = 'the container name "assisted-installer" is already in use'


class StepReplies:
    """Takes the replies of agents."""

    def __init__(self, lifecycle: HostLifecycle) -> None:
        self._lifecycle = lifecycle
        self._database: Database = lifecycle.database
        self._handlers: dict[str, Callable[[Host, str, float], None]] = {
            "inventory": self._inventory,
            "ntp-synchronizer": self._ntp,
            "domain-resolution": self._domains,
            "api-vip-connectivity-check": self._api_vip,
            "connectivity-check": self._connectivity,
        }

    def take(self, host: Host, reply: dict[str, Any], now_s: float) -> None:
        """Handle one reply. Raises ServiceError: 400 for output that cannot be read, 500 where a handler failed."""
        kind = _text(reply, "step_type")
        exit_code = reply.get("exit_code") or 0
        if not isinstance(exit_code, int):
            raise ServiceError(400, "exit_code in body must be of type integer")
        output, error = _text(reply, "output"), _text(reply, "error")
        if exit_code == MEDIA_EXIT_CODE:
            self._lifecycle.media_disconnected(host, now_s)
            return
        if exit_code != 0:
            self._failed(host, kind, exit_code, error, now_s)
            return
        if not host.media_connected:
            self._database.update_host(host, now_s, media_connected=True)
        if kind == "download-boot-artifacts":
            if find_rule(Event.RECLAIM_DOWNLOADED, host.status) is not None:
                self._lifecycle.transition(host, Event.RECLAIM_DOWNLOADED, now_s)
            return
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(host, output, now_s)

    def _failed(self, host: Host, kind: str, exit_code: int, error: str, now_s: float) -> None:
        """A step that did not end well is answered with 204 all the same."""
        if kind == "install":
            if exit_code == ALREADY_RUNNING_EXIT_CODE and ALREADY_RUNNING in error:
                return
            if find_rule(Event.INSTALLATION_FAILED, host.status) is not None:
                self._lifecycle.transition(host, Event.INSTALLATION_FAILED, now_s)
        elif kind == "download-boot-artifacts" and find_rule(Event.RECLAIM_FAILED, host.status) is not None:
            self._lifecycle.transition(host, Event.RECLAIM_FAILED, now_s)
        elif kind == "upgrade-agent":
            self._upgrade_event(host, "failed", now_s)

    def _upgrade_event(self, host: Host, end: str, now_s: float) -> None:
        """At most one of each kind an hour."""
        name = f"upgrade_agent_{end}"
        if now_s - host.events_sent_at_s.get(name, float("-inf")) < 3600:
            return
        host.events_sent_at_s[name] = now_s
        image = self._lifecycle.settings.agent_image
        message = f"Host {host.display_name}: Agent has failed to download image '{image}'"
        self._database.host_event(host, name, "error", message, now_s)

    def _inventory(self, host: Host, output: str, now_s: float) -> None:
        if not accepts_inventory(host.status):
            raise UntypedError(
                f"Host is in {host.status} state, host can be updated only in one of "
                "[discovering known disconnected insufficient pending-for-input installing-in-progress] states"
            )
        digest = _digest(output)
        if host.inventory is not None and host.inventory_digest == digest:
            return
        minimums = self._lifecycle.settings.minimums
        disk_gb = minimums.role(host.effective_role).disk_gb if host.cluster_id else minimums.pool_disk_gb
        inventory = parse_inventory(output, disk_gb)
        host.inventory_digest = digest
        if host.inventory is not None and host.inventory.text == inventory.text:
            return
        disk_id, path = self._installation_disk(host, inventory)
        self._database.update_host(
            host, now_s, inventory=inventory, installation_disk_id=disk_id, installation_disk_path=path
        )

    def _installation_disk(self, host: Host, inventory: Inventory) -> tuple[str, str]:
        """The chosen disk while it is eligible, else the first that is."""
        kept = inventory.disk(host.installation_disk_id)
        if kept is not None and kept.eligible:
            return kept.id, kept.path
        eligible = inventory.eligible_disks
        return (eligible[0].id, eligible[0].path) if eligible else ("", "")

    def _ntp(self, host: Host, output: str, now_s: float) -> None:
        sources = tuple(
            (_text(entry, "source_name"), _text(entry, "source_state"))
            for entry in _entries(_decoded(output, "ntp"), "ntp_sources")
        )
        self._database.update_host(host, now_s, ntp_sources=sources)

    def _domains(self, host: Host, output: str, now_s: float) -> None:
        found = {
            _text(entry, "domain_name"): (
                *_strings(entry, "ipv4_addresses"),
                *_strings(entry, "ipv6_addresses"),
                *_strings(entry, "cnames"),
            )
            for entry in _entries(_decoded(output, "domain resolution"), "resolutions")
        }
        if self._database.update_host(host, now_s, resolutions=found):
            self._database.bump(host, now_s)

    def _api_vip(self, host: Host, output: str, now_s: float) -> None:
        document = _decoded(output, "API VIP connectivity")
        answer = ApiVip(
            bool(document.get("is_success")),
            _text(document, "url"),
            _text(document, "download_error"),
            _one_copy(_text(document, "ignition")),
        )
        if not answer.same(host.api_vip):
            self._database.update_host(host, now_s, api_vip=answer)
        cluster = self._database.clusters.get(host.cluster_id)
        if answer.is_success and cluster is not None:
            self._database.ignition_answered(cluster, passes_without_dns(answer.filtered_ignition))

    def _connectivity(self, host: Host, output: str, now_s: float) -> None:
        # Nothing of a day-2 host depends on it, and it grows with the cluster: its digest says whether it is new.
        digest = _digest(output)
        if digest != host.connectivity:
            if not _is_connectivity(output):
                _decoded(output, "connectivity")
            self._database.update_host(host, now_s, connectivity=digest)


def _is_connectivity(output: str) -> bool:
    """Whether an output can be read, told by its parts: all hosts say the same about each of them.

    A quote stands in JSON at the ends of a text only, unless it is escaped: so the separator is nowhere but between
    two objects. False says nothing: the output may still be readable.
    """
    if not (output.startswith(_REMOTE_START) and output.endswith(_REMOTE_END)):
        return False
    return all(map(_is_remote_host, output[len(_REMOTE_START) : -len(_REMOTE_END)].split(_REMOTE_NEXT)))


@functools.lru_cache(maxsize=8192)
def _is_remote_host(text: str) -> bool:
    try:
        orjson.loads(_REMOTE_OBJECT + text + "}")
    except orjson.JSONDecodeError:
        return False
    return True


@functools.lru_cache(maxsize=16)
def _one_copy(text: str) -> str:
    """The same text object for equal texts: all hosts of a cluster fetch the same Ignition."""
    return text


def _digest(output: str) -> bytes:
    return hashlib.sha256(output.encode()).digest()


def _decoded(output: str, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(output)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"failed to decode {what} reply: {error}") from error
    if not isinstance(document, dict):
        raise ServiceError(400, f"failed to decode {what} reply: it is no object")
    return document


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ServiceError(400, f"{name} in output must be a list of objects")
    return entries


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ServiceError(400, f"{name} in body must be of type string")
    return value


def _strings(document: dict[str, Any], name: str) -> list[str]:
    values = document.get(name) or []
    if not isinstance(values, list):
        raise ServiceError(400, f"{name} in output must be a list")
    return [str(value) for value in values]
