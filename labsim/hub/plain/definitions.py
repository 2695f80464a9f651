"""Our definitions on somebody's cluster: whether they may be there, how they come, and how they go.

Several labs may share them: each adds its mark, and the last one to take its mark away deletes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator

import orjson

from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import LabError
from labsim.hub.plain.connection import ClusterConnection
from labsim.hub.plain.marks import label_of, labs_of, marked
from labsim.kube.errors import ApiError
from labsim.kube.patches import MERGE_PATCH
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION
from labsim.model.objects import Object, annotations_of, condition_status, is_deleting, name_of, uid_of

DIGEST = "labsim.dev/definition"  # of the definition as it was sent: servers add defaults to it
SERVED_WITHIN_S = 60.0
GONE_WITHIN_S = 60.0
POLL_S = 0.1
ATTEMPTS = 20  # of a write that another lab's write has overtaken


def foreign_definitions(connection: ClusterConnection, definitions: Iterable[Object]) -> list[str]:
    """Definitions on the cluster, by name, of a group that we would simulate, which no lab of ours has installed."""
    groups = {definition["spec"]["group"] for definition in definitions}
    found = _present(connection)
    ours = {item["spec"]["group"] for item in found if labs_of(item)}
    foreign = [name_of(item) for item in found if item["spec"]["group"] in groups and not labs_of(item)]
    served = connection.call("GET", "/apis").get("groups") or ()
    by_others = {group["name"] for group in served} & groups - ours - {name.partition(".")[2] for name in foreign}
    return sorted([*foreign, *(f"the served group {group}" for group in by_others)])


def check(connection: ClusterConnection, definitions: Iterable[Object], theirs: Collection[str] = ()) -> None:
    """Refuse a cluster on which our definitions would be in somebody's way. Nothing is changed.

    `theirs`: groups of components that somebody else runs, who may have defined them.
    """
    definitions = tuple(definitions)
    simulated = [definition for definition in definitions if definition["spec"]["group"] not in theirs]
    foreign = foreign_definitions(connection, simulated)
    if foreign:
        shown = ", ".join(foreign[:4]) + (f" and {len(foreign) - 4} more" if len(foreign) > 4 else "")
        raise LabError(
            f"this cluster has kinds of its own where labsim would simulate them: {shown}",
            hint="use a cluster without them; --hub plain never touches definitions that are not labsim's",
        )
    digests = {name_of(definition): _digest(definition) for definition in definitions}
    for item in _present(connection):
        if labs_of(item) and digests.get(name_of(item), "") not in ("", annotations_of(item).get(DIGEST)):
            raise LabError(
                f"the definition {name_of(item)} is another labsim version's, for the lab "
                + " and ".join(sorted(labs_of(item))),
                hint="use that version, or take that lab down first",
            )


def install(
    connection: ClusterConnection, definitions: Iterable[Object], lab_id: str, theirs: Collection[str] = ()
) -> None:
    """Create what is missing, put the lab's mark on all, and wait until the cluster serves them. A definition of a
    group of `theirs` that no lab has installed is left as it is."""
    unmarked = {name_of(item) for item in _present(connection) if not labs_of(item)}
    definitions = [
        definition
        for definition in definitions
        if definition["spec"]["group"] not in theirs or name_of(definition) not in unmarked
    ]
    names = {name_of(definition) for definition in definitions}
    for definition in definitions:
        _install_one(connection, definition, lab_id)
    deadline_s = monotonic_s() + SERVED_WITHIN_S
    while waiting := names - _established(connection):
        if monotonic_s() > deadline_s:
            raise LabError(f"the cluster does not establish {', '.join(sorted(waiting))}", hint="see their conditions")
        wait_s(POLL_S)
    for definition in definitions:
        _wait_until_served(connection, definition, deadline_s)


def _established(connection: ClusterConnection) -> set[str]:
    return {name_of(item) for item in _present(connection) if condition_status(item, "Established") == "True"}


def _wait_until_served(connection: ClusterConnection, definition: Object, deadline_s: float) -> None:
    """A real server needs a moment longer: 404 until its routes are there, 429 until the storage is."""
    spec = definition["spec"]
    version = next(version["name"] for version in spec["versions"] if version["served"])
    path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
    while True:
        try:
            connection.call("GET", path, query={"limit": "1"}, is_patient=False)
            return
        except ApiError as error:
            if error.code not in (404, 429, 503) or monotonic_s() > deadline_s:
                raise _refused(name_of(definition), error) from error
        wait_s(POLL_S)


def uninstall(connection: ClusterConnection, lab_id: str) -> None:
    """Take the lab's mark off every definition; those that carried no other are deleted, and waited for."""
    deleted: set[str] = set()
    for item in _present(connection):
        if lab_id in labs_of(item):
            deleted.update(_uninstall_one(connection, name_of(item), lab_id))
    deadline_s = monotonic_s() + GONE_WITHIN_S
    while left := deleted & {uid_of(item) for item in _present(connection)}:
        if monotonic_s() > deadline_s:
            raise LabError(f"{len(left)} definition(s) do not go", hint="kubectl get crd; see their conditions")
        wait_s(POLL_S)


def _install_one(connection: ClusterConnection, definition: Object, lab_id: str) -> None:
    path, name = CUSTOM_RESOURCE_DEFINITION.path(), name_of(definition)
    annotations = {**annotations_of(definition), DIGEST: _digest(definition)}
    wanted = marked({**definition, "metadata": {**definition["metadata"], "annotations": annotations}}, lab_id)
    for _ in range(ATTEMPTS):
        try:
            connection.call("POST", path, body=wanted)
            return
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise _refused(name, error) from error
        present = _get(connection, name)
        if present is not None and not is_deleting(present):
            body = {"metadata": {"labels": {label_of(lab_id): ""}, "uid": uid_of(present)}}
            try:
                connection.call("PATCH", f"{path}/{name}", body=body, content_type=MERGE_PATCH)
                return
            except ApiError as error:
                if error.code not in (404, 409):
                    raise _refused(name, error) from error
        wait_s(1.0)  # another lab has just taken it away
    raise LabError(f"the definition {name} could not be installed", hint="other labs come and go; try again")


def _uninstall_one(connection: ClusterConnection, name: str, lab_id: str) -> Iterator[str]:
    """Yields the uid of the definition if it was deleted."""
    path = f"{CUSTOM_RESOURCE_DEFINITION.path()}/{name}"
    for _ in range(ATTEMPTS):
        present = _get(connection, name)
        if present is None or lab_id not in labs_of(present):
            return
        version = present["metadata"]["resourceVersion"]
        try:
            if labs_of(present) == {lab_id}:
                preconditions = {"uid": uid_of(present), "resourceVersion": version}
                if not is_deleting(present):
                    connection.call("DELETE", path, body={"preconditions": preconditions})
                yield uid_of(present)
            else:
                body = {"metadata": {"labels": {label_of(lab_id): None}, "resourceVersion": version}}
                connection.call("PATCH", path, body=body, content_type=MERGE_PATCH)
            return
        except ApiError as error:
            if error.code not in (404, 409):
                raise
    raise LabError(f"the definition {name} could not be let go", hint="other labs come and go; try again")


def _present(connection: ClusterConnection) -> list[Object]:
    return list(connection.call("GET", CUSTOM_RESOURCE_DEFINITION.path()).get("items") or ())


def _get(connection: ClusterConnection, name: str) -> Object | None:
    try:
        return connection.call("GET", f"{CUSTOM_RESOURCE_DEFINITION.path()}/{name}")
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def _digest(definition: Object) -> str:
    return hashlib.blake2b(orjson.dumps(definition["spec"], option=orjson.OPT_SORT_KEYS), digest_size=10).hexdigest()


def _refused(name: str, error: ApiError) -> LabError:
    hint = "the user of the kubeconfig must be allowed to create definitions" if error.code in (401, 403) else ""
    return LabError(f"the cluster refuses the definition {name}: {error.message}", hint=hint)
