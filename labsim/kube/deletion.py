"""Deleting: options, preconditions, finalizers, what waits for what, and definitions that take their objects along."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labsim.kube import errors
from labsim.kube.definitions import CLEANUP_FINALIZER, terminating_condition
from labsim.kube.errors import ApiError, invalid_options
from labsim.kube.registry import ServedKind
from labsim.kube.store import Revision
from labsim.kube.typed_values import typing_problem
from labsim.kube.users import User
from labsim.kube.writes import METADATA_BYTES, WritePath, waits
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, EVENT, NAMESPACE, POD, Kind
from labsim.model.objects import Object, dig, parse_timestamp, thaw, timestamp

if TYPE_CHECKING:
    from labsim.kube.server import ApiServer

_POLICIES = ("Foreground", "Background", "Orphan")
_MARKS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
_NEVER_DELETED = frozenset(("default", "kube-system", "kube-public"))


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete. `policy` is Foreground, Background or Orphan; `grace_s` None leaves the time to the object."""

    policy: str = "Background"
    grace_s: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


_PLAIN = DeleteOptions()


def checked_options(options: Mapping[str, Any]) -> DeleteOptions:
    """DeleteOptions from a request's body; 422 for what does not go together."""
    if not options:
        return _PLAIN
    policy, orphan = options.get("propagationPolicy"), options.get("orphanDependents")
    if policy is not None and orphan is not None:
        text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        raise invalid_options("DeleteOptions", "propagationPolicy", "FieldValueInvalid", text)
    if policy is not None and policy not in _POLICIES:
        text = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        raise invalid_options("DeleteOptions", "propagationPolicy", "FieldValueNotSupported", text)
    preconditions = options.get("preconditions") or {}
    return DeleteOptions(
        policy=str(policy or ("Orphan" if orphan else "Background")),
        grace_s=options.get("gracePeriodSeconds"),
        uid=str(preconditions.get("uid") or ""),
        resource_version=str(preconditions.get("resourceVersion") or ""),
        dry_run=bool(options.get("dryRun")),
    )


def delete(
    server: ApiServer,
    writes: WritePath,
    served: ServedKind,
    latest: Revision,
    options: DeleteOptions,
    user: User,
    dry_run: bool,
    last_states: list[Object],
) -> Object | None:
    """Take an object away, or mark it: None if it is gone now, else the object that waits for its finalizers."""
    kind, old = served.kind, latest.object
    metadata = old["metadata"]
    _check_preconditions(kind, metadata, options)
    if kind == NAMESPACE and metadata["name"] in _NEVER_DELETED:
        raise errors.forbidden(kind, metadata["name"], "this namespace may not be deleted")
    writes.admit_deletion(kind, old, user)
    if kind == NAMESPACE and "deletionTimestamp" in metadata and waits(kind, old):
        return old
    shares = writes.shares_parts(served)
    obj = {**old, "metadata": {**metadata}} if shares else thaw(old)
    if kind == CUSTOM_RESOURCE_DEFINITION and "deletionTimestamp" not in metadata:
        return _delete_definition(server, writes, served, obj, dry_run)
    if kind == POD:
        return _delete_pod(writes, served, latest, options, dry_run, last_states)
    if kind != EVENT:  # whose dependents nobody collects
        _mark_policy(obj["metadata"], options.policy)
    if not waits(kind, obj):
        last_states.append(old if dry_run else writes.remove(served, latest))
        if not dry_run:
            finish_definition(server, writes, served)
        return None
    unchanged = obj["metadata"].get("finalizers") == metadata.get("finalizers")
    if unchanged and "deletionGracePeriodSeconds" in metadata:
        return writes.view(served, latest)
    _mark_deleted(obj, kind, writes.now())
    if dry_run:
        return obj
    return writes.view(served, writes.put(served, obj, METADATA_BYTES if shares else None))


def _check_preconditions(kind: Kind, metadata: Object, options: DeleteOptions) -> None:
    name = metadata["name"]
    if options.uid and options.uid != metadata["uid"]:
        text = f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
        raise errors.precondition_failed(kind, name, f"{text}The object might have been deleted and then recreated")
    found = metadata["resourceVersion"]
    if options.resource_version and options.resource_version != found:
        text = f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
        text += f"ResourceVersion in record ({found}). The object might have been modified"
        raise errors.precondition_failed(kind, name, text)


def _mark_policy(metadata: Object, policy: str) -> None:
    """The finalizer by which the garbage collector knows what to do with dependents."""
    wanted = _MARKS.get(policy)
    finalizers = [entry for entry in metadata.get("finalizers") or () if entry not in _MARKS.values()]
    if wanted is not None:
        finalizers.append(wanted)
    elif "deletionTimestamp" in metadata:
        return
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _mark_deleted(obj: Object, kind: Kind, now: str) -> None:
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = now
        if "generation" in metadata:
            metadata["generation"] += 1
    if kind == NAMESPACE:  # its deletion is not a graceful one
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    else:
        metadata["deletionGracePeriodSeconds"] = 0


# -- pods ------------------------------------------------------------------------------------------------------------


def _delete_pod(
    writes: WritePath,
    served: ServedKind,
    latest: Revision,
    options: DeleteOptions,
    dry_run: bool,
    last_states: list[Object],
) -> Object | None:
    """A Pod on a node is marked, and goes when its kubelet deletes it without grace; others go at once."""
    pod = thaw(latest.object)
    metadata = pod["metadata"]
    _mark_policy(metadata, options.policy)
    left_s = metadata.get("deletionGracePeriodSeconds", 0)
    wanted_s = options.grace_s if options.grace_s is None or options.grace_s >= 0 else 1
    if "deletionTimestamp" not in metadata:
        left_s = _grace_s(pod, wanted_s)
        metadata["deletionTimestamp"] = timestamp(parse_timestamp(writes.now()) + left_s)
        metadata["generation"] = metadata.get("generation", 0) + 1
    elif left_s:
        if wanted_s is None or wanted_s >= left_s:
            return writes.view(served, latest)  # only a shorter time counts
        ends_s = parse_timestamp(metadata["deletionTimestamp"]) - left_s + wanted_s
        metadata["deletionTimestamp"] = timestamp(max(ends_s, parse_timestamp(writes.now())))
        left_s = wanted_s
    metadata["deletionGracePeriodSeconds"] = left_s
    marked = latest if pod == latest.object else None
    if marked is None and not dry_run:
        marked = writes.put(served, pod)
    if left_s or waits(POD, pod):
        return pod if marked is None else writes.view(served, marked)
    last_states.append(pod if marked is None or dry_run else writes.remove(served, marked))
    return None


def _grace_s(pod: Object, wanted_s: int | None) -> int:
    """How long a Pod may go on. One that runs nowhere, or no more, goes at once."""
    if not dig(pod, "spec", "nodeName") or dig(pod, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    grace_s: int = dig(pod, "spec", "terminationGracePeriodSeconds", default=0) if wanted_s is None else wanted_s
    return grace_s


# -- definitions -----------------------------------------------------------------------------------------------------


def _delete_definition(
    server: ApiServer, writes: WritePath, served: ServedKind, crd: Object, dry_run: bool
) -> Object | None:
    """A definition goes after its objects; those with finalizers are waited for."""
    metadata = crd["metadata"]
    metadata["finalizers"] = [*(metadata.get("finalizers") or ()), CLEANUP_FINALIZER]
    metadata["deletionTimestamp"] = now = writes.now()
    status = crd.setdefault("status", {})
    status["conditions"] = [*(status.get("conditions") or ()), terminating_condition(now)]
    if dry_run:
        return crd
    marked = writes.put(served, crd).object
    instances = _instances(server, crd)
    if instances is not None:
        for obj in server.list(instances.kind)[0]:
            server.delete(instances.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
    _finish(server, writes, crd["metadata"]["name"], instances)
    return marked


def _instances(server: ApiServer, crd: Object) -> ServedKind | None:
    spec = crd["spec"]
    for version in spec["versions"]:
        found = server.registry.find(spec["group"], version["name"], spec["names"]["plural"])
        if found is not None:
            return found
    return None


def finish_definition(server: ApiServer, writes: WritePath, served: ServedKind) -> None:
    """An object of a custom kind has gone: so does its definition, if that waited for the last one."""
    if served.is_custom and not server.store.count(served.stored):
        _finish(server, writes, served.kind.qualified, served)


def _finish(server: ApiServer, writes: WritePath, name: str, instances: ServedKind | None) -> None:
    definitions = server.served(CUSTOM_RESOURCE_DEFINITION)
    latest = server.store.get(CUSTOM_RESOURCE_DEFINITION, "", name)
    if latest is None or "deletionTimestamp" not in latest.object["metadata"]:
        return
    if instances is not None and server.store.count(instances.stored):
        return
    crd = thaw(latest.object)
    left = [entry for entry in crd["metadata"].get("finalizers") or () if entry != CLEANUP_FINALIZER]
    if left:
        crd["metadata"]["finalizers"] = left
        writes.put(definitions, crd)
        return
    writes.remove(definitions, latest)
    server.registry.withdraw(crd)


def check_definition_is_alive(server: ApiServer, served: ServedKind) -> None:
    """No object of a kind whose definition is being deleted can be created."""
    if not served.is_custom:
        return
    latest = server.store.get(CUSTOM_RESOURCE_DEFINITION, "", served.kind.qualified)
    if latest is not None and dig(latest.object, "metadata", "deletionTimestamp"):
        text = "create not allowed while custom resource definition is terminating"
        raise ApiError(405, "MethodNotAllowed", text, {"group": served.kind.group, "kind": served.kind.plural})


def check_apply_fields(served: ServedKind, body: Object, namespace: str) -> None:
    """An applied configuration must fit the schema; `namespace` as the body says it."""
    problem = typing_problem(body, served.shape)
    if problem:
        kind, metadata = served.kind, body["metadata"]
        place = f"{namespace}/{metadata['name']}; {kind.group}/{kind.version}, Kind={kind.kind}"
        raise ApiError(500, "", f"failed to create typed patch object ({place}): {problem}")
