"""The requests about resources: which reads (resource_reads.py), writes, deletions and subresources they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from labsim.kube import bodies
from labsim.kube.account_tokens import AccountTokens
from labsim.kube.body_limits import fits, possible_bytes
from labsim.kube.catalog import SCALE_OF_BUILTIN, SCALE_OF_CUSTOM, Resource, Subresource
from labsim.kube.client_seam import ClientSeam
from labsim.kube.decoding import decode_builtin
from labsim.kube.errors import ApiError, bad_request, invalid_options, method_not_allowed, no_resource, not_found
from labsim.kube.field_checks import FieldChecks, field_checks, note_duplicates
from labsim.kube.go_json import kind_of
from labsim.kube.list_options import (
    check_dry_run,
    check_propagation,
    dry_run,
    field_manager,
    go_int,
    is_true,
    list_options,
)
from labsim.kube.refusals import no_method
from labsim.kube.representation import (
    answer,
    negotiate,
    shaped_list,
)
from labsim.kube.resource_reads import PLAIN, ResourceReads
from labsim.kube.routes import Route
from labsim.kube.server import ApiServer
from labsim.kube.shapes import builtin_shape
from labsim.kube.traits import traits_of
from labsim.kube.users import User
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind
from labsim.model.objects import Object, dig, thaw

_ACTIONS = {"POST": "create", "DELETE": "delete"}
_DELETE_TYPES: dict[str, tuple[type, str]] = {
    "propagationPolicy": (str, "v1.DeletionPropagation"),
    "preconditions": (dict, "v1.Preconditions"),
    "dryRun": (list, "[]string"),
}
_DELETE_OPTIONS = ("gracePeriodSeconds", "orphanDependents", "propagationPolicy")


class ResourceRequests:
    """Turns one server's HTTP requests into calls of it."""

    def __init__(
        self,
        server: ApiServer,
        now_s: Callable[[], float],
        tokens: AccountTokens,
        seam: ClientSeam | None = None,
    ) -> None:
        self._server = server
        self._tokens = tokens
        self._now_s = now_s
        self._seam = seam
        self._reads = ResourceReads(server, now_s, seam)

    def end_watches(self, group: str, plural: str) -> None:
        """End every watch of a resource that is no longer served."""
        self._reads.end_watches(group, plural)

    def serve(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        """The answer to an authorized request; raises ApiError."""
        if self._seam is None:
            return self._serve(request, route, resource, user)
        return self._seam.serve(request, route, resource.kind, lambda asked: self._serve(asked, route, resource, user))

    def _serve(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        if route.subresource:
            entry = resource.subresource(route.subresource)
            if entry is None:
                raise not_found(resource.kind, route.name) if resource.custom else no_resource()
            return self._subresource(request, route, resource, entry, user)
        if route.name:
            return self._one(request, route, resource, user)
        return self._collection(request, route, resource, user)

    # -- collections ------------------------------------------------------------------------------------------------

    def _collection(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        method = request.method
        if method in ("GET", "HEAD"):
            options = list_options(request, watch=route.watch)
            if options.watch:
                return self._reads.watch(request, route, resource, options)
            return self._reads.list(request, route, resource, options)
        if method == "POST":
            return self._create(request, route, resource, user)
        if method == "DELETE":
            return self._delete_collection(request, route, resource, user)
        if method in ("PUT", "PATCH") and resource.custom:
            raise bad_request("name must be provided")
        raise no_method()

    def _create(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        form = self._reads.form(request, resource)
        is_dry = dry_run(request, "CreateOptions")
        checks = field_checks(request, "CreateOptions")
        obj = self._body(request, resource, dataclasses.replace(route, name=""), checks)
        manager = field_manager(request, "CreateOptions")

        def write(dry: bool) -> Object:
            return self._server.create(obj, resource.kind, user=user, manager=manager, dry_run=dry, **checks.keywords)

        made = fits(write, possible_bytes=possible_bytes(request), dry_run=is_dry, warnings=checks.warnings)
        return checks.on(self._reads.answer(201, made, request, resource, form))

    def _delete_collection(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        # Built-in kinds have no such path over all namespaces.
        everywhere = resource.kind.namespaced and route.namespace is None and not resource.custom
        if everywhere or "deletecollection" not in resource.verbs:
            raise no_method()
        form = self._reads.form(request, resource)
        options = self._delete_options(request)
        page = self._reads.page(route, resource, list_options(request))
        deleted = []
        for obj in page.objects:
            metadata = obj["metadata"]
            self._server.delete(
                resource.kind, metadata.get("namespace", ""), metadata["name"], options=options, user=user
            )
            deleted.append(self._server.in_version(resource.kind, obj))  # each as it was, as upstream lists them
        shaped = shaped_list(form, resource, deleted, page.metadata(), now_s=self._now_s())
        return answer(200, shaped, form)

    # -- one object -------------------------------------------------------------------------------------------------

    def _one(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        method = request.method
        if method == "POST" and resource.custom:
            return self._create(request, route, resource, user)  # the name in the path is not looked at
        if method in ("GET", "HEAD"):
            if route.watch:
                return self._reads.watch(request, route, resource, list_options(request, watch=True))
            return self._reads.get(request, route, resource)
        if method == "PUT":
            return self._update(request, route, resource, user)
        if method == "PATCH":
            return self._patch(request, route, resource, user)
        if method == "DELETE":
            return self._delete(request, route, resource, user)
        raise no_method()

    def _update(
        self, request: Request, route: Route, resource: Resource, user: User, subresource: str = ""
    ) -> Response:
        form = self._reads.form(request, resource)
        is_dry = dry_run(request, "UpdateOptions")
        checks = field_checks(request, "UpdateOptions")
        obj = self._body(request, resource, route, checks)
        manager = field_manager(request)
        by_put = not resource.custom and traits_of(resource.kind).made_by_put
        is_new = by_put and not subresource and not self._exists(route, resource)

        def write(dry: bool) -> Object:
            return self._server.update(
                obj, resource.kind, subresource=subresource, user=user, manager=manager, dry_run=dry, **checks.keywords
            )

        made = fits(write, possible_bytes=possible_bytes(request), dry_run=is_dry, warnings=checks.warnings)
        return checks.on(self._reads.answer(201 if is_new else 200, made, request, resource, form))

    def _patch(self, request: Request, route: Route, resource: Resource, user: User, subresource: str = "") -> Response:
        form = self._reads.form(request, resource)
        is_dry = dry_run(request, "PatchOptions")
        checks = field_checks(request, "PatchOptions")
        manager = _patcher(request, bodies.media_type(request))
        patch_type, body = bodies.patch_body(request, builtin=not resource.custom)
        namespace = route.namespace or ""
        status = 200
        if patch_type == bodies.APPLY_PATCH and not self._exists(route, resource):
            status = 201

        def write(dry: bool) -> Object:
            return self._server.patch(
                resource.kind,
                namespace,
                route.name,
                thaw(body) if dry else body,
                patch_type=patch_type,
                subresource=subresource,
                user=user,
                manager=manager,
                force=is_true(request, "force"),
                dry_run=dry,
                body_text=request.body,
                **checks.keywords,
            )

        size = possible_bytes(request) + self._text_bytes(route, resource)
        made = fits(write, possible_bytes=size, dry_run=is_dry, warnings=checks.warnings)
        if subresource == "scale":
            return self._scale_answer(status, made, request, resource)
        return checks.on(self._reads.answer(status, made, request, resource, form))

    def _text_bytes(self, route: Route, resource: Resource) -> int:
        """How much text an object is now; none where there is none."""
        try:
            return len(self._server.text(resource.kind, route.namespace or "", route.name))
        except ApiError:
            return 0

    def _exists(self, route: Route, resource: Resource) -> bool:
        try:
            self._reads.read(route, resource)
        except ApiError:
            return False
        return True

    def _delete(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        form = self._reads.form(request, resource)
        options = self._delete_options(request)
        present = self._reads.read(route, resource)
        last: list[Object] = []
        left = self._server.delete(
            resource.kind, route.namespace or "", route.name, options=options, user=user, last_states=last
        )
        if left is None and not (last and not resource.custom and traits_of(resource.kind).shown_when_deleted):
            return answer(200, _deleted(resource, present), form if not form.shape else PLAIN)
        return self._reads.answer(200, left or last[0], request, resource, form)

    # -- subresources -----------------------------------------------------------------------------------------------

    def _subresource(
        self, request: Request, route: Route, resource: Resource, entry: Subresource, user: User
    ) -> Response:
        verb = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "POST": "create"}.get(request.method)
        if verb not in entry.verbs:
            if resource.custom and request.method in _ACTIONS:
                raise method_not_allowed(resource.kind, _ACTIONS[request.method])
            raise no_method()
        name = entry.name
        if name == "scale":
            return self._scale(request, route, resource, user)
        if name == "eviction":
            options = self._delete_options(request, evicting=True)
            self._server.delete(resource.kind, route.namespace or "", route.name, options=options, user=user)
            return answer(201, _DONE)
        if name == "token":
            body = _typed_body(request, _TOKEN_REQUEST)
            return answer(
                201, self._tokens.issue(route.namespace or "", route.name, body), self._reads.form(request, resource)
            )
        if name == "binding":
            return self._bind(request, route, resource, user)
        if verb == "get":
            return self._reads.get(request, route, resource)
        if verb == "update":
            return self._update(request, route, resource, user, name)
        if verb == "patch":
            return self._patch(request, route, resource, user, name)
        raise no_resource()

    def _scale(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        if request.method in ("GET", "HEAD"):
            found = self._server.scale_of(resource.kind, route.namespace or "", route.name)
            return self._scale_answer(200, found, request, resource)
        if request.method == "PATCH":
            return self._patch(request, route, resource, user, "scale")
        scale = _typed_body(request, _SCALE)
        metadata = scale.setdefault("metadata", {})
        _agree(metadata, "namespace", route.namespace)
        _agree_on_name(metadata, route.name)
        made = self._server.update(
            scale,
            resource.kind,
            subresource="scale",
            user=user,
            manager=field_manager(request),
            dry_run=dry_run(request, "UpdateOptions"),
        )
        return self._scale_answer(200, made, request, resource)

    def _scale_answer(self, status: int, scale: Object, request: Request, resource: Resource) -> Response:
        accept = request.headers.get("accept")
        form = negotiate(accept, protobuf=True) if accept else PLAIN
        if not form.shape:
            return answer(status, scale, form)
        return self._reads.answer(
            status, scale, request, SCALE_OF_CUSTOM if resource.custom else SCALE_OF_BUILTIN, form
        )

    def _bind(self, request: Request, route: Route, resource: Resource, user: User) -> Response:
        node = dig(_typed_body(request, _BINDING), "target", "name", default="")
        self._server.patch(
            resource.kind,
            route.namespace or "",
            route.name,
            {"spec": {"nodeName": node}},
            patch_type="application/merge-patch+json",
            subresource="binding",
            user=user,
            manager=field_manager(request),
        )
        return answer(201, _DONE)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _body(self, request: Request, resource: Resource, route: Route, checks: FieldChecks) -> Object:
        """The object of a write, with kind, apiVersion, name and namespace in agreement with the URL."""
        obj = bodies.object_body(request, resource.kind, builtin=not resource.custom)
        if bodies.media_type(request) in bodies.JSON_TYPES:
            note_duplicates(request.body, obj, checks)
        kind = resource.kind
        metadata = obj.setdefault("metadata", {})
        if type(metadata) is not dict or not all(isinstance(metadata.get(key, ""), str) for key in _TEXTS):
            self._server.read_metadata(kind, obj)  # says what is wrong, unless it is null
            metadata = obj["metadata"]
        _agree(metadata, "namespace", route.namespace)
        if route.name:
            if not metadata.get("name"):
                text = f"the name of the object ({route.name} based on URL) was undeterminable: name must be provided"
                raise bad_request(text)
            _agree_on_name(metadata, route.name)
        return obj

    def _delete_options(self, request: Request, *, evicting: bool = False) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if request.body:
            if evicting:
                options = _typed_body(request, _EVICTION).get("deleteOptions") or {}
            else:
                options = bodies.object_body(request, "DeleteOptions", builtin=True)
            if options.get("kind", "DeleteOptions") != "DeleteOptions":
                raise bad_request(f"the body of a DELETE must be DeleteOptions, it is {options.get('kind')!r}")
        for name in _DELETE_OPTIONS:
            value = request.param(name)
            if value and name not in options:
                options[name] = go_int(value) if name == "gracePeriodSeconds" else value
        for name, (wanted, go_type) in _DELETE_TYPES.items():
            if options.get(name) is not None and type(options[name]) is not wanted:
                found = kind_of(options[name])
                raise bad_request(
                    f"json: cannot unmarshal {found} into Go struct field DeleteOptions.{name} of type {go_type}"
                )
        check_dry_run(list(options.get("dryRun") or ()), "DeleteOptions")
        if dry_run(request, "DeleteOptions"):
            options["dryRun"] = ["All"]
        check_propagation(options)
        return options


def _typed_body(request: Request, kind: Kind) -> Object:
    """The object of a subresource that has a kind of its own; 400 where its fields have other types."""
    body = bodies.object_body(request, kind.kind, builtin=True)
    decode_builtin(kind, body, builtin_shape(kind))
    return body


_SCALE = Kind("autoscaling", "v1", "Scale", "scales", True)
_TOKEN_REQUEST = Kind("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", True)
_BINDING = Kind("", "v1", "Binding", "bindings", True)
_EVICTION = Kind("policy", "v1", "Eviction", "evictions", True)
_TEXTS = ("name", "namespace", "generateName")
_DONE = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _patcher(request: Request, patch_type: str) -> str:
    """Who owns what a patch writes; 422 for an apply by nobody."""
    if patch_type == bodies.APPLY_PATCH and not request.param("fieldManager"):
        text = "Required value: is required for apply patch"
        raise invalid_options("PatchOptions", "fieldManager", "FieldValueRequired", text)
    return field_manager(request, "PatchOptions")


def _agree_on_name(metadata: Object, wanted: str) -> None:
    if metadata.get("name", wanted) != wanted:
        text = f"the name of the object ({metadata['name']}) does not match the name on the URL ({wanted})"
        raise bad_request(text)
    metadata["name"] = wanted


def _agree(metadata: Object, field: str, wanted: str | None) -> None:
    if wanted is None:
        return
    if metadata.get(field) not in (None, "", wanted):
        raise bad_request(f"the {field} of the provided object does not match the {field} sent on the request")
    metadata[field] = wanted


def _deleted(resource: Resource, obj: Object) -> Object:
    """The Status that says that an object is gone."""
    details = {"name": obj["metadata"]["name"], "kind": resource.kind.plural, "uid": obj["metadata"].get("uid", "")}
    if resource.kind.group:
        details["group"] = resource.kind.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
