"""A watch: a read of the log that goes on, as a stream of JSON lines.

The world's thread feeds it, at each commit; whoever sends it on takes what has gathered. A watcher that does not keep
up is cut off with 410, so that it never holds up a write: its client lists again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from labsim.kube.catalog import Resource
from labsim.kube.errors import expired
from labsim.kube.protobuf_encoding import encode_event
from labsim.kube.representation import PROTOBUF, Form, in_version, shaped_object
from labsim.kube.selectors import parse_field_selector, parse_label_selector
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.kube.tables import table
from labsim.model.kinds import Kind
from labsim.model.objects import Object, dig

PENDING_EVENTS_MAX = 10_000  # live events that a watcher may be behind, beyond what it was given at its start
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_LINE = {event: b'{"type":"' + event.encode() + b'","object":' for event in ("ADDED", "MODIFIED", "DELETED")}

Matches = Callable[[Object], bool]


def selector(labels: str, fields: str) -> Matches | None:
    """A test of an object by label and field selectors; None where everything passes. ValueError for a bad text."""
    wanted = parse_label_selector(labels) if labels else None
    terms = [(path.split("."), equal, value) for path, equal, value in parse_field_selector(fields)] if fields else []
    if wanted is None and not terms:
        return None

    def matches(obj: Object) -> bool:
        if wanted is not None and not wanted.matches(obj["metadata"].get("labels") or {}):
            return False
        return all((field_text(dig(obj, *path)) == value) == equal for path, equal, value in terms)

    return matches


def field_text(value: Any) -> str:
    """A field's value as field selectors compare it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What a client asks of a watch. `since` None or 0 begins with what is there."""

    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    since: int = 0
    initial: bool = True  # events for what is there, before the live ones
    end_bookmark: bool = False  # a bookmark that says where the initial events end
    bookmarks: bool = False
    timeout_s: float | None = None
    form: Form = dataclasses.field(default_factory=Form)
    include: str = "Metadata"


class WatchStream:
    """One watch (labsim.model.http.BodyStream). `read` may be called on another thread than the world's."""

    def __init__(
        self, server: ApiServer, resource: Resource, options: WatchOptions, now_s: Callable[[], float]
    ) -> None:
        self.timeout_s = options.timeout_s
        self._server = server
        self._resource = resource
        self._options = options
        self._now_s = now_s
        self._form = options.form
        self._protobuf = options.form.media_type == PROTOBUF
        self._raw = not options.form.shape and not self._protobuf
        self._matches = selector(options.labels, options.fields)
        self._pending: collections.deque[bytes | None] = collections.deque()
        self._wake: Callable[[], None] = _nobody
        self._ended = False
        self._table_begun = False
        self._floor = 0
        self._unsubscribe: Callable[[], None] = _nobody
        self._start()

    # -- BodyStream -----------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        pending = self._pending
        if not pending:
            return b""
        if pending[0] is None:
            return None
        lines = []
        while pending and pending[0] is not None:
            lines.append(pending.popleft())
        return b"".join(line for line in lines if line is not None)

    def on_ready(self, callback: Callable[[], None]) -> None:
        self._wake = callback
        if self._pending:
            callback()

    def close(self) -> None:
        self._ended = True
        self._unsubscribe()

    # -- timed by whoever sends it ------------------------------------------------------------------------------------

    def expire(self) -> None:
        """The time that the client gave is over: a last bookmark, and the end."""
        if not self._ended:
            self.keep_alive()
            self._end()

    def keep_alive(self) -> None:
        """A bookmark, where the client wants them: it moves the point from which it would go on."""
        if self._options.bookmarks and not self._ended:
            self._push(self._bookmark())

    def finish(self) -> None:
        """End the stream: what it shows is no longer served."""
        if not self._ended:
            self._end()

    def shows(self, group: str, plural: str) -> bool:
        kind = self._resource.kind
        return not self._ended and kind.plural == plural and kind.group == group

    # -- feeding ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        options, kind = self._options, self._resource.kind
        first: list[bytes] = []
        if options.since > 0 and not options.end_bookmark:
            past = changes_since(self._server, kind, options.since)
            if past is None:
                self._push(self._error(f"too old resource version: {options.since} ({self._server.revision})"))
                self._end()
                return
            for revision in past:
                first += self._lines(revision)
                revision.told = None
            self._floor = options.since
        elif options.initial:
            objects, _ = self._server.list(
                kind, options.namespace, label_selector=options.labels, field_selector=options.fields
            )
            first = [self._line("ADDED", obj) for obj in objects]
            if options.end_bookmark and options.bookmarks:
                first.append(self._bookmark({INITIAL_EVENTS_END: "true"}))
        if first:
            self._pending.append(b"".join(first))
        self._unsubscribe = self._server.subscribe(self._committed, kind)

    def _committed(self, revision: Revision) -> None:
        if self._ended or revision.revision <= self._floor:
            return
        lines = self._lines(revision)
        if not lines:
            return
        if len(self._pending) >= PENDING_EVENTS_MAX:
            self._push(self._error("the watch did not keep up with the changes"))
            self._end()
            return
        for line in lines:
            self._push(line)

    def _lines(self, revision: Revision) -> Iterable[bytes]:
        """The events that a revision is to this watch: none or one."""
        if self._options.namespace is not None and revision.namespace != self._options.namespace:
            return ()
        event = revision.type
        if self._matches is None:
            return (self._revision_line(event, revision),)
        matches_now = event != "DELETED" and self._matches(revision.object)
        before = revision.previous_object
        matched_before = before is not None and self._matches(before)
        if matches_now:
            return (self._revision_line("MODIFIED" if matched_before else "ADDED", revision),)
        if not matched_before or before is None:
            return ()
        if event == "DELETED":
            return (self._revision_line("DELETED", revision),)
        # An object that ceases to match is gone for this watch: its old content, under the new revision.
        metadata = {**before["metadata"], "resourceVersion": str(revision.revision)}
        return (self._line("DELETED", {**before, "metadata": metadata}),)

    def _revision_line(self, event: str, revision: Revision) -> bytes:
        if self._raw and revision.kind.version == self._resource.kind.version:
            told = revision.told
            if told is None or not told.startswith(_LINE[event]):
                told = revision.told = b"".join((_LINE[event], revision.data, b"}\n"))
            return told
        return self._line(event, self._server.shown(self._resource.kind, revision))

    def _line(self, event: str, obj: Object) -> bytes:
        obj = in_version(self._resource.kind, obj)
        if self._raw:
            return b"".join((_LINE[event], orjson.dumps(obj), b"}\n"))
        shaped = shaped_object(self._form, self._resource, obj, now_s=self._now_s(), include=self._options.include)
        if self._form.is_table:
            # Columns come with the first event only.
            if self._table_begun:
                shaped["columnDefinitions"] = None
            self._table_begun = True
        return self._event(event, shaped)

    def _event(self, event: str, shaped: Object) -> bytes:
        if self._protobuf:
            return encode_event(event, shaped)
        return b"".join((b'{"type":"', event.encode(), b'","object":', orjson.dumps(shaped), b"}\n"))

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        metadata: Object = {"resourceVersion": str(self._server.revision)}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._resource.kind
        obj: Object = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._form.is_table:
            obj = table((), (), now_s=0, metadata=metadata, version=self._form.version)
        elif self._form.is_partial:
            obj.update(kind="PartialObjectMetadata", apiVersion=f"meta.k8s.io/{self._form.version}")
        return self._event("BOOKMARK", obj)

    def _error(self, message: str) -> bytes:
        """The event that tells a client to list again."""
        return self._event("ERROR", expired(message).status())

    def _push(self, line: bytes) -> None:
        self._pending.append(line)
        self._wake()

    def _end(self) -> None:
        self._ended = True
        self._unsubscribe()
        self._pending.append(None)
        self._wake()


def changes_since(server: ApiServer, kind: Kind, revision: int) -> list[Revision] | None:
    """The later changes of a kind, whatever version it is stored in; None where the log no longer reaches back."""
    changes: Sequence[Revision] | None = server.store.since(revision)
    if changes is None:
        return None
    return [entry for entry in changes if entry.kind.plural == kind.plural and entry.kind.group == kind.group]


def _nobody() -> None:
    """Nobody waits yet."""
