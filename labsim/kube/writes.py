"""How a write becomes a revision: identity, admission, pruning, defaults, checks, generation, ownership, storage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import orjson

from labsim.clock import Clock
from labsim.entropy import Entropy
from labsim.kube import errors, ownership
from labsim.kube.builtin import (
    NO_RULES,
    STRATEGIES,
    Strategy,
    label_namespace,
)
from labsim.kube.creators import creators_part, starting_point
from labsim.kube.decoding import decode_builtin, decode_metadata, strict_error
from labsim.kube.definitions import complete_definition, definition_problems
from labsim.kube.errors import ApiError, Undecodable, bad_request, cause
from labsim.kube.metadata import drop_empty, keep_server_fields, metadata_problems
from labsim.kube.object_identity import (
    check_deletion,
    check_identity,
    identify,
    other_kind,
    sorted_text,
)
from labsim.kube.registry import ServedKind
from labsim.kube.sameness import same
from labsim.kube.scales import scale_problems
from labsim.kube.services import ServiceNetwork
from labsim.kube.store import Revision, Store
from labsim.kube.users import ADMIN, User
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, NAMESPACE, POD, SERVICE, Kind
from labsim.model.objects import Object, dig, thaw, timestamp

AdmissionHook = Callable[[Kind, Object | None, Object | None, str, User], None]
STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"
_DEFINITION = Strategy(complete_definition, definition_problems)
METADATA_BYTES = 400  # of text that every change makes new: metadata, and what leads to the changed part
_WHOLE = ("", "scale")  # what is written where it is not one part of the object alone
_OUTSIDE_SPEC = ("metadata", "apiVersion", "kind", "status")
# Kinds whose defaults are written into parts that a change may have left alone.
_WRITTEN_INTO = frozenset((SERVICE, CUSTOM_RESOURCE_DEFINITION))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How a client writes. `manager` of "" leaves managedFields alone; `warnings` gathers what to tell it."""

    user: User
    manager: str = ""
    dry_run: bool = False
    field_validation: str = ""
    warnings: list[str] | None = None


QUIETLY = WriteOptions(user=ADMIN)  # how in-process controllers write


def write_options(
    user: User, manager: str, dry_run: bool, field_validation: str, warnings: list[str] | None
) -> WriteOptions:
    """The options of a write, most of which have the same ones."""
    if user is ADMIN and not manager and not dry_run and not field_validation and warnings is None:
        return QUIETLY
    return WriteOptions(
        user=user, manager=manager, dry_run=dry_run, field_validation=field_validation, warnings=warnings
    )


class WritePath:
    """The one way into a store."""

    def __init__(self, store: Store, clock: Clock, entropy: Entropy, services: ServiceNetwork) -> None:
        self.admission: list[AdmissionHook] = []
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._services = services
        self._counts: dict[str, int] = {}

    def now(self) -> str:
        return timestamp(self._clock.now())

    # -- reading -----------------------------------------------------------------------------------------------------

    def view(self, served: ServedKind, revision: Revision) -> Object:
        """An object as this version of its kind shows it."""
        if served.schema is None or (served.is_stored_version and revision.revision > served.since):
            return revision.object
        views = revision.views
        if views is None:
            views = revision.views = {}
        found = views.get(served)
        if found is None:
            found = views[served] = served.shown(orjson.loads(revision.data))
        return found

    # -- creating ----------------------------------------------------------------------------------------------------

    def create(self, served: ServedKind, obj: Object, options: WriteOptions) -> Object:
        """Store a new object. The name may be generated."""
        kind = served.kind
        new = _own_copy(obj)
        identify(kind, new)
        self._decode(served, new, options)
        metadata = new["metadata"]
        namespace = metadata.get("namespace", "") if kind.namespaced else ""
        if not kind.namespaced:
            metadata.pop("namespace", None)
        if metadata.get("resourceVersion"):
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        managed = metadata.get("managedFields")
        keep_server_fields(metadata, {key: metadata[key] for key in ("name", "namespace") if key in metadata})
        generated = "" if metadata.get("name") else self._generate_name(served, metadata, namespace)
        name = metadata["name"]
        self._check_namespace(kind, namespace, name)
        now = self.now()
        metadata["creationTimestamp"] = now
        if served.has_generation:
            metadata["generation"] = 1
        if served.has_status and served.is_custom:
            new.pop("status", None)
        self._settle(served, new, None, options)
        present = self._store.get(served.stored, namespace, name)  # what is wrong is told first
        if present is not None:
            raise errors.already_exists(kind, name, deleting="deletionTimestamp" in present.object["metadata"])
        self._admit(kind, None, new, "CREATE", options.user)
        self._own_new(served, obj, new, managed, now, options)
        coordinates = f"uid/{kind.qualified}/{namespace}/{name}"
        if options.dry_run:
            coordinates = f"dry-run/{coordinates}"
        metadata["uid"] = self._entropy.uuid(f"{coordinates}/{self._counts.get(coordinates, 0)}")
        if options.dry_run:
            self._count(coordinates)
            return new
        self._count(coordinates)
        if generated:
            self._count(generated)
        return self._stored(served, new, None)

    def _generate_name(self, served: ServedKind, metadata: Object, namespace: str) -> str:
        """Put a generated name into metadata; returns the coordinates of the value that was drawn."""
        prefix = str(metadata.get("generateName") or "")
        if not prefix:  # checked with everything else
            metadata["name"] = ""
            return ""
        coordinates = f"generate-name/{served.kind.qualified}/{namespace}/{prefix}"
        while True:
            name = prefix + self._entropy.text(f"{coordinates}/{self._counts.get(coordinates, 0)}")
            if self._store.get(served.stored, namespace, name) is None:
                metadata["name"] = name
                return coordinates
            self._count(coordinates)

    def _count(self, coordinates: str) -> None:
        self._counts[coordinates] = self._counts.get(coordinates, 0) + 1

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        """Nothing is created in a namespace that is not there, or that is about to go."""
        if not kind.namespaced:
            return
        if not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        found = self._store.get(NAMESPACE, "", namespace)
        if found is None:
            raise errors.not_found(NAMESPACE, namespace)
        if "deletionTimestamp" in found.object["metadata"]:
            text = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = errors.forbidden(kind, name, text)
            text = f"namespace {namespace} is being terminated"
            error.details["causes"] = [cause("NamespaceTerminating", text, "metadata.namespace")]
            raise error

    def _own_new(
        self, served: ServedKind, said: Object, new: Object, managed: Any, now: str, options: WriteOptions
    ) -> None:
        """managedFields of a new object: the creator owns what it said and what was defaulted in its name."""
        kind, metadata = served.kind.kind, new["metadata"]
        if not options.manager:
            return
        given = ownership.entries_of(managed)
        metadata.pop("managedFields", None)
        if given:  # an apply that creates, or an object that brings its owners with it
            metadata["managedFields"] = ownership.encoded(given)
            if any(entry.operation == ownership.APPLY and entry.manager == options.manager for entry in given):
                return
        before, owned = (None, new) if served.is_custom else (starting_point(kind), creators_part(kind, said, new))
        entries = ownership.updated(before, owned, given, shape=served.shape, manager=options.manager, now=now)
        if entries:
            metadata["managedFields"] = entries

    # -- changing ----------------------------------------------------------------------------------------------------

    def change(
        self,
        served: ServedKind,
        namespace: str,
        name: str,
        make: Callable[[Object], Object],
        options: WriteOptions,
        *,
        subresource: str = "",
        is_patch: bool = False,
        is_apply: bool = False,
        changed_bytes: int | None = None,
        shown_patch: str = "",
    ) -> Object:
        """Store what `make` makes of an object. A write that changes nothing keeps the revision and is no event.

        changed_bytes: about how much text the change is, where `make` shares with the object what it leaves alone.
        shown_patch: how a refusal shows a patch, "" to show what it made.
        """
        kind = served.kind
        latest = self._store.get(served.stored, namespace if kind.namespaced else "", name)
        if latest is None:
            raise errors.not_found(kind, name)
        old = self.view(served, latest)
        new = make(old)
        if new is old:
            return old
        before = old["metadata"]
        said = (new.get("apiVersion"), new.get("kind"))
        if is_patch and said != (kind.api_version, kind.kind) and (served.is_custom or any(said)):
            raise other_kind(served, new, name)
        is_named = new.get("metadata") is not before  # a merge shares what it does not name
        try:
            self._decode(served, new, options, old)
        except Undecodable as refused:
            if not is_patch or is_apply:
                raise
            # Decoding has taken out what it did not know: the patch is made again, to be shown.
            raise errors.invalid_patch(shown_patch or sorted_text(make(old)), refused.problem) from refused
        given = new["metadata"]
        if is_named:
            if is_patch and not given.get("name"):
                text = f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
                raise bad_request(text)
            check_identity(served, before, given, is_patch=is_patch)
            check_deletion(kind, before, given)
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        managed = given.get("managedFields")
        new = self._written_part(served, old, new, subresource)
        metadata = new["metadata"]
        if metadata is before:
            metadata = new["metadata"] = dict(metadata)
        is_whole = subresource in _WHOLE
        if is_named and is_whole:
            keep_server_fields(metadata, before)
        if served.is_custom and not served.is_stored_version and served.conversion is None:
            self._carry_hidden(latest, new)
        self._settle(served, new, old, options, subresource=subresource, has_new_metadata=is_named and is_whole)
        if is_whole and served.has_generation and _spec_differs(served, old, new):
            metadata["generation"] = before.get("generation", 0) + 1
        self._admit(kind, old, new, "UPDATE", options.user)
        if is_apply:
            metadata["managedFields"] = managed
        elif is_named or options.manager:
            self._own_changed(served, old, new, managed, options, subresource)
        if is_named or options.manager:
            drop_empty(metadata)
        if same(old, new) and (served.is_stored_version or served.conversion is None):
            return old
        if options.dry_run:
            return new
        return self._finished(served, new, latest, changed_bytes if old is latest.object else None)

    def shares_parts(self, served: ServedKind) -> bool:
        """Whether a change of such an object may share with it what it leaves alone: nothing is written into there."""
        return served.is_stored_version and served.kind not in _WRITTEN_INTO

    def _carry_hidden(self, latest: Revision, new: Object) -> None:
        """Top-level parts that this version does not know stay as they are stored."""
        for key, value in latest.object.items():
            if key not in ("apiVersion", "kind", "metadata", "spec", "status") and key not in new:
                new[key] = value

    def _written_part(self, served: ServedKind, old: Object, new: Object, subresource: str) -> Object:
        """The object with only that part changed which this write may change."""
        if subresource in _WHOLE:
            return _with_status(new, old.get("status")) if served.has_status else new
        shares = served.is_custom or self.shares_parts(served)
        base = {**old, "metadata": {**old["metadata"]}} if shares else thaw(old)
        if subresource == "status" and served.has_status:
            base = _with_status(base, new.get("status"))
        elif subresource == "approval":
            conditions = dig(new, "status", "conditions", default=[])
            base["status"] = {**(base.get("status") or {}), "conditions": conditions}
        elif subresource == "finalize":
            base["spec"] = {**(base.get("spec") or {}), "finalizers": dig(new, "spec", "finalizers", default=[])}
        elif subresource == "binding":
            base["spec"] = {**(base.get("spec") or {}), "nodeName": dig(new, "spec", "nodeName", default="")}
            _mark_scheduled(base, self.now())
        else:
            raise errors.not_found(served.kind, old["metadata"]["name"])
        return base

    def _own_changed(
        self, served: ServedKind, old: Object, new: Object, managed: Any, options: WriteOptions, subresource: str
    ) -> None:
        """managedFields after a write: the writer's view of them first, then what it changed."""
        metadata, before = new["metadata"], old["metadata"].get("managedFields")
        if managed == [{}]:
            metadata.pop("managedFields", None)
            return
        if not options.manager:
            if before is None:
                metadata.pop("managedFields", None)
            else:
                metadata["managedFields"] = before
            return
        entries = ownership.entries_of(managed) or ownership.entries_of(before)
        if not entries:  # what nobody has owned from the start is not tracked before somebody applies it
            metadata.pop("managedFields", None)
            return
        kept = subresource if subresource in ("status", "scale", "approval", "binding") else ""
        try:
            metadata["managedFields"] = ownership.updated(
                old,
                new,
                entries,
                shape=served.shape,
                manager=options.manager,
                now=self.now(),
                subresource=kept,
                in_version=served.in_version,
            )
        except ApiError:  # no other version can show it: upstream forgets who owned what
            metadata.pop("managedFields", None)

    # -- both --------------------------------------------------------------------------------------------------------

    def _decode(self, served: ServedKind, new: Object, options: WriteOptions, old: Object | None = None) -> None:
        """Check types; take out or refuse what is not known. What is shared with `old` is known to be fine."""
        kind = served.kind
        if served.schema is None:
            unknown = decode_builtin(kind, new, served.shape, old)
            if not isinstance(new.get("metadata"), dict):
                new["metadata"] = {}
        else:
            unknown = decode_metadata(kind, new, old)
            if options.field_validation == STRICT or options.warnings is not None:
                checker = served.checker
                unknown = sorted(unknown + ([] if checker is None else checker.unknown_fields(new, old)))
        if options.field_validation == STRICT and (unknown or options.warnings):
            raise strict_error(kind, options.warnings or (), unknown)
        if unknown and options.warnings is not None and options.field_validation != IGNORE:
            options.warnings.extend(f'unknown field "{path}"' for path in unknown)

    def _settle(
        self,
        served: ServedKind,
        new: Object,
        old: Object | None,
        options: WriteOptions,
        *,
        subresource: str = "",
        has_new_metadata: bool = True,
    ) -> None:
        """Prune, default and check in place; raises 422 with everything that is wrong."""
        kind, metadata = served.kind, new["metadata"]
        causes: list[dict[str, str]] = []
        if has_new_metadata:
            drop_empty(metadata)
            before = None if old is None else old["metadata"]
            if kind == NAMESPACE:
                label_namespace(metadata)
            causes = metadata_problems(metadata, before, served.name_problems, served.traits)
        checker = served.checker
        if checker is not None:
            valid = checker.complete(new, old)
            if not valid or checker.has_rules:
                causes += checker.problems(new, old, valid=valid)
        elif kind == SERVICE:
            self._services.complete(new, old)
            causes += self._services.problems(new, old)
        else:
            strategy = _DEFINITION if kind == CUSTOM_RESOURCE_DEFINITION else STRATEGIES.get(kind.kind, NO_RULES)
            if strategy.complete is not None and subresource != "finalize":
                strategy.complete(new, old, options.user)
            scheduling = kind == POD and (subresource == "binding" or not options.manager)
            if strategy.problems is not None and not (old is not None and scheduling):
                causes += strategy.problems(new, old)
        if checker is not None and served.scale is not None and subresource != "status":
            causes += scale_problems(served.scale.spec_path, new)
        if causes:
            if checker is not None and subresource == "status":
                causes = [_within_status(found) for found in causes]
            raise errors.invalid(kind, metadata["name"], causes)

    def _admit(self, kind: Kind, old: Object | None, new: Object | None, operation: str, user: User) -> None:
        for hook in self.admission:
            hook(kind, old, new, operation, user)

    def admit_deletion(self, kind: Kind, old: Object, user: User) -> None:
        self._admit(kind, old, None, "DELETE", user)

    def _finished(self, served: ServedKind, new: Object, latest: Revision, changed_bytes: int | None) -> Object:
        """Keep the new state; a deleted object whose last finalizer has gone goes with it."""
        metadata = new["metadata"]
        ends = "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds")
        if ends and not waits(served.kind, new):
            self.remove(served, latest)
            return new
        return self._stored(served, new, latest.object, changed_bytes)

    def _stored(self, served: ServedKind, new: Object, old: Object | None, changed_bytes: int | None = None) -> Object:
        if served.kind == SERVICE:
            self._services.keep(new, old)
        if served.is_stored_version:
            return self._store.put(served.stored, new, changed_bytes).object
        kept = served.as_stored(new)
        if old is not None and served.conversion is not None and same(old, kept):
            latest = self._store.get(served.stored, kept["metadata"].get("namespace", ""), kept["metadata"]["name"])
            assert latest is not None
            return self.view(served, latest)
        return self.view(served, self._store.put(served.stored, kept))

    def put(self, served: ServedKind, new: Object, changed_bytes: int | None = None) -> Revision:
        """Store a state that the server itself has made; `changed_bytes` as in Store.put."""
        return self._store.put(served.stored, new, changed_bytes)

    def remove(self, served: ServedKind, latest: Revision) -> Object:
        """Take an object away; its last stored state is what the event shows."""
        if served.kind == SERVICE:
            self._services.forget(latest.object)
        gone = latest.object
        return self._store.remove(served.stored, {**gone, "metadata": dict(gone["metadata"])}).object


def waits(kind: Kind, obj: Object) -> bool:
    """Whether a deleted object is still waited for."""
    return bool(obj["metadata"].get("finalizers")) or (kind == NAMESPACE and bool(dig(obj, "spec", "finalizers")))


def _own_copy(obj: Object) -> Object:
    try:
        return thaw(obj)
    except TypeError as problem:
        raise bad_request(f"the object cannot be written as JSON: {problem}") from problem


def _within_status(found: dict[str, str]) -> dict[str, str]:
    """A cause as a write of the status alone tells it: its text counts from there."""
    field = found["field"]
    if not field.startswith("status."):
        return found
    return {**found, "message": found["message"].replace(f"{field} in body", f"{field[7:]} in body")}


def _with_status(obj: Object, status: Any) -> Object:
    if status is None:
        obj.pop("status", None)
    else:
        obj["status"] = status
    return obj


def _spec_differs(served: ServedKind, old: Object, new: Object) -> bool:
    if served.kind == DEPLOYMENT and old["metadata"].get("annotations") != new["metadata"].get("annotations"):
        return True  # annotations of a Deployment are part of what its controller looks at
    outside = _OUTSIDE_SPEC if served.has_status else _OUTSIDE_SPEC[:3]
    for key, value in new.items():
        if key not in outside:
            before = old.get(key)
            if value is not before and value != before:
                return True
    return any(key not in new and old[key] is not None for key in old if key not in outside)


def _mark_scheduled(pod: Object, now: str) -> None:
    status = pod.get("status") or {}
    conditions = [entry for entry in status.get("conditions") or () if entry.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    pod["status"] = {**status, "conditions": [*conditions, scheduled]}
