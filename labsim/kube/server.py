"""The Kubernetes API server as a library: objects in, objects out, no sockets and no clock of its own.

Objects that a method returns are shared and must not be changed. A write that changes nothing keeps the revision and is no
event. `manager` of "" leaves managedFields alone: in-process controllers write so, outside clients name themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from labsim.clock import Clock
from labsim.entropy import Entropy
from labsim.kube import apply, builtin, errors, patches
from labsim.kube.errors import ApiError
from labsim.kube.registry import Registry, ServedKind
from labsim.kube.selectors import parse_field_selector, parse_label_selector
from labsim.kube.store import Revision, Store
from labsim.kube.users import ADMIN, User
from labsim.model.kinds import (
    CERTIFICATE_SIGNING_REQUEST,
    CUSTOM_RESOURCE_DEFINITION,
    LEASE,
    NAMESPACE,
    SECRET,
    SERVICE,
    Kind,
)
from labsim.model.objects import Object, dig, thaw, timestamp

FIRST_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)
AdmissionHook = Callable[[Kind, Object | None, Object | None, str, User], None]


class ApiServer:
    """One API server: its store, the kinds that it serves, and the rules of writing."""

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        entropy: Entropy,
        crds: Iterable[Object] = (),
        port_is_free: Callable[[int], bool] = bool,  # any port but 0
    ) -> None:
        self.name = name
        self.store = Store()
        self.registry = Registry()
        self.admission: list[AdmissionHook] = []
        self._clock = clock
        self._entropy = entropy
        self._counts: dict[str, int] = {}
        self._services = builtin.ServiceNetwork(entropy, port_is_free)
        for crd in crds:
            self.create(crd, CUSTOM_RESOURCE_DEFINITION)
        for namespace in FIRST_NAMESPACES:
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, NAMESPACE)

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self.store.revision

    def kind_for(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind in its stored version, or None for a resource that is not served."""
        served = self.registry.find(group, version, plural)
        return None if served is None else served.stored

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """The object; ApiError 404 where there is none."""
        return self._latest(self._served(kind), namespace, name).object

    def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Object], int]:
        """The matching objects by namespace and name, and the revision that they are of."""
        served = self._served(kind)
        objects: Iterator[Object] = (entry.object for entry in self.store.list(served.stored, namespace))
        if label_selector:
            try:
                matches = parse_label_selector(label_selector).matches
            except ValueError as error:
                raise errors.bad_request(str(error)) from error
            objects = (obj for obj in objects if matches(obj["metadata"].get("labels") or {}))
        if field_selector:
            terms = parse_field_selector(field_selector)
            objects = (obj for obj in objects if _fields_match(obj, terms))
        return list(objects), self.store.revision

    def everything(self) -> Iterator[Object]:
        """Every object, by group, plural, namespace and name."""
        for kind in sorted(self.store.kinds(), key=lambda kind: (kind.group, kind.plural)):
            for entry in self.store.list(kind):
                yield entry.object

    def subscribe(self, callback: Callable[[Revision], None], kind: Kind | None = None) -> Callable[[], None]:
        """Hear each committed write, in order, while it happens; returns what ends it."""
        return self.store.subscribe(callback, None if kind is None else self._served(kind).stored)

    # -- writing ----------------------------------------------------------------------------------------------------

    def create(
        self, obj: Object, kind: Kind, *, user: User = ADMIN, manager: str = "", dry_run: bool = False
    ) -> Object:
        """Create an object. Raises 409 AlreadyExists, 404 for a missing namespace, 422 Invalid, ..."""
        served = self._served(kind)
        new = thaw(obj)
        new["apiVersion"], new["kind"] = served.stored.api_version, kind.kind
        metadata = new.setdefault("metadata", {})
        namespace = str(metadata.get("namespace") or "") if kind.namespaced else ""
        if metadata.get("resourceVersion"):
            raise ApiError(500, "InternalError", "resourceVersion should not be set on objects to be created")
        for field in SERVER_FIELDS:
            if field not in ("name", "namespace"):
                metadata.pop(field, None)
        if not metadata.get("name"):
            metadata["name"] = self._generated_name(kind, namespace, str(metadata.get("generateName") or ""))
        name = str(metadata["name"])
        if kind.namespaced:
            self._check_namespace(kind, namespace, name)
        if self.store.get(served.stored, namespace, name) is not None:
            raise errors.already_exists(kind, name)
        coordinates = f"{kind.qualified}/{namespace}/{name}"
        metadata["uid"] = self._entropy.uuid(f"uid/{coordinates}/{self._nth(f'uid/{coordinates}')}")
        metadata["creationTimestamp"] = timestamp(self._clock.now())
        if served.has_generation:
            metadata["generation"] = 1
        if served.is_custom and served.has_status:
            new.pop("status", None)
        self._complete_new(kind, new, user)
        self._complete(kind, new)
        _drop_empty(metadata)
        self._validate(served, new, None)
        self._admit(kind, None, new, "CREATE", user)
        if manager and "managedFields" not in metadata:
            metadata["managedFields"] = apply.updated_managers(
                None, new, schema=served.schema, manager=manager, now=timestamp(self._clock.now())
            )
        if dry_run:
            return new
        stored = self.store.put(served.stored, new).object
        if kind == CUSTOM_RESOURCE_DEFINITION:
            self.registry.serve(stored)
        return stored

    def update(
        self,
        obj: Object,
        kind: Kind,
        *,
        subresource: str = "",
        user: User = ADMIN,
        manager: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Replace an object, or one subresource of it. A stale resourceVersion is 409 Conflict."""
        served = self._served(kind)
        metadata = obj.get("metadata") or {}
        namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        present = self.store.get(served.stored, namespace if kind.namespaced else "", name)
        if present is None and kind == LEASE and not subresource:
            return self.create(obj, kind, user=user, manager=manager, dry_run=dry_run)
        if subresource == "scale":
            return self._scaled(
                served, namespace, name, dig(obj, "spec", "replicas", default=0), user, manager, dry_run
            )
        if served.is_custom and not metadata.get("resourceVersion"):
            cause = {"reason": "FieldValueInvalid", "field": "metadata.resourceVersion"}
            raise errors.invalid(
                kind, name, [{**cause, "message": "Invalid value: 0: must be specified for an update"}]
            )
        change = functools.partial(thaw, obj)
        return self._change(
            served,
            namespace,
            name,
            lambda _: change(),
            subresource,
            user,
            manager,
            dry_run,
            metadata.get("resourceVersion"),
        )

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Any,
        *,
        patch_type: str,
        subresource: str = "",
        user: User = ADMIN,
        manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Patch an object, or one subresource of it; `application/apply-patch+yaml` creates what is not there."""
        served = self._served(kind)
        if patch_type == patches.APPLY_PATCH:
            return self._applied(served, namespace, name, body, subresource, user, manager, force, dry_run)
        if subresource == "scale":
            scale = patches.patched(self.scale_of(kind, namespace, name), body, patch_type, is_custom=True)
            return self._scaled(
                served, namespace, name, dig(scale, "spec", "replicas", default=0), user, manager, dry_run
            )
        expected = dig(body, "metadata", "resourceVersion") if isinstance(body, dict) else None

        def change(old: Object) -> Object:
            result: Object = patches.patched(thaw(old), thaw(body), patch_type, is_custom=served.is_custom)
            return result

        return self._change(served, namespace, name, change, subresource, user, manager, dry_run, expected)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        user: User = ADMIN,
        dry_run: bool = False,
    ) -> Object | None:
        """Delete an object: None if it is gone now, else the object that waits for its finalizers."""
        served = self._served(kind)
        latest = self._latest(served, namespace, name)
        obj = thaw(latest.object)
        metadata = obj["metadata"]
        _check_preconditions(kind, metadata, (options or {}).get("preconditions") or {})
        self._admit(kind, latest.object, None, "DELETE", user)
        finalizers = list(metadata.get("finalizers") or [])
        marker = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(
            str((options or {}).get("propagationPolicy", ""))
        )
        if marker and marker not in finalizers:
            finalizers.append(marker)
        if kind == CUSTOM_RESOURCE_DEFINITION and not metadata.get("deletionTimestamp"):
            return self._delete_crd(served, obj, dry_run)
        if not finalizers and not (kind == NAMESPACE and dig(obj, "spec", "finalizers")):
            if not dry_run:
                self._remove(served, obj)
            return None
        if metadata.get("deletionTimestamp"):
            return latest.object
        metadata["finalizers"] = finalizers
        _drop_empty(metadata)
        metadata["deletionTimestamp"] = timestamp(self._clock.now())
        metadata["deletionGracePeriodSeconds"] = 0
        if "generation" in metadata:
            metadata["generation"] += 1
        if kind == NAMESPACE:
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return obj if dry_run else self.store.put(served.stored, obj).object

    def scale_of(self, kind: Kind, namespace: str, name: str) -> Object:
        """The autoscaling/v1 Scale of an object."""
        served = self._served(kind)
        obj = self._latest(served, namespace, name).object
        if served.scale is None:
            raise errors.not_found(kind, name)
        keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        metadata = {key: obj["metadata"][key] for key in keys if key in obj["metadata"]}
        status: Object = {"replicas": dig(obj, *served.scale.status_path, default=0)}
        if served.scale.selector_path:
            status["selector"] = dig(obj, *served.scale.selector_path, default="")
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {"replicas": dig(obj, *served.scale.spec_path, default=0)},
            "status": status,
        }

    # -- how a write is made ----------------------------------------------------------------------------------------

    def _served(self, kind: Kind) -> ServedKind:
        served = self.registry.find(kind.group, kind.version, kind.plural)
        if served is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return served

    def _latest(self, served: ServedKind, namespace: str, name: str) -> Revision:
        found = self.store.get(served.stored, namespace if served.kind.namespaced else "", name)
        if found is None:
            raise errors.not_found(served.kind, name)
        return found

    def _change(
        self,
        served: ServedKind,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        subresource: str,
        user: User,
        manager: str,
        dry_run: bool,
        expected_version: str | None,
    ) -> Object:
        kind = served.kind
        old = self._latest(served, namespace, name).object
        if expected_version and expected_version != old["metadata"]["resourceVersion"]:
            raise errors.conflict(kind, name)
        if subresource == "status" and not served.has_status:
            raise errors.not_found(kind, name)
        new = change(old)
        _check_identity(kind, old, new)
        new = _part_written(served, old, new, subresource)
        new["apiVersion"], new["kind"] = old["apiVersion"], old["kind"]
        metadata, before = new["metadata"], old["metadata"]
        for field in SERVER_FIELDS:
            if field in before:
                metadata[field] = before[field]
            else:
                metadata.pop(field, None)
        if "managedFields" in before and "managedFields" not in metadata:
            metadata["managedFields"] = before["managedFields"]
        _check_finalizers(kind, before, metadata)
        self._complete(kind, new)
        _drop_empty(metadata)
        self._validate(served, new, old)
        if served.has_generation and subresource == "" and _spec_differs(old, new):
            metadata["generation"] = before.get("generation", 0) + 1
        self._admit(kind, old, new, "UPDATE", user)
        if new == old:
            return old
        if manager:
            metadata["managedFields"] = apply.updated_managers(
                old,
                new,
                schema=served.schema,
                manager=manager,
                now=timestamp(self._clock.now()),
                subresource=subresource,
            )
        if dry_run:
            return new
        return self._stored(served, new)

    def _stored(self, served: ServedKind, new: Object) -> Object:
        """Keep the new state; a deleted object whose last finalizer has gone goes with it."""
        metadata = new["metadata"]
        waits = metadata.get("finalizers") or (served.kind == NAMESPACE and dig(new, "spec", "finalizers"))
        if metadata.get("deletionTimestamp") and not waits:
            return self._remove(served, new)
        stored = self.store.put(served.stored, new).object
        if served.kind == CUSTOM_RESOURCE_DEFINITION:
            self.registry.serve(stored)
        return stored

    def _remove(self, served: ServedKind, obj: Object) -> Object:
        if served.kind == SERVICE:
            self._services.forget(obj)
        if served.kind == CUSTOM_RESOURCE_DEFINITION:
            self.registry.withdraw(obj)
        return self.store.remove(served.stored, obj).object

    def _applied(
        self,
        served: ServedKind,
        namespace: str,
        name: str,
        body: Object,
        subresource: str,
        user: User,
        manager: str,
        force: bool,
        dry_run: bool,
    ) -> Object:
        if body.get("metadata", {}).get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        kind = served.kind
        present = self.store.get(served.stored, namespace if kind.namespaced else "", name)
        body = thaw(body)
        body.setdefault("metadata", {})["name"] = name
        if kind.namespaced:
            body["metadata"]["namespace"] = namespace
        body["apiVersion"] = served.stored.api_version
        merge = functools.partial(
            apply.applied,
            body=body,
            schema=served.schema,
            manager=manager or "labsim",
            force=force,
            now=timestamp(self._clock.now()),
            subresource=subresource,
        )
        if present is None:
            if subresource:
                raise errors.not_found(kind, name)
            return self.create(merge(None), kind, user=user, dry_run=dry_run)
        return self._change(served, namespace, name, merge, subresource, user, "", dry_run, None)

    def _scaled(
        self, served: ServedKind, namespace: str, name: str, replicas: int, user: User, manager: str, dry_run: bool
    ) -> Object:
        if served.scale is None:
            raise errors.not_found(served.kind, name)
        path = served.scale.spec_path

        def change(old: Object) -> Object:
            new = thaw(old)
            node = new
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = replicas
            return new

        self._change(served, namespace, name, change, "", user, manager, dry_run, None)
        return self.scale_of(served.kind, namespace, name)

    def _delete_crd(self, served: ServedKind, crd: Object, dry_run: bool) -> Object | None:
        """A CRD takes its objects with it; those with finalizers are waited for by whoever removes them."""
        if dry_run:
            return None
        spec = crd["spec"]
        version = next(entry["name"] for entry in spec["versions"] if entry.get("storage"))
        kind = self.kind_for(spec["group"], version, spec["names"]["plural"])
        if kind is not None:
            for obj in self.list(kind)[0]:
                self.delete(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        self._remove(served, crd)
        return None

    # -- rules ------------------------------------------------------------------------------------------------------

    def _generated_name(self, kind: Kind, namespace: str, prefix: str) -> str:
        if not prefix:
            cause = {"reason": "FieldValueRequired", "field": "metadata.name"}
            text = "Required value: name or generateName is required"
            raise errors.invalid(kind, "", [{**cause, "message": text}])
        coordinates = f"{kind.qualified}/{namespace}/{prefix}"
        return prefix + self._entropy.text(f"generate-name/{coordinates}/{self._nth(f'name/{coordinates}')}")

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        found = self.store.get(NAMESPACE, "", namespace)
        if found is None:
            raise errors.not_found(NAMESPACE, namespace)
        if found.object["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = errors.forbidden(kind, name, text)
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
            error.details["causes"] = [{**cause, "field": "metadata.namespace"}]
            raise error

    def _complete_new(self, kind: Kind, obj: Object, user: User) -> None:
        if kind == NAMESPACE:
            builtin.complete_namespace(obj)
        elif kind == CERTIFICATE_SIGNING_REQUEST:
            builtin.complete_signing_request(obj, user)
        elif kind == CUSTOM_RESOURCE_DEFINITION:
            builtin.complete_crd(obj, timestamp(self._clock.now()))

    def _complete(self, kind: Kind, obj: Object) -> None:
        if kind == SECRET:
            builtin.complete_secret(obj)
        elif kind == SERVICE:
            self._services.complete(obj)

    def _validate(self, served: ServedKind, obj: Object, old: Object | None) -> None:
        checker = served.checker()
        if checker is None:
            return
        checker.complete(obj)
        causes = checker.problems(obj, old)
        if causes:
            raise errors.invalid(served.kind, obj["metadata"]["name"], causes)

    def _admit(self, kind: Kind, old: Object | None, new: Object | None, operation: str, user: User) -> None:
        for hook in self.admission:
            hook(kind, old, new, operation, user)

    def _nth(self, coordinate: str) -> int:
        count = self._counts.get(coordinate, 0)
        self._counts[coordinate] = count + 1
        return count


def _fields_match(obj: Object, terms: tuple[tuple[str, bool, str], ...]) -> bool:
    return all((str(dig(obj, *path.split("."), default="")) == value) == equal for path, equal, value in terms)


def _drop_empty(metadata: Object) -> None:
    for field in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
        if field in metadata and not metadata[field]:
            del metadata[field]


def _spec_differs(old: Object, new: Object) -> bool:
    keys = (old.keys() | new.keys()) - {"metadata", "status", "apiVersion", "kind"}
    return any(old.get(key) != new.get(key) for key in keys)


def _check_identity(kind: Kind, old: Object, new: Object) -> None:
    found, known = new.get("metadata", {}).get("uid"), old["metadata"]["uid"]
    if found and found != known:
        text = f"Precondition failed: UID in precondition: {found}, UID in object meta: {known}"
        raise errors.conflict(kind, old["metadata"]["name"], text)


def _check_finalizers(kind: Kind, before: Object, metadata: Object) -> None:
    if not before.get("deletionTimestamp"):
        return
    extra = [entry for entry in metadata.get("finalizers") or [] if entry not in (before.get("finalizers") or [])]
    if extra:
        listed = ", ".join(f'"{entry}"' for entry in extra)
        text = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        cause = {"reason": "FieldValueForbidden", "field": "metadata.finalizers"}
        raise errors.invalid(kind, before["name"], [{**cause, "message": f"{text}[]string{{{listed}}}"}])


def _check_preconditions(kind: Kind, metadata: Object, wanted: Mapping[str, Any]) -> None:
    for field, name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        value, found = wanted.get(field), metadata.get(field)
        if value and value != found:
            text = f"the {name} in the precondition ({value}) does not match the {name} in record ({found})."
            text += " The object might have been deleted and then recreated"
            raise errors.conflict(kind, metadata["name"], text)


def _part_written(served: ServedKind, old: Object, new: Object, subresource: str) -> Object:
    """The object with only that part changed which this write may change."""
    new.setdefault("metadata", {})
    if subresource == "":
        if served.has_status:
            return _with_status(new, old.get("status"))
        return new
    base = thaw(old)
    if subresource == "status":
        base = _with_status(base, new.get("status"))
    elif subresource == "approval":
        conditions = dig(new, "status", "conditions", default=[])
        base["status"] = {**(base.get("status") or {}), "conditions": conditions}
    elif subresource == "finalize":
        base.setdefault("spec", {})["finalizers"] = dig(new, "spec", "finalizers", default=[])
    else:
        raise errors.not_found(served.kind, old["metadata"]["name"])
    if "managedFields" in new["metadata"]:
        base["metadata"]["managedFields"] = new["metadata"]["managedFields"]
    return base


def _with_status(obj: Object, status: Any) -> Object:
    if status is None:
        obj.pop("status", None)
    else:
        obj["status"] = status
    return obj
