"""Bootstrap data: where and how an Agent shall fetch its Ignition, read from the Machine's user-data Secret."""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Mapping

import orjson

from labsim.controllers.agent_provider.names import BACKUP_LABEL, WATCH_LABEL
from labsim.controllers.runtime.effects import Note, Program, ReconcileError, create, get, patch, update
from labsim.kube.errors import ApiError
from labsim.model.kinds import SECRET
from labsim.model.objects import Object, dig, labels_of, name_of, namespace_of, new

_BEARER = "Bearer "
TOKEN_KEY = "ignition-token"  # noqa: S105 - the name of a key


@dataclasses.dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the claim writes into the Agent's spec; empty where the Machine names no Secret."""

    machine_config_pool: str = ""
    token_reference: Object | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read_ignition(text: bytes) -> tuple[str, str, dict[str, str]]:
    """Machine config pool, token and other headers of an Ignition pointer; raises ReconcileError as upstream does."""
    try:
        sources = dig(orjson.loads(text), "ignition", "config", "merge", default=[])
    except orjson.JSONDecodeError as error:
        raise ReconcileError(str(error)) from None
    if len(sources) != 1:
        raise ReconcileError("did not find one ignition source as expected")
    token = ""
    headers: dict[str, str] = {}
    for header in sources[0].get("httpHeaders") or ():
        if header["name"] != "Authorization":
            headers[header["name"]] = header.get("value", "")
            continue
        value = header.get("value", "")
        if not value.startswith(_BEARER):
            raise ReconcileError("did not find expected prefix for bearer token")
        token = value[len(_BEARER) :]
    return str(sources[0].get("source", "")).rpartition("/")[2], token, headers


@functools.lru_cache(maxsize=256)
def _read_encoded(value: str) -> tuple[str, str, Mapping[str, str]]:
    """`read_ignition` of a Secret's value, which every pass over every AgentMachine asks for."""
    return read_ignition(base64.b64decode(value))


def bootstrap_of(machine: Object) -> Program[Bootstrap]:
    """Read the Machine's bootstrap data and keep the token's Secret, which CIM reads; ReconcileError or ApiError."""
    secret_name = dig(machine, "spec", "bootstrap", "dataSecretName")
    if not secret_name:
        return Bootstrap()
    namespace = namespace_of(machine)
    secret = yield from get(SECRET, namespace, secret_name)
    if secret is None:
        raise ReconcileError(f'Secret "{secret_name}" not found')
    yield from ensure_backup_label(secret)
    encoded = (secret.get("data") or {}).get("value")
    if encoded is None:
        raise ReconcileError("failed to retrieve bootstrap data: secret value key is missing")
    pool, token, headers = _read_encoded(encoded)
    token_name = f"agent-{secret_name}"
    yield from _ensure_token(namespace, token_name, token)
    return Bootstrap(pool, {"namespace": namespace, "name": token_name}, headers)


def ensure_backup_label(secret: Object) -> Program[None]:
    """Mark a Secret for backup; a failure is only noted."""
    if labels_of(secret).get(BACKUP_LABEL) == "true":
        return
    try:
        yield from patch(
            SECRET, namespace_of(secret), name_of(secret), {"metadata": {"labels": {BACKUP_LABEL: "true"}}}
        )
    except ApiError as error:
        yield Note(f"no backup label on Secret {namespace_of(secret)}/{name_of(secret)}: {error}")


def _ensure_token(namespace: str, name: str, token: str) -> Program[None]:
    """The Secret with the token. Upstream sends a create, and overwrites what is there, at each reconcile; a Secret
    that is as wanted is left alone here, which comes to the same."""
    data = {TOKEN_KEY: base64.b64encode(token.encode()).decode()}
    labels = {WATCH_LABEL: "true", BACKUP_LABEL: "true"}
    present = yield from get(SECRET, namespace, name)
    if present is not None and present.get("data") == data and labels_of(present) == labels:
        return
    wanted = new(SECRET, namespace, name, type="Opaque", data=data)
    wanted["metadata"]["labels"] = labels
    try:
        yield from create(wanted, SECRET)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        yield from update(wanted, SECRET)
