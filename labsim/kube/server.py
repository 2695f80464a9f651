"""The Kubernetes API server as a library: objects in, objects out, no sockets and no clock of its own.

Objects that a method returns are shared and must not be changed. A write that changes nothing keeps the revision and is
no event. `manager` of "" leaves managedFields alone: in-process controllers write so, outside clients name themselves.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import orjson

from labsim.clock import Clock
from labsim.entropy import Entropy
from labsim.kube import deletion, errors, patches
from labsim.kube.applying import applied
from labsim.kube.conversion import Conversions
from labsim.kube.decoding import decode_builtin, decode_metadata
from labsim.kube.definitions import accepted_status, is_established, name_conflict
from labsim.kube.errors import bad_request, cause
from labsim.kube.field_index import INDEXED
from labsim.kube.go_json import go_text
from labsim.kube.merging import merge_adopted, merge_patched
from labsim.kube.registry import Registry, ServedKind
from labsim.kube.scales import scale_shown
from labsim.kube.scaling import scaled
from labsim.kube.selectors import field_reader, parse_field_selector, parse_label_selector
from labsim.kube.services import ServiceNetwork
from labsim.kube.store import Revision, Store
from labsim.kube.users import ADMIN, User
from labsim.kube.writes import METADATA_BYTES, QUIETLY, AdmissionHook, WriteOptions, WritePath, write_options
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, SERVICE, Kind
from labsim.model.objects import Object, thaw

Objects = list[Object]
Tell = Callable[[Callable[[], None]], None]
Warnings = list[str]
Texts = list[bytes]
FIRST_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class Kept(Protocol):
    """What an API server has left behind. `life`: tells the names and uids that are drawn from now on from those
    before."""

    life: str

    def restore(self, store: Store) -> None: ...


class ApiServer:
    """One API server: its store, the kinds that it serves, and the rules of writing.

    port_is_free: whether a node port may be handed out. conversions: what the conversion webhooks of definitions, by
    name, would answer. kept: what a server before this one held, instead of the definitions and namespaces that a new
    one begins with. `admission` holds hooks (kind, old, new, operation, user) that raise ApiError to refuse a write.
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        entropy: Entropy,
        crds: Iterable[Object] = (),
        conversions: Conversions | None = None,
        port_is_free: Callable[[int], bool] = bool,  # any port but 0
        kept: Kept | None = None,
    ) -> None:
        self.name = name
        self.store = Store()
        self.registry = Registry(conversions)
        # Tells clients outside the process what has happened, once it is kept on a disk; None tells them at once.
        self.tell: Tell | None = None
        self._clock = clock
        services = ServiceNetwork(entropy, port_is_free)
        chance = entropy if kept is None else entropy.child(kept.life)
        self._writes = WritePath(self.store, clock, chance, services)
        if kept is not None:
            self._restore(kept, services)
            return
        for crd in crds:
            self._install(crd)
        for namespace in FIRST_NAMESPACES:
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, NAMESPACE)

    @property
    def admission(self) -> list[AdmissionHook]:
        return self._writes.admission

    @property
    def clock(self) -> Clock:
        return self._clock

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self.store.revision

    def kind_for(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind in its stored version, or None for a resource that is not served."""
        served = self.registry.find(group, version, plural)
        return None if served is None else served.stored

    def served(self, kind: Kind) -> ServedKind:
        """How a kind is served; 404 where it is not."""
        found = self.registry.of(kind)
        if found is None:
            raise errors.no_resource()
        return found

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """The object; ApiError 404 where there is none."""
        served = self.served(kind)
        return self._writes.view(served, self._latest(served, namespace, name))

    def read_metadata(self, kind: Kind, obj: Object) -> None:
        """Read an object's metadata in place as a write would; 400 where a field has the wrong type."""
        served = self.served(kind)
        if served.is_custom:
            decode_metadata(kind, obj)
        else:
            decode_builtin(kind, obj, served.shape)
        if obj.get("metadata") is None:
            obj["metadata"] = {}

    def is_stored_version(self, kind: Kind) -> bool:
        """Whether objects of a kind are stored just as this version shows them."""
        served = self.registry.of(kind)
        return served is not None and served.is_stored_version

    def shown(self, kind: Kind, revision: Revision) -> Object:
        """The state that a revision holds, as a version of its kind shows it."""
        return self._writes.view(self.served(kind), revision)

    def in_version(self, kind: Kind, obj: Object) -> Object:
        """An object as a version of its kind shows it; the object itself where it is of that version already."""
        if obj.get("apiVersion") == kind.api_version:
            return obj
        served = self.registry.of(kind)
        if served is None or served.conversion is None:
            return {**obj, "apiVersion": kind.api_version}
        return served.shown(thaw(obj))

    def list(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[Objects, int]:
        """The matching objects by namespace and name, and the revision that they are of."""
        served = self.served(kind)
        view = self._writes.view
        if served.schema is None:
            objects = [entry.object for entry in self._found(served.stored, namespace, field_selector)]
        else:
            objects = [view(served, entry) for entry in self._found(served.stored, namespace, field_selector)]
        if label_selector or field_selector:
            objects = list(filter(self.matcher(kind, label_selector, field_selector), objects))
        return objects, self.store.revision

    def texts(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Texts:
        """The JSON texts of what `list` gives."""
        served = self.served(kind)
        entries = self._found(served.stored, namespace, field_selector)
        if label_selector or field_selector:
            view, matches = self._writes.view, self.matcher(kind, label_selector, field_selector)
            entries = [entry for entry in entries if matches(view(served, entry))]
        if served.schema is None or served.is_stored_version:
            since = served.since
            return [entry.data if entry.revision > since else self._text(served, entry) for entry in entries]
        return [self._text(served, entry) for entry in entries]

    def text(self, kind: Kind, namespace: str, name: str) -> bytes:
        """The JSON text of an object; ApiError 404 where there is none."""
        served = self.served(kind)
        return self._text(served, self._latest(served, namespace, name))

    def text_of(self, kind: Kind, obj: Object) -> bytes:
        """The JSON text of an object that a method of this server has just returned."""
        served = self.served(kind)
        metadata = obj["metadata"]
        latest = self.store.get(served.stored, metadata.get("namespace", ""), metadata["name"])
        if latest is not None and latest.object is obj:
            return latest.data
        return orjson.dumps(obj)

    def _text(self, served: ServedKind, revision: Revision) -> bytes:
        shown = self._writes.view(served, revision)
        return revision.data if shown is revision.object else orjson.dumps(shown)

    def _found(self, kind: Kind, namespace: str | None, field_selector: str) -> Iterable[Revision]:
        """All objects that a field selector can mean: by an index, where there is one for it."""
        text = _indexed(kind, field_selector)
        return self.store.list(kind, namespace) if text is None else self.store.list_by(kind, text, namespace)

    def matcher(self, kind: Kind, label_selector: str = "", field_selector: str = "") -> Callable[[Object], bool]:
        """A test of objects of a kind; 400 for a selector that cannot be read, or that names another field."""
        try:
            by_label = parse_label_selector(label_selector).matches if label_selector else None
            terms = parse_field_selector(field_selector) if field_selector else ()
        except ValueError as problem:
            raise bad_request(str(problem)) from problem
        served = self.served(kind)
        for path, _, _ in terms:
            problem_text = served.field_selector_problem(path)
            if problem_text:
                raise bad_request(problem_text)
        wanted = [(field_reader(path), equal, value) for path, equal, value in terms]

        def matches(obj: Object) -> bool:
            if by_label is not None and not by_label(obj["metadata"].get("labels") or {}):
                return False
            return not wanted or all((read(obj) == value) == equal for read, equal, value in wanted)

        return matches

    def everything(self) -> Iterator[Object]:
        """Every object, by group, plural, namespace and name."""
        for kind in sorted(self.store.kinds(), key=_by_group):
            for entry in self.store.list(kind):
                yield entry.object

    def subscribe(
        self, callback: Callable[[Revision], None], kind: Kind | None = None, field_selector: str = ""
    ) -> Callable[[], None]:
        """Hear each committed write, in order, while it happens; returns what ends it.

        field_selector: who wants no object but these; others may come all the same.
        """
        stored = None if kind is None else self.served(kind).stored
        return self.store.subscribe(callback, stored, None if stored is None else _indexed(stored, field_selector))

    def follow(self, kind: Kind, callback: Callable[[Revision], None]) -> Objects:
        """What there is of a kind now; `callback` hears every later change."""
        objects, _ = self.list(kind)
        self.subscribe(callback, kind)
        return objects

    # -- writing -----------------------------------------------------------------------------------------------------

    def create(
        self,
        obj: Object,
        kind: Kind,
        *,
        user: User = ADMIN,
        manager: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        warnings: Warnings | None = None,
    ) -> Object:
        """Create an object. Raises 409 AlreadyExists, 404 for a missing namespace, 422 Invalid, ..."""
        served = self.served(kind)
        deletion.check_definition_is_alive(self, served)
        options = write_options(user, manager, dry_run, field_validation, warnings)
        made = self._writes.create(served, obj, options)
        if kind == CUSTOM_RESOURCE_DEFINITION and not dry_run:
            self._definition_changed(made)
        return made

    def update(
        self,
        obj: Object,
        kind: Kind,
        *,
        subresource: str = "",
        user: User = ADMIN,
        manager: str = "",
        dry_run: bool = False,
        field_validation: str = "",
        warnings: Warnings | None = None,
    ) -> Object:
        """Replace an object, or one subresource of it. A stale resourceVersion is 409 Conflict."""
        served = self.served(kind)
        metadata = obj.get("metadata") or {}
        namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        options = write_options(user, manager, dry_run, field_validation, warnings)
        if served.traits.made_by_put and not subresource and self.store.get(served.stored, namespace, name) is None:
            return self._writes.create(served, obj, options)
        if subresource == "scale":
            return scaled(self._writes, served, namespace, name, obj, options)
        if served.traits.needs_version and not metadata.get("resourceVersion"):
            found = self._latest(served, namespace, name).object["metadata"]
            if metadata.get("uid") in (None, "", found["uid"]):  # another object's uid is told first
                text = "Invalid value: 0: must be specified for an update"
                problem = cause("FieldValueInvalid", text, "metadata.resourceVersion")
                raise errors.invalid(kind, name, [problem], what=kind.plural)
        changed = self._writes.change(served, namespace, name, lambda _: thaw(obj), options, subresource=subresource)
        return self._after_change(served, changed, dry_run)

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
        field_validation: str = "",
        warnings: Warnings | None = None,
        body_text: bytes = b"",
    ) -> Object:
        """Patch an object, or one subresource of it; `application/apply-patch+yaml` creates what is not there.

        body_text: what `body` was read from for this call alone, so that it needs no copy; empty for any other body.
        """
        served = self.served(kind)
        options = write_options(user, manager, dry_run, field_validation, warnings)
        if patch_type == patches.MERGE_PATCH and not force and subresource != "scale" and isinstance(body, dict):
            return self._merge_patched(served, namespace, name, body, subresource, options, body_text)
        if patch_type == patches.APPLY_PATCH:
            return self._after_change(
                served,
                applied(self.store, self._writes, served, namespace, name, body, subresource, force, options),
                dry_run,
            )
        if force:
            text = "Forbidden: may not be specified for non-apply patch"
            raise errors.invalid_options("PatchOptions", "force", "FieldValueForbidden", text)
        patched = functools.partial(
            patches.patched, patch_type=patch_type, is_custom=served.is_custom, shape=served.shape
        )
        own = body if isinstance(body, list) else thaw(body)
        if subresource == "scale":
            shown = scale_shown(served, self.get(kind, namespace, name), strict=False)
            return scaled(self._writes, served, namespace, name, patched(shown, own), options)
        changed = self._writes.change(
            served,
            namespace,
            name,
            lambda old: patched(thaw(old), own),
            options,
            subresource=subresource,
            is_patch=True,
            shown_patch=go_text(body) if patch_type == patches.STRATEGIC_MERGE_PATCH else "",
        )
        return self._after_change(served, changed, dry_run)

    def _merge_patched(
        self,
        served: ServedKind,
        namespace: str,
        name: str,
        patch: Object,
        subresource: str,
        options: WriteOptions,
        text: bytes,
    ) -> Object:
        """The way of nearly all writes: a merge leaves alone what it does not name, so both states share that."""
        merge = merge_patched if text else merge_adopted
        shares = self._writes.shares_parts(served)
        changed = self._writes.change(
            served,
            namespace,
            name,
            lambda old: merge(old if shares else thaw(old), patch),
            options,
            subresource=subresource,
            is_patch=True,
            changed_bytes=len(text or orjson.dumps(patch)) + METADATA_BYTES if shares else None,
        )
        return self._after_change(served, changed, options.dry_run)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        user: User = ADMIN,
        dry_run: bool = False,
        last_states: Objects | None = None,
    ) -> Object | None:
        """Delete an object: None if it is gone now, else the object that waits for its finalizers.

        `last_states` is given the last state of an object that is gone.
        """
        served = self.served(kind)
        wanted = deletion.checked_options(options or {})
        latest = self._latest(served, namespace, name)
        states: Objects = [] if last_states is None else last_states
        return deletion.delete(self, self._writes, served, latest, wanted, user, dry_run or wanted.dry_run, states)

    def delete_collection(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        options: Mapping[str, Any] | None = None,
        user: User = ADMIN,
    ) -> Objects:
        """Delete every matching object; returns each as it was, or as it waits."""
        objects, _ = self.list(kind, namespace, label_selector=label_selector, field_selector=field_selector)
        left: Objects = []
        for obj in objects:
            metadata = obj["metadata"]
            kept = self.delete(kind, metadata.get("namespace", ""), metadata["name"], options=options, user=user)
            left.append(obj if kept is None else kept)
        return left

    def scale_of(self, kind: Kind, namespace: str, name: str) -> Object:
        """The autoscaling/v1 Scale of an object."""
        served = self.served(kind)
        return scale_shown(served, self._writes.view(served, self._latest(served, namespace, name)))

    # -- definitions -------------------------------------------------------------------------------------------------

    def _restore(self, kept: Kept, services: ServiceNetwork) -> None:
        kept.restore(self.store)
        self.registry.found_stored(self.store.kinds())
        definitions = [entry.object for entry in self.store.list(CUSTOM_RESOURCE_DEFINITION)]
        for crd in sorted(definitions, key=lambda crd: int(crd["metadata"]["resourceVersion"])):
            if is_established(crd):
                changed = crd["metadata"].get("generation", 1) > 1
                self.registry.serve(crd, int(crd["metadata"]["resourceVersion"]) if changed else 0)
        for entry in self.store.list(SERVICE):
            services.restore(entry.object)

    def _install(self, crd: Object) -> None:
        """A definition that is there from the start: served at once, as one that was accepted long ago."""
        made = thaw(self._writes.create(self.served(CUSTOM_RESOURCE_DEFINITION), crd, QUIETLY))
        made["status"] = accepted_status(made, None, self._writes.now())
        self._writes.put(self.served(CUSTOM_RESOURCE_DEFINITION), made)
        self.registry.serve(made)

    def _definition_changed(self, crd: Object) -> None:
        """Look at the names of a definition, and serve what it says."""
        served = self.served(CUSTOM_RESOURCE_DEFINITION)
        name = crd["metadata"]["name"]
        if not is_established(crd):
            others = [entry.object for entry in self.store.list(CUSTOM_RESOURCE_DEFINITION)]
            found = name_conflict(crd, others)
            status = accepted_status(crd, found, self._writes.now())
            if _without_times(status) != _without_times(crd.get("status") or {}):
                crd = self._writes.put(served, {**thaw(crd), "status": status}).object
        if is_established(crd) and self.store.get(CUSTOM_RESOURCE_DEFINITION, "", name) is not None:
            self.registry.serve(crd, self.store.revision)

    def _after_change(self, served: ServedKind, changed: Object, dry_run: bool) -> Object:
        kind = served.kind
        if dry_run:
            return changed
        if kind == CUSTOM_RESOURCE_DEFINITION:
            if self.store.get(kind, "", changed["metadata"]["name"]) is None:
                self.registry.withdraw(changed)
            else:
                self._definition_changed(changed)
        elif "deletionTimestamp" in changed["metadata"] and served.is_custom:
            deletion.finish_definition(self, self._writes, served)
        return changed

    def _latest(self, served: ServedKind, namespace: str, name: str) -> Revision:
        found = self.store.get(served.stored, namespace if served.kind.namespaced else "", name)
        if found is None:
            raise errors.not_found(served.kind, name)
        return found


def _indexed(kind: Kind, field_selector: str) -> str | None:
    """What a selector wants an indexed field to be; None where it does not say."""
    path = INDEXED.get(kind) if field_selector else None
    if path is not None:
        with contextlib.suppress(ValueError):  # a selector that cannot be read is refused by `matcher`
            for term, equal, value in parse_field_selector(field_selector):
                if term == path and equal:
                    return value
    return None


def _by_group(kind: Kind) -> tuple[str, str]:
    return kind.group, kind.plural


def _without_times(status: Object) -> Object:
    conditions = [
        {key: value for key, value in entry.items() if key != "lastTransitionTime"}
        for entry in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}
