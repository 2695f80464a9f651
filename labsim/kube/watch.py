"""A watch: a read of the log that goes on, as a stream of JSON lines.

The world's thread feeds it, at each commit; whoever sends it on takes what has gathered. A watcher that does not keep
up is cut off with 410, so that it never holds up a write: its client lists again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from labsim.kube.catalog import Resource
from labsim.kube.client_seam import USUAL, MakeGate, WatchTerms
from labsim.kube.errors import ApiError, expired
from labsim.kube.gate import Gate
from labsim.kube.past import changes_since, objects_at
from labsim.kube.protobuf_encoding import encode_event
from labsim.kube.representation import PROTOBUF, Form, shaped_object
from labsim.kube.selectors import parse_field_selector, parse_label_selector
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.kube.tables import table
from labsim.model.objects import Object, dig

# What a watcher may be behind, beyond what it was given at its start.
PENDING_EVENTS_MAX = 10_000
PENDING_BYTES_MAX = 64 * 2**20
_NOT_CONVERTED = "an object cannot be shown in its version"  # why a watch ends; upstream's ends as silently
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


def _paths(fields: str) -> list[str]:
    return [path for path, _, _ in parse_field_selector(fields)] if fields else []


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
    at_least: int | None = None  # the revision that it must have reached; None: the one of the request's moment
    bookmarks: bool = False
    timeout_s: float | None = None
    form: Form = dataclasses.field(default_factory=Form)
    include: str = "Metadata"


class WatchStream:
    """One watch (labsim.model.http.BodyStream). `read` may be called on another thread than the world's."""

    def __init__(
        self,
        server: ApiServer,
        resource: Resource,
        options: WatchOptions,
        now_s: Callable[[], float],
        terms: WatchTerms = USUAL,
    ) -> None:
        self.resource = resource
        self.options = options
        self.events = 0  # that it had to tell so far, held back or not
        self.how_ended = ""  # why, as the history says it; "" while it goes on
        self.dropped = 0  # events that were still held back at its end
        self.on_close: Callable[[], None] = _nobody  # called once, when nobody reads it any more
        self.timeout_s = options.timeout_s
        self._server = server
        self._terms = terms
        self._now_s = now_s
        self._form = options.form
        self._protobuf = options.form.media_type == PROTOBUF
        self._raw = not options.form.shape and not self._protobuf
        self._matches = selector(options.labels, options.fields)
        # Metadata is the same in every version, so what is selected by it need not be converted to be looked at.
        self._selects_by_metadata = all(path.startswith("metadata.") for path in _paths(options.fields))
        self._pending: collections.deque[bytes | None] = collections.deque()
        self._untold: list[bytes | None] = []  # what the server may not tell yet
        self._behind_bytes = 0  # about: it is set back on the thread that sends
        self._wake: Callable[[], None] = _nobody
        self._ended = False
        self._table_begun = False
        self._floor = 0
        self._is_reset = False
        self._gate: Gate[bytes] | None = None if terms.gate is None else terms.gate(self._deliver)
        self._unsubscribe: Callable[[], None] = _nobody
        self._start()

    # -- BodyStream -----------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        pending = self._pending
        if self._is_reset:
            raise ConnectionResetError
        if not pending:
            return b""
        if pending[0] is None:
            return None
        lines = []
        while pending and pending[0] is not None:
            lines.append(pending.popleft())
        self._behind_bytes = 0
        return b"".join(line for line in lines if line is not None)

    def on_ready(self, callback: Callable[[], None]) -> None:
        self._wake = callback
        if self._pending:
            callback()

    def close(self) -> None:
        if not self._ended:
            self._stop("by the client")
        closed, self.on_close = self.on_close, _nobody
        closed()

    # -- timed by whoever sends it ------------------------------------------------------------------------------------

    def expire(self) -> None:
        """The time that the client gave is over: a last bookmark, and the end."""
        if not self._ended:
            self.keep_alive()
            self._end("its time was over")

    def keep_alive(self) -> None:
        """A bookmark, where the client wants them: it moves the point from which it would go on."""
        if self.options.bookmarks and not self._ended:
            self._push(self._server.revision, self._bookmark(self._server.revision))

    def finish(self, why: str = "its resource is no longer served") -> None:
        """End the stream cleanly. What is held back is not sent."""
        if not self._ended:
            self._end(why)

    def reset(self, why: str) -> None:
        """Break the connection off: whatever was still to be sent is lost."""
        if not self._ended:
            self._is_reset = True
            self._end(why)

    # -- held back ----------------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many events are held back."""
        return 0 if self._gate is None else self._gate.held

    def gated(self, make: MakeGate) -> Gate[bytes]:
        """The gate that the events go through from now on, made where there is none."""
        if self._gate is None:
            self._gate = make(self._deliver)
        return self._gate

    def shows(self, group: str, plural: str) -> bool:
        kind = self.resource.kind
        return not self._ended and kind.plural == plural and kind.group == group

    # -- feeding ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        options, kind, as_of = self.options, self.resource.kind, self._terms.as_of
        since = options.since
        if since > 0 and not options.end_bookmark:
            past = None if self._terms.expired else changes_since(self._server, kind, since)
            if past is None:
                self._fail(f"too old resource version: {since} ({self._server.revision})", "its start was gone")
                return
            self._begin([], past)
            self._floor = since
        elif options.initial:
            if as_of is None:
                objects, _ = self._server.list(
                    kind, options.namespace, label_selector=options.labels, field_selector=options.fields
                )
                self._begin(objects, ())
            else:
                self._begin(self._objects_at(as_of), changes_since(self._server, kind, as_of) or ())
        if not self._ended:
            self._unsubscribe = self._server.subscribe(self._committed, kind, options.fields)

    def _objects_at(self, revision: int) -> list[Object]:
        """What this watch begins with where its cache has stopped at a revision, which the log still reaches."""
        objects = objects_at(self._server, self.resource.kind, self.options.namespace, revision) or []
        return objects if self._matches is None else [obj for obj in objects if self._matches(obj)]

    def _begin(self, objects: Iterable[Object], past: Iterable[Revision]) -> None:
        """Tell what is there, then the changes since."""
        options, current, as_of = self.options, self._server.revision, self._terms.as_of
        shown = current if as_of is None else as_of  # the revision of `objects`
        first = [(shown, self._line("ADDED", obj)) for obj in objects]
        wants_end = options.end_bookmark and options.bookmarks
        reached = current if options.at_least is None else options.at_least
        if wants_end and reached <= shown:
            first.append((shown, self._bookmark(shown, {INITIAL_EVENTS_END: "true"})))
        is_whole = True
        for revision in past:
            try:
                first += [(revision.revision, line) for line in self._lines(revision)]
            except ApiError:
                is_whole = False
                break
            revision.told = None
        if is_whole and wants_end and reached > shown:
            first.append((current, self._bookmark(current, {INITIAL_EVENTS_END: "true"})))
        self.events += len(first) - (wants_end and (is_whole or reached <= shown))
        if self._gate is not None:
            for at, line in first:
                self._gate.send(at, line)
        elif first:
            self._pending.append(b"".join(line for _, line in first))
        if not is_whole:
            self._end(_NOT_CONVERTED)

    def _committed(self, revision: Revision) -> None:
        if self._ended or revision.revision <= self._floor:
            return
        try:
            lines = self._lines(revision)
        except ApiError:  # the writer must not suffer from it
            self._end(_NOT_CONVERTED)
            return
        if not lines:
            return
        behind = len(self._pending) + len(self._untold) + self.held
        if behind >= PENDING_EVENTS_MAX or self._behind_bytes >= PENDING_BYTES_MAX:
            self._fail("the watch did not keep up with the changes", "it did not keep up")
            return
        for line in lines:
            self.events += 1
            self._behind_bytes += len(line)
            self._push(revision.revision, line)

    def _lines(self, revision: Revision) -> Iterable[bytes]:
        """The events that a revision is to this watch: none or one."""
        if self.options.namespace is not None and revision.namespace != self.options.namespace:
            return ()
        event = revision.type
        if self._matches is None:
            return (self._revision_line(event, revision),)
        matches_now = event != "DELETED" and self._is_match(revision.object)
        before = revision.previous_object
        matched_before = before is not None and self._is_match(before)
        if matches_now:
            return (self._revision_line("MODIFIED" if matched_before else "ADDED", revision),)
        if not matched_before or before is None:
            return ()
        if event == "DELETED":
            return (self._revision_line("DELETED", revision),)
        # An object that ceases to match is gone for this watch: its old content, under the new revision.
        metadata = {**before["metadata"], "resourceVersion": str(revision.revision)}
        return (self._line("DELETED", {**before, "metadata": metadata}),)

    def _is_match(self, obj: Object) -> bool:
        """Whether an object is selected, in whatever version it is stored."""
        shown = obj if self._selects_by_metadata else self._server.in_version(self.resource.kind, obj)
        return self._matches is None or self._matches(shown)

    def _revision_line(self, event: str, revision: Revision) -> bytes:
        if self._raw and self._server.is_stored_version(self.resource.kind):
            told = revision.told
            if told is None or not told.startswith(_LINE[event]):
                told = revision.told = b"".join((_LINE[event], revision.data, b"}\n"))
            return told
        return self._line(event, self._server.shown(self.resource.kind, revision))

    def _line(self, event: str, obj: Object) -> bytes:
        obj = self._server.in_version(self.resource.kind, obj)
        if self._raw:
            return b"".join((_LINE[event], orjson.dumps(obj), b"}\n"))
        shaped = shaped_object(self._form, self.resource, obj, now_s=self._now_s(), include=self.options.include)
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

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: Object = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        kind = self.resource.kind
        obj: Object = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._form.is_table:
            obj = table((), (), now_s=0, metadata=metadata, version=self._form.version)
        elif self._form.is_partial:
            obj.update(kind="PartialObjectMetadata", apiVersion=f"meta.k8s.io/{self._form.version}")
        return self._event("BOOKMARK", obj)

    def _fail(self, message: str, why: str) -> None:
        """The event that tells a client to list again, and the end."""
        self._deliver(self._event("ERROR", expired(message).status()))
        self._end(why)

    def _push(self, revision: int, line: bytes) -> None:
        if self._gate is None:
            self._deliver(line)
        else:
            self._gate.send(revision, line)

    def _deliver(self, line: bytes | None) -> None:
        tell = self._server.tell
        if tell is None:
            self._pending.append(line)
            self._wake()
            return
        self._untold.append(line)
        if len(self._untold) == 1:
            tell(self._told)

    def _told(self) -> None:
        self._pending.extend(self._untold)
        self._untold.clear()
        self._wake()

    def _end(self, why: str) -> None:
        self._stop(why)
        self._deliver(None)

    def _stop(self, why: str) -> None:
        self._ended = True
        self.how_ended, self.dropped = why, self.held
        self._unsubscribe()
        if self._gate is not None:
            self._gate.close()


def _nobody() -> None:
    """Nobody waits yet."""
