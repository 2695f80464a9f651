"""One history of everything that happened: inputs apart from effects, each with its cause and stable coordinates.

A history is a sequence of JSON lines. Every line has `n` (its number), `t` (in-world seconds since the start, six
decimals), `type`, and what belongs to that type:

- input: something from outside (a scenario step, a person's command, an outside client's request);
- wake: a controller takes up a key; `cause` says what woke it;
- write: a store changed; object coordinates, the actor, the digest of the object, and the change as a merge patch
  against the revision before (`object` in full where there is none, or where a patch could not say it);
- request: an HTTP request to a simulated service or, with program, user, connection, verb and revision, to the hub;
- watch: a watch of the hub has ended: whose, how, how many events it had to tell, and how many were still held back;
- fault: a fault of the hub towards some of its clients begins, ends, or cuts watches;
- guest: an effect of a machine's program; note: why somebody decided something;
- gap: part of a stream was not seen (a remote hub): a verdict that depends on it is inconclusive.

Values of secrets never enter: Secret data is replaced by digests before the object is digested itself, and other
secret values (tokens in URLs) that were registered with `hide` are replaced wherever they stand.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Callable, Iterable
from typing import IO, Any

import orjson

Line = dict[str, Any]
ABSENT = object()
# A JSON web token: three parts in base64url, the first of which begins with the encoding of `{"`.
_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


_histories: weakref.WeakSet[History] = weakref.WeakSet()


def digest(data: bytes) -> str:
    """A short content digest: blake2b, 16 bytes, in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def masked(value: str) -> str:
    """What stands in for a secret value: equal values look equal, and cannot be read."""
    return f"<secret {digest(value.encode())[:12]}>"


def difference(before: Any, after: Any) -> Any:
    """The RFC 7386 merge patch from one tree to another; ABSENT where they are equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        patch: dict[str, Any] = {}
        for key, value in after.items():
            if key not in before:
                patch[key] = value
            elif before[key] is not value and before[key] != value:
                patch[key] = difference(before[key], value)
        for key in before:
            if key not in after:
                patch[key] = None
        return patch or ABSENT
    return ABSENT if before == after else after


def merged(target: Any, patch: Any) -> Any:
    """A tree with a merge patch applied (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def has_null(tree: Any) -> bool:
    """Whether a merge patch could not say this tree, because null means removal there."""
    if isinstance(tree, dict):
        return any(value is None or has_null(value) for value in tree.values())
    return False


def without_secrets(text: str) -> str:
    """A text for the log of this process: without what any history of it hides."""
    data = text.encode("utf-8", "backslashreplace")
    if b"eyJ" in data:
        data = _JWT.sub(lambda found: masked(found[0].decode()).encode(), data)
    for history in tuple(_histories):
        data = history.redacted(data)
    return data.decode()


class History:
    """Writes lines as things happen, and hands each to its listeners (invariants, selections, the console).

    sink: where the lines go (None keeps none); contents: whether writes carry their change, which a replay and `check`
    need, or the digest alone, which is enough for comparing runs and cheaper for very large ones.
    """

    def __init__(self, now: Callable[[], float], sink: IO[bytes] | None = None, *, contents: bool = True) -> None:
        self._now = now
        self._start_s = now()
        self._sink = sink
        self._contents = contents
        self._secrets: dict[bytes, bytes] = {}
        self._listeners: list[tuple[Callable[[Line], None], frozenset[str]]] = []
        self._wants_all = sink is not None
        self._wanted: set[str] = set()
        self.count = 0
        _histories.add(self)

    def listen(self, listener: Callable[[Line], None], *line_types: str) -> None:
        """Hand a listener each line of these types; of every type where none is named."""
        self._listeners.append((listener, frozenset(line_types)))
        self._wants_all = self._wants_all or not line_types
        self._wanted.update(line_types)

    def wants(self, line_type: str) -> bool:
        """Whether anybody would read a line of this type: making one costs more than asking."""
        return self._wants_all or line_type in self._wanted

    def hide(self, values: Iterable[str]) -> None:
        """Replace these values wherever they would be written. Values under 8 characters are not hidden."""
        for value in values:
            if len(value) >= 8:
                self._secrets.setdefault(value.encode(), masked(value).encode())

    def redacted(self, data: bytes) -> bytes:
        """The bytes with every known secret value, and everything that looks like a token, replaced."""
        if b"eyJ" in data:
            data = _JWT.sub(lambda found: masked(found[0].decode()).encode(), data)
        for secret, mask in self._secrets.items():
            if secret in data:
                data = data.replace(secret, mask)
        return data

    def scrubbed(self, data: bytes) -> bytes:
        """As `redacted`, and without private keys: for what machines and hypervisors say, where nothing is known to be
        free of them."""
        return _PRIVATE_KEY.sub(lambda found: masked(found[0].decode(errors="replace")).encode(), self.redacted(data))

    def record(self, line_type: str, /, **fields: Any) -> None:
        """Append one line."""
        if not self.wants(line_type):
            return
        line: Line = {"n": self.count, "t": round(self._now() - self._start_s, 6), "type": line_type, **fields}
        self.count += 1
        if self._sink is not None:
            self._sink.write(self.redacted(orjson.dumps(line)) + b"\n")
        for listener, heard in self._listeners:
            if not heard or line_type in heard:
                listener(line)

    def record_write(
        self,
        store: str,
        actor: str,
        event: str,
        kind: str,
        namespace: str,
        name: str,
        revision: int,
        before: dict[str, Any] | None,
        after: dict[str, Any],
    ) -> None:
        """Append a store's change; `event` is ADDED, MODIFIED or DELETED."""
        if not self.wants("write"):
            return
        fields: Line = {"store": store, "actor": actor, "event": event, "kind": kind}
        fields.update(namespace=namespace, name=name, revision=revision)
        if self._sink is not None:
            seen, previous = without_secret_data(after), None if before is None else without_secret_data(before)
            encoded = self.redacted(orjson.dumps(seen, option=orjson.OPT_SORT_KEYS))
            fields["digest"] = digest(encoded)
            if self._contents and event != "DELETED":
                patch = ABSENT if previous is None or has_null(seen) else difference(previous, seen)
                if patch is ABSENT:
                    fields["object"] = seen
                else:
                    fields["patch"] = patch
        self.record("write", **fields)

    def stop_writing(self) -> None:
        """No line is written any more, though listeners go on hearing: the run that it belongs to is over."""
        self.flush()
        self._sink = None
        self._wants_all = any(not heard for _, heard in self._listeners)

    def flush(self) -> None:
        if self._sink is not None:
            self._sink.flush()


def without_secret_data(obj: dict[str, Any]) -> dict[str, Any]:
    """A Secret with its values replaced by what stands for them; any other object as it is."""
    if obj.get("kind") != "Secret" or not obj.get("data"):
        return obj
    return {**obj, "data": {key: masked(str(value)) for key, value in obj["data"].items()}}


def rebuild(lines: Iterable[Line]) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """The final objects of every store, from a history alone, keyed (store, kind, namespace, name).

    Raises ValueError, naming the line, where an object does not have the digest that the history says.
    """
    state: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for line in lines:
        if line.get("type") == "forgotten":  # with everything in it
            state = {key: obj for key, obj in state.items() if key[0] != line["store"]}
        if line.get("type") != "write":
            continue
        key = (line["store"], line["kind"], line["namespace"], line["name"])
        if line["event"] == "DELETED":
            state.pop(key, None)
            continue
        obj = line["object"] if "object" in line else merged(state.get(key, {}), line["patch"])
        found = digest(orjson.dumps(obj, option=orjson.OPT_SORT_KEYS))
        if found != line["digest"]:
            raise ValueError(f"history line {line['n']}: {key} has digest {found}, the history says {line['digest']}")
        state[key] = obj
    return state
