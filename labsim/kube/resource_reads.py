"""The reads among the requests about resources: one object, lists and their pages, watches; and the form of answers.

A seam (client_seam.py) may have a client's reads answered by a cache that is behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from labsim.kube import paging
from labsim.kube.catalog import Resource
from labsim.kube.client_seam import USUAL, ClientSeam
from labsim.kube.errors import ApiError, bad_request, not_found
from labsim.kube.list_options import ListOptions, get_revision
from labsim.kube.refusals import is_a_list, not_a_list, too_large
from labsim.kube.representation import (
    PROTOBUF,
    YAML,
    Form,
    answer,
    list_text,
    negotiate,
    shaped_list,
    shaped_object,
    text_answer,
)
from labsim.kube.routes import Route
from labsim.kube.selectors import parse_field_selector
from labsim.kube.server import ApiServer
from labsim.kube.watch import WatchOptions, WatchStream, selector
from labsim.model.http import Request, Response
from labsim.model.objects import Object


class ResourceReads:
    """Answers the reads of one server."""

    def __init__(self, server: ApiServer, now_s: Callable[[], float], seam: ClientSeam | None) -> None:
        self._server = server
        self._now_s = now_s
        self._seam = seam
        self._watches: weakref.WeakSet[WatchStream] = weakref.WeakSet()

    def end_watches(self, group: str, plural: str) -> None:
        """End every watch of a resource that is no longer served."""
        for stream in [stream for stream in self._watches if stream.shows(group, plural)]:
            stream.finish()

    def list(self, request: Request, route: Route, resource: Resource, options: ListOptions) -> Response:
        """A list, or a page of one. Raises ApiError, as all of these do."""
        form = self.form(request, resource)
        if form is PLAIN or form == PLAIN:
            text = self._list_text(route, resource, options)
            if text is not None:
                return text_answer(200, text)
        if form.shape == "PartialObjectMetadata":
            raise is_a_list(resource)
        page = self.page(route, resource, options)
        objects = (
            [self._server.in_version(resource.kind, obj) for obj in page.objects] if resource.custom else page.objects
        )
        include = included(request, form)
        shaped = shaped_list(form, resource, objects, page.metadata(), now_s=self._now_s(), include=include)
        return answer(200, shaped, form)

    def _list_text(self, route: Route, resource: Resource, options: ListOptions) -> bytes | None:
        """The text of a list of all that is there now, from the texts that are kept; None for a page or a past."""
        if options.proceed or options.match or (options.limit and options.revision):
            return None
        if self._cached_at(options.revision) is not None:
            return None
        server, kind = self._server, resource.kind
        self._check_list(resource, options)
        texts = server.texts(kind, route.namespace, label_selector=options.labels, field_selector=options.fields)
        if 0 < options.limit < len(texts) and options.revision != 0:
            return None
        return list_text(resource, texts, {"resourceVersion": str(server.revision)})

    def _check_list(self, resource: Resource, options: ListOptions) -> None:
        check_fields(resource, options.fields)
        current = self._server.revision
        if options.revision is not None and options.revision > current:
            raise too_large(options.revision, current)

    def _cached_at(self, wanted: int | None) -> int | None:
        """The revision of the client's stale cache, where that answers a read of a revision no older than `wanted`.

        Without a revision a read is of what is there now, past every cache. 504 where the cache is not there yet.
        """
        found = None if self._seam is None or wanted is None else self._seam.cached_at()
        if found is not None and wanted is not None and wanted > found:
            raise too_large(wanted, found)
        return found

    def page(self, route: Route, resource: Resource, options: ListOptions) -> paging.Page:
        """The objects that a list means, and the revision that they are of."""
        server, kind, namespace, fields = self._server, resource.kind, route.namespace, options.fields
        self._check_list(resource, options)
        if options.proceed:
            if options.revision:
                raise bad_request("specifying resource version is not allowed when using continue")
            matches = _selector(options.labels, fields)
            limit = 0 if options.revision == 0 else options.limit
            return paging.next_page(server, kind, namespace, matches, options.proceed, limit)
        if options.revision and (options.match == "Exact" or (options.limit and not options.match)):
            matches = _selector(options.labels, fields)
            objects = paging.exact(server, kind, namespace, matches, options.revision)
            return paging.first_page(objects, options.revision, options.limit, counted=matches is None)
        cached_at = self._cached_at(options.revision)
        if cached_at is not None:
            return paging.Page(
                paging.exact(server, kind, namespace, _selector(options.labels, fields), cached_at), cached_at
            )
        try:
            objects, revision = server.list(kind, namespace, label_selector=options.labels, field_selector=fields)
        except ValueError as problem:
            raise bad_request(str(problem)) from problem
        limit = 0 if options.revision == 0 else options.limit
        return paging.first_page(objects, revision, limit, counted=not (options.labels or fields))

    def watch(self, request: Request, route: Route, resource: Resource, options: ListOptions) -> Response:
        """A watch, begun."""
        form = self.form(request, resource)
        if form.media_type == YAML:
            types = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
            raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {types}")
        fields = options.fields
        check_fields(resource, fields)
        if route.name:  # the old path /watch/.../NAME
            fields = f"{fields},metadata.name={route.name}".lstrip(",")
        since = options.revision or 0
        wanted = WatchOptions(
            namespace=route.namespace,
            labels=options.labels,
            fields=fields,
            since=0 if options.initial_events else since,
            initial=options.initial_events is not False,
            end_bookmark=bool(options.initial_events),
            at_least=options.revision,
            bookmarks=options.bookmarks,
            timeout_s=options.timeout_s,
            form=form,
            include=request.param("includeObject", "Metadata"),
        )
        seam = self._seam
        try:
            terms = USUAL if seam is None else seam.watch_terms(wanted.since)
            stream = WatchStream(self._server, resource, wanted, self._now_s, terms)
        except ValueError as problem:
            raise bad_request(str(problem)) from problem
        self._watches.add(stream)
        if seam is not None:
            seam.opened(stream)
        media_type = f"{PROTOBUF};stream=watch" if form.media_type == PROTOBUF else form.media_type
        headers = {"content-type": media_type, "cache-control": "no-cache, private"}
        return Response(status=200, headers=headers, stream=stream)

    # -- one object -------------------------------------------------------------------------------------------------

    def get(self, request: Request, route: Route, resource: Resource) -> Response:
        """One object."""
        form = self.form(request, resource)
        if request.query:
            revision = get_revision(request)
            if revision is not None and revision > self._server.revision:
                raise too_large(revision, self._server.revision)
            cached_at = self._cached_at(revision)
            if cached_at is not None:
                return self.answer(200, self._read_at(route, resource, cached_at), request, resource, form)
        if form is PLAIN or form == PLAIN:
            return text_answer(200, self._server.text(resource.kind, route.namespace or "", route.name))
        return self.answer(200, self.read(route, resource), request, resource, form)

    def _read_at(self, route: Route, resource: Resource, revision: int) -> Object:
        only = _selector("", f"metadata.name={route.name}")
        found = paging.exact(self._server, resource.kind, route.namespace, only, revision)
        if not found:
            raise not_found(resource.kind, route.name)
        return found[0]

    def read(self, route: Route, resource: Resource) -> Object:
        """The object of a route as it is now; 404 where there is none."""
        return self._server.get(resource.kind, route.namespace or "", route.name)

    # -- the form of an answer ----------------------------------------------------------------------------------------

    def form(self, request: Request, resource: Resource) -> Form:
        """What the client wants an answer to look like; 406 where it cannot."""
        accept = request.headers.get("accept")
        return negotiate(accept, protobuf=resource.protobuf, builtin=not resource.custom) if accept else PLAIN

    def answer(self, status: int, obj: Object, request: Request, resource: Resource, form: Form) -> Response:
        """One object in the form and the version of its request."""
        obj = self._server.in_version(resource.kind, obj)
        if form is PLAIN or form == PLAIN:
            return text_answer(status, self._server.text_of(resource.kind, obj))
        if form.shape == "PartialObjectMetadataList":
            raise not_a_list(resource)
        if form.shape:
            include = included(request, form)
            obj = shaped_object(form, resource, obj, now_s=self._now_s(), include=include)
        return answer(status, obj, form)


PLAIN = Form()  # JSON, the object itself


def _selector(labels: str, fields: str) -> Callable[[Object], bool] | None:
    try:
        return selector(labels, fields)
    except ValueError as problem:
        raise bad_request(str(problem)) from problem


def check_fields(resource: Resource, fields: str) -> None:
    """Raise the 400 for a field that the kind cannot be selected by."""
    for path, _, _ in parse_field_selector(fields) if fields else ():
        if path in ("metadata.name", "metadata.namespace") or path in resource.selectable_fields:
            continue
        if resource.custom or resource.selectable_fields:
            raise bad_request(f"field label not supported: {path}")
        known = '"metadata.name", "metadata.namespace"'
        raise bad_request(f'"{path}" is not a known field selector: only {known}')


def included(request: Request, form: Form) -> str:
    """What a Table's rows carry; 400 for another word."""
    wanted = request.param("includeObject") or "Metadata"
    if form.is_table and wanted not in ("None", "Metadata", "Object"):
        text = f"includeObject: Invalid value: \"{wanted}\": must be 'Metadata', 'Object', 'None', or empty"
        raise bad_request(f"Unable to convert to Table as requested: {text}")
    return wanted
