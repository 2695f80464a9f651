"""Reaching the workload cluster of a Machine, and finding its Node there."""

from __future__ import annotations

import base64
import functools

from labsim.controllers.capi.nodes import NodeIndex
from labsim.controllers.runtime.effects import Program, ReconcileError, Unreachable, get, list_all
from labsim.model.kinds import NODE, SECRET
from labsim.model.objects import Object, dig, name_of, namespace_of

UNREACHABLE_RETRY_S = 60.0  # how long a Machine waits whose workload cluster cannot be reached


def kubeconfig_of(cluster: Object) -> Program[str]:
    """The text of the Cluster's kubeconfig; raises Unreachable while its Secret is not there."""
    name = f"{name_of(cluster)}-kubeconfig"
    secret = yield from get(SECRET, namespace_of(cluster), name)
    encoded = dig(secret, "data", "value")
    if not encoded:
        raise Unreachable(f'no kubeconfig: Secret "{name}" not found')
    return _decoded(encoded)


@functools.lru_cache(maxsize=256)
def _decoded(value: str) -> str:
    return base64.b64decode(value).decode()


def node_with_provider_id(
    index: NodeIndex, namespace: str, provider_id: str, kubeconfig: str
) -> Program[Object | None]:
    """The one Node with this provider id, None without one; ReconcileError where several carry it."""
    if index.knows(namespace):
        names = index.with_provider_id(namespace, provider_id)
        found: list[Object] = []
        for name in names:
            node = yield from get(NODE, "", name, at=kubeconfig)
            if node is not None and dig(node, "spec", "providerID") == provider_id:
                found.append(node)
    else:
        nodes = yield from list_all(NODE, at=kubeconfig)
        found = [node for node in nodes if dig(node, "spec", "providerID") == provider_id]
    if len(found) > 1:
        raise ReconcileError(f"multiple nodes found with provider ID {provider_id}")
    return found[0] if found else None
