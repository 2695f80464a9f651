"""Takes everything of a lab off its cluster: what carries its mark and nothing else. May be said again at any time.

Nobody finalizes any more when this runs, so finalizers are stripped, of marked objects only; what other labs share
loses this lab's mark and stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.hub.plain.connection import ClusterConnection
from labsim.hub.plain.definitions import uninstall
from labsim.hub.plain.marks import label_of, labs_of
from labsim.hub.plain.mirror import typed
from labsim.kube.errors import ApiError
from labsim.kube.patches import MERGE_PATCH
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, Kind
from labsim.model.objects import Object, finalizers_of, is_deleting, name_of, namespace_of, uid_of

NAMESPACES_GO_WITHIN_S = 120.0
POLL_S = 0.2
ROUNDS = 5  # real controllers may make something while we delete


def sweep(connection: ClusterConnection, lab_id: str, *, ends_namespaces: bool) -> None:
    """Remove a lab. `ends_namespaces`: the cluster has no namespace controller, so we empty and finish them."""
    kinds = _deletable_kinds(connection)
    for _ in range(ROUNDS):
        found = [(kind, obj) for kind in kinds for obj in _marked(connection, kind, lab_id)]
        if not sum(_remove(connection, kind, obj, lab_id) for kind, obj in found):
            break
    _remove_namespaces(connection, lab_id, kinds, ends_namespaces=ends_namespaces)
    uninstall(connection, lab_id)


def marked_objects(connection: ClusterConnection, lab_id: str) -> list[Object]:
    """Everything on the cluster that carries a lab's mark."""
    kinds = (*_deletable_kinds(connection), NAMESPACE, CUSTOM_RESOURCE_DEFINITION)
    return [obj for kind in kinds for obj in _marked(connection, kind, lab_id)]


def _deletable_kinds(connection: ClusterConnection) -> list[Kind]:
    """Every kind that the cluster serves and that can be listed and deleted, in the preferred version of its group."""
    documents = [("", "v1", "/api/v1")]
    for group in connection.call("GET", "/apis").get("groups") or ():
        preferred = group["preferredVersion"]
        documents.append((group["name"], preferred["version"], f"/apis/{preferred['groupVersion']}"))
    found: list[Kind] = []
    for group_name, version, path in documents:
        try:
            resources = connection.call("GET", path).get("resources") or ()
        except ApiError:  # an aggregated API whose server is away: nothing of ours is there
            continue
        found += [
            Kind(group_name, version, entry["kind"], entry["name"], entry["namespaced"])
            for entry in resources
            if "/" not in entry["name"] and {"list", "delete"} <= set(entry["verbs"])
        ]
    last = (NAMESPACE, CUSTOM_RESOURCE_DEFINITION)
    return [kind for kind in found if kind not in last]


def _marked(connection: ClusterConnection, kind: Kind, lab_id: str) -> Iterator[Object]:
    try:
        answer = connection.call("GET", kind.path(), query={"labelSelector": label_of(lab_id)})
    except ApiError as error:
        if error.code in (404, 405, 503):
            return
        raise
    for item in answer.get("items") or ():
        yield typed(kind, item)


def _remove(connection: ClusterConnection, kind: Kind, obj: Object, lab_id: str) -> bool:
    """Delete an object at once, or take this lab's mark off what others share. False: it was gone already."""
    path = kind.path(namespace_of(obj), name_of(obj))
    if labs_of(obj) - {lab_id}:
        body: Object = {"metadata": {"labels": {label_of(lab_id): None}}}
        return _quietly(connection, "PATCH", path, body, MERGE_PATCH)
    did = False
    if not is_deleting(obj):
        options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0, "preconditions": {"uid": uid_of(obj)}}
        did = _quietly(connection, "DELETE", path, options)
    if finalizers_of(obj):
        body = {"metadata": {"uid": uid_of(obj), "finalizers": None}}
        did = _quietly(connection, "PATCH", path, body, MERGE_PATCH) or did
    return did


def _remove_namespaces(
    connection: ClusterConnection, lab_id: str, kinds: Sequence[Kind], *, ends_namespaces: bool
) -> None:
    deadline_s = monotonic_s() + NAMESPACES_GO_WITHIN_S
    while namespaces := list(_marked(connection, NAMESPACE, lab_id)):
        for namespace in namespaces:
            if labs_of(namespace) - {lab_id}:
                _remove(connection, NAMESPACE, namespace, lab_id)
                continue
            if not is_deleting(namespace):
                _quietly(connection, "DELETE", NAMESPACE.path("", name_of(namespace)), {})
            if ends_namespaces:
                _end_namespace(connection, name_of(namespace), kinds)
        if monotonic_s() > deadline_s:
            left = ", ".join(name_of(item) for item in namespaces)
            raise LabError(f"namespace(s) {left} do not go", hint="their conditions say what they wait for")
        wait_s(POLL_S)


def _end_namespace(connection: ClusterConnection, name: str, kinds: Sequence[Kind]) -> None:
    """What the namespace controller does: empty a namespace that is being deleted, then let it go."""
    remaining = 0
    for kind in kinds:
        if not kind.namespaced:
            continue
        try:
            items = connection.call("GET", kind.path(name)).get("items") or ()
        except ApiError as error:
            if error.code in (404, 405, 503):
                continue
            raise
        for item in items:
            remaining += 1
            if not item["metadata"].get("deletionTimestamp"):
                options = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
                _quietly(connection, "DELETE", kind.path(name, name_of(item)), options)
    if remaining:
        return
    try:
        namespace = connection.call("GET", NAMESPACE.path("", name))
        namespace["spec"]["finalizers"] = []
        connection.call("PUT", NAMESPACE.path("", name, "finalize"), body=namespace)
    except ApiError as error:
        if error.code not in (404, 409):
            raise


def _quietly(connection: ClusterConnection, method: str, path: str, body: Object, content_type: str = "") -> bool:
    """A write that somebody else may have made unnecessary."""
    try:
        connection.call(method, path, body=body, content_type=content_type or "application/json")
    except ApiError as error:
        if error.code in (404, 409, 405):
            return False
        raise
    return True
