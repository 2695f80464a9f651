"""DaemonSets that somebody else makes in a hosted cluster, such as the one that reclaims a node (CIM sheet, 3.9).

The platform's own DaemonSets go with the Nodes (see `guest_nodes`); these are few, and each is expanded by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from labsim.controllers.hypershift.guest_catalog import NODE_WORKLOADS
from labsim.controllers.hypershift.guest_state import GuestState
from labsim.controllers.hypershift.names import key_from
from labsim.controllers.hypershift.observed import Observed, admin_kubeconfig
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, create, get, patch
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import DAEMON_SET, NODE, POD
from labsim.model.objects import (
    Object,
    annotations_of,
    dig,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    new,
    owner_named,
    owner_reference,
    uid_of,
)

_HOSTNAME = "kubernetes.io/hostname"
_PLATFORM = frozenset((entry.namespace, entry.name) for entry in NODE_WORKLOADS)


class GuestDaemonSets:
    """The loop over DaemonSets that are not the platform's own. Keys: owner, and "<namespace>/<name>"."""

    def __init__(self, entropy: Entropy, observed: Observed, state: GuestState) -> None:
        self._entropy = entropy
        self._observed = observed
        self._state = state

    def controller(self) -> Controller:
        return Controller(
            name="guest-daemon-sets",
            reconcile=self.reconcile,
            watches=(
                Watch(DAEMON_SET, _own_keys, hosted=True, when=self._state.note_daemon_set),
                Watch(POD, _owner_keys, hosted=True),
            ),
            workers=4,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        place = key_from(key.name)
        if (place.namespace, place.name) in _PLATFORM:
            return DONE
        at = yield from admin_kubeconfig(self._observed, key_from(key.namespace))
        if at is None:
            return DONE
        daemon_set = yield from get(DAEMON_SET, place.namespace, place.name, at=at)
        if daemon_set is None or is_deleting(daemon_set):
            return DONE
        desired = ready = 0
        for node in (yield from self._nodes_of(daemon_set, key.namespace, at)):
            desired += 1
            ready += yield from self._ensure_pod(daemon_set, node, at)
        yield from _write_status(daemon_set, desired, ready, at)
        return DONE

    def _nodes_of(self, daemon_set: Object, owner: str, at: str) -> Program[list[Object]]:
        selector: dict[str, str] = dig(daemon_set, "spec", "template", "spec", "nodeSelector", default={})
        known = self._state.nodes.get(owner, {})
        names = [selector[_HOSTNAME]] if _HOSTNAME in selector else sorted(known)
        found = []
        for name in names:
            node = yield from get(NODE, "", name, at=at)
            if node is None or is_deleting(node):
                continue
            labels = {_HOSTNAME: name, **labels_of(node)}
            if all(labels.get(label) == value for label, value in selector.items()):
                found.append(node)
        return found

    def _ensure_pod(self, daemon_set: Object, node: Object, at: str) -> Program[int]:
        """The pod of a node; 1 if it runs."""
        suffix = self._entropy.text(f"daemon-pod/{uid_of(daemon_set)}/{uid_of(node)}")
        name = f"{name_of(daemon_set)}-{suffix}"
        present = yield from get(POD, namespace_of(daemon_set), name, at=at)
        if present is not None:
            return int(dig(present, "status", "phase") == "Running")
        template = daemon_set["spec"]["template"]
        spec = {**template["spec"], "nodeName": name_of(node)}
        pod = new(POD, namespace_of(daemon_set), name, spec=spec, status={"phase": "Pending"})
        pod["metadata"].update(
            labels=dict(labels_of(template) if "metadata" in template else {}),
            annotations=dict(annotations_of(template) if "metadata" in template else {}),
            ownerReferences=[owner_reference(daemon_set, controller=True)],
        )
        try:
            yield from create(pod, POD, at=at)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return 0


def _own_keys(daemon_set: Object, owner: str) -> tuple[Key, ...]:
    return (Key(owner, f"{namespace_of(daemon_set)}/{name_of(daemon_set)}"),)


def _owner_keys(pod: Object, owner: str) -> Iterable[Key]:
    reference = owner_named(pod, DAEMON_SET.kind)
    if reference is not None and (namespace_of(pod), reference["name"]) not in _PLATFORM:
        yield Key(owner, f"{namespace_of(pod)}/{reference['name']}")


def _write_status(daemon_set: Object, desired: int, ready: int, at: str) -> Program[None]:
    status = daemon_set_status(daemon_set, desired, ready)
    before = dig(daemon_set, "status", default={})
    changes = {key: value for key, value in status.items() if before.get(key) != value}
    if changes:
        body = {"status": changes}
        yield from patch(DAEMON_SET, namespace_of(daemon_set), name_of(daemon_set), body, subresource="status", at=at)


def daemon_set_status(daemon_set: Object, desired: int, ready: int) -> Object:
    """The counts of a DaemonSet whose every wanted pod exists."""
    return {
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
        "desiredNumberScheduled": desired,
        "currentNumberScheduled": desired,
        "updatedNumberScheduled": desired,
        "numberMisscheduled": 0,
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": max(0, desired - ready),
    }
