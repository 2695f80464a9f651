"""Reading Secrets as CIM's controllers do: a key's text, and the labels that mark a Secret as used."""

from __future__ import annotations

import base64
import binascii
import functools

from labsim.controllers.cim.patching import patch_metadata
from labsim.controllers.runtime.effects import Program, get
from labsim.kube.errors import ApiError
from labsim.model.kinds import SECRET
from labsim.model.objects import Object

WATCH_LABELS = {"agent-install.openshift.io/watch": "true", "cluster.open-cluster-management.io/backup": "true"}


def secret_text(secret: Object, key: str) -> str | None:
    """The text under a key of a Secret; None where there is none."""
    encoded = (secret.get("data") or {}).get(key)
    return None if encoded is None else _decoded(encoded)


@functools.lru_cache(maxsize=128)
def _decoded(encoded: str) -> str | None:
    """The text of a Secret's value. The few that all hosts of a cluster share are read again and again."""
    try:
        return base64.b64decode(encoded).decode(errors="replace")
    except binascii.Error:
        return None


def read_secret(namespace: str, name: str) -> Program[Object | None]:
    """A Secret that a resource refers to; it gets the labels that let it be watched and backed up.

    One that the cache does not hold is asked for live before it counts as missing: upstream caches labelled ones only.
    """
    secret = yield from get(SECRET, namespace, name)
    if secret is None:
        secret = yield from get(SECRET, namespace, name, live=True)
    if secret is None:
        return None
    try:
        labelled: Object = yield from patch_metadata(SECRET, secret, labels=dict(WATCH_LABELS))
    except ApiError:
        return secret
    return labelled


def no_such_secret(name: str) -> str:
    return f'failed to find secret {name}: secrets "{name}" not found'
