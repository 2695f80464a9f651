"""The second controller on AgentMachines: it writes the provider id into the Node that has joined."""

from __future__ import annotations

import base64

from labsim.controllers.agent_provider.bootstrap import ensure_backup_label
from labsim.controllers.agent_provider.managers import agent_namespace
from labsim.controllers.agent_provider.names import ADMIN_KUBECONFIG_SECRET, NOT_READY_RETRY_S
from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    ReconcileError,
    Result,
    Watch,
    get,
    own_key,
    update,
)
from labsim.model.kinds import AGENT_MACHINE, DEPLOYMENT, HOSTED_CONTROL_PLANE, NODE, SECRET
from labsim.model.objects import Object, dig, is_deleting, thaw


def controller() -> Controller:
    return Controller(
        "node-provider-id",
        reconcile,
        (
            Watch(AGENT_MACHINE, own_key, when=_can_be_named),
            Watch(SECRET, None),
            Watch(DEPLOYMENT, None),
            Watch(HOSTED_CONTROL_PLANE, None),
        ),
    )


def _can_be_named(before: Object | None, after: Object | None) -> bool:
    """Upstream looks at an AgentMachine that is not ready every 30 s; its becoming ready is an event anyway."""
    if after is None or not dig(after, "status", "ready"):
        return False
    return before is None or any(
        dig(before, *path) != dig(after, *path)
        for path in (("status", "ready"), ("status", "addresses"), ("spec", "providerID"))
    )


def node_name_of(agent_machine: Object) -> str:
    """The first InternalDNS address: the host name of the Agent when it was claimed."""
    for address in dig(agent_machine, "status", "addresses", default=()):
        if address["type"] == "InternalDNS":
            return str(address["address"])
    return ""


def reconcile(key: Key) -> Program[Result]:
    agent_machine = yield from get(AGENT_MACHINE, key.namespace, key.name)
    if agent_machine is None or is_deleting(agent_machine) or not dig(agent_machine, "status", "ready"):
        return DONE
    if (yield from agent_namespace(key.namespace)) is None:
        return Result(NOT_READY_RETRY_S)
    secret = yield from get(SECRET, key.namespace, ADMIN_KUBECONFIG_SECRET)
    encoded = dig(secret, "data", "kubeconfig")
    if secret is None or not encoded:
        raise ReconcileError(f'Secret "{ADMIN_KUBECONFIG_SECRET}" not found')
    yield from ensure_backup_label(secret)
    kubeconfig = base64.b64decode(encoded).decode()
    name = node_name_of(agent_machine)
    node = yield from get(NODE, "", name, at=kubeconfig)
    if node is None:
        raise ReconcileError(f"failed to find node with name {name}")
    wanted = str(dig(agent_machine, "spec", "providerID", default=""))
    present = dig(node, "spec", "providerID", default="")
    if not present:
        named = thaw(node)
        named.setdefault("spec", {})["providerID"] = wanted
        yield from update(named, NODE, at=kubeconfig)
    elif present != wanted:
        raise ReconcileError(
            f"node {name} already providerID is set ({present}) "
            f"and doesn't match the agentMachine providerID ({wanted})"
        )
    return DONE
