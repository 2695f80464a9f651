"""Pushing an Agent's spec into the database (cim-resources 3.3)."""

from __future__ import annotations

from typing import Any

import orjson

from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.host_states import POOL
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.rows import AUTO_ASSIGN, Host
from labsim.controllers.cim.secrets_access import read_secret, secret_text
from labsim.controllers.cim.validations.hardware import FORBIDDEN_HOSTNAMES, HOSTNAME_PATTERN, hostname_problem
from labsim.controllers.runtime.effects import Program
from labsim.model.objects import Object, dig

# Elsewhere these fields are skipped without a word, and SpecSynced stays True.
OPEN_STATES = (*POOL, "discovering", "known", "disconnected", "insufficient", "pending-for-input", "binding")
ROLES = (AUTO_ASSIGN, "master", "arbiter", "worker")
INSTALLER_FLAGS = (
    "--append-karg",
    "--delete-karg",
    "-n",
    "--copy-network",
    "--network-dir",
    "--save-partlabel",
    "--save-partindex",
    "--image-url",
    "--image-file",
)
TOKEN_KEY = "ignition-token"  # noqa: S105  (a key's name)


def push_spec(lifecycle: HostLifecycle, host: Host, spec: Object, now_s: float) -> Program[None]:
    """Bring the host to its Agent's spec. Raises ServiceError for what cannot be taken."""
    database = lifecycle.database
    if host.status in OPEN_STATES:
        changes = yield from _open_changes(host, spec)
        if database.update_host(host, now_s, **changes):
            database.bump(host, now_s)
            lifecycle.refresh(host, now_s)
    always = {
        "installer_args": _installer_args(spec),
        "ignition_overrides": _ignition_overrides(spec),
    }
    database.update_host(host, now_s, **always)
    approved = bool(spec.get("approved"))
    if database.update_host(host, now_s, approved=approved):
        message = f"Host {host.display_name}: updated approved to {str(approved).lower()}"
        database.host_event(host, "host_approved_updated", "info", message, now_s)


def _open_changes(host: Host, spec: Object) -> Program[dict[str, Any]]:
    changes: dict[str, Any] = {}
    hostname = spec.get("hostname") or ""
    if hostname and hostname != host.requested_hostname:
        _check_hostname(hostname)
        changes["requested_hostname"] = hostname
    role = spec.get("role") or ""
    if role and role != host.role:
        if role not in ROLES:
            raise UntypedError(f"Failed to set role: role {role} is not valid")
        changes["role"] = role
    pool = spec.get("machineConfigPool") or ""
    if pool:
        changes["machine_config_pool"] = pool
    changes.update(_disk_changes(host, spec))
    changes["node_labels"] = dict(spec.get("nodeLabels") or {})
    changes["ignition_headers"] = dict(spec.get("ignitionEndpointHTTPHeaders") or {})
    changes["ignition_token"] = yield from _ignition_token(spec)
    return changes


def _check_hostname(hostname: str) -> None:
    if hostname in FORBIDDEN_HOSTNAMES:
        raise ServiceError(400, f"The host name {hostname} is forbidden")
    if hostname_problem(hostname) is not None:
        raise ServiceError(
            400,
            f"Hostname does not pass required regex validation: {HOSTNAME_PATTERN}. Hostname: {hostname}",
        )


def _disk_changes(host: Host, spec: Object) -> dict[str, Any]:
    wanted = spec.get("installation_disk_id") or spec.get("installation_disk_path") or ""
    if not wanted or host.inventory is None:
        return {}
    for disk in host.inventory.eligible_disks:
        if wanted in (disk.id, disk.by_path, disk.path):
            return {"installation_disk_id": disk.id, "installation_disk_path": disk.path}
    raise ServiceError(409, "Requested installation disk is not part of the host's valid disks")


def _ignition_token(spec: Object) -> Program[str]:
    reference = spec.get("ignitionEndpointTokenReference")
    if not reference:
        return ""
    name = dig(reference, "name", default="")
    secret = yield from read_secret(dig(reference, "namespace", default=""), name)
    if secret is None:
        raise UntypedError(f'failed to get secret {name}: secrets "{name}" not found')
    token = secret_text(secret, TOKEN_KEY)
    if token is None:
        raise UntypedError(f"secret {name} did not contain key {TOKEN_KEY}")
    return token


def _installer_args(spec: Object) -> str:
    text = spec.get("installerArgs") or ""
    if not text:
        return ""
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"failed to parse installer args: {error}") from error
    if not isinstance(arguments, list) or not all(isinstance(entry, str) for entry in arguments):
        raise ServiceError(400, "failed to parse installer args: it is no array of strings")
    for argument in arguments:
        if argument.startswith("-") and argument.partition("=")[0] not in INSTALLER_FLAGS:
            raise ServiceError(
                400, f"found unexpected flag {argument} for installer - allowed flags are {INSTALLER_FLAGS}"
            )
    return str(text)


def _ignition_overrides(spec: Object) -> str:
    text = spec.get("ignitionConfigOverrides") or ""
    if not text:
        return ""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"error parsing ignition: config is not valid: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("ignition"), dict):
        raise ServiceError(400, "error parsing ignition: config is not valid")
    return str(text)
