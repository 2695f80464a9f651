"""Replays a recorded case against a server and says where its answers differ."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import orjson
from conformance_answers import Json, Normalizer, at, differences, stored_form, substituted

from labsim.edge_time import monotonic_s, real_s, wait_s

Step = dict[str, Any]
Case = dict[str, Any]
USER_AGENT = "conformance/1.0"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
POLL_LONGEST_S = 8.0
_KEPT_HEADERS = (
    *("content-type", "warning", "retry-after", "allow", "content-encoding", "cache-control", "etag", "vary"),
    *("www-authenticate", "audit-id", "x-kubernetes-pf-flowschema-uid", "location"),
)
Answer = tuple[int, dict[str, str | list[str]], Json]


class Client:
    """One server, as its users. `tokens` maps the users of the cases to their bearer tokens."""

    def __init__(self, port: int, ca_pem: str, tokens: dict[str, str]) -> None:
        self._port = port
        self._tokens = tokens
        self._context = ssl.create_default_context(cadata=ca_pem)
        self._connection = self.connect()

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=40, context=self._context)

    def ask(self, step: Step) -> Answer:
        path, headers, body = self.written(step)
        for is_last in (False, True):
            try:
                self._connection.request(step.get("method", "GET"), path, body=body, headers=headers)
                response = self._connection.getresponse()
                data = response.read()
                break
            except (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionError):
                self._connection.close()
                if is_last:
                    raise
        found: dict[str, str | list[str]] = {}
        for name, value in response.getheaders():
            name = name.lower()
            known = found.get(name)
            found[name] = value if known is None else [*([known] if isinstance(known, str) else known), value]
        if found.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        return response.status, found, _document(data, found)

    def written(self, step: Step) -> tuple[str, dict[str, str], bytes | None]:
        """Path, headers and body of a step."""
        headers = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "identity"}
        token = self._tokens.get(step.get("user", "admin"))
        if token:
            headers["authorization"] = f"Bearer {token}"
        body: bytes | None = None
        if step.get("body") is not None:
            body = json.dumps(step["body"]).encode()
        if "raw" in step:
            body = step["raw"].encode()
        if "fill" in step:
            fill = step["fill"]
            body = (fill["prefix"] + fill["char"] * fill["count"] + fill["suffix"]).encode()
        if body is not None:
            headers["content-type"] = "application/json"
        if "b64" in step:
            body = base64.b64decode(step["b64"])
        for name, value in (step.get("headers") or {}).items():
            if value is None:
                headers.pop(name.lower(), None)
            else:
                headers[name.lower()] = value
        return urllib.parse.quote(step["path"], safe="/?&=%:+,!~*'();@$[]-._"), headers, body

    def close(self) -> None:
        self._connection.close()


def _document(data: bytes, headers: dict[str, Any]) -> Json:
    media_type = headers.get("content-type") or ""
    if not data:
        return None
    if "protobuf" in media_type or "cbor" in media_type:
        return {"<binary>": {"prefix": data[:4].hex()}}
    try:
        return json.loads(data)
    except ValueError:
        return {"<text>": data.decode("utf-8", "replace")}


class Watch(threading.Thread):
    """A watch in the background; its events gather until they are collected."""

    def __init__(self, client: Client, step: Step) -> None:
        super().__init__(daemon=True)
        self._connection = client.connect()
        self._request = client.written(step)
        self.code = 0
        self.headers: dict[str, str | list[str]] = {}
        self.refusal: Json = None
        self.events: list[Json] = []
        self.closed = False
        self.opened = threading.Event()
        self.changed = threading.Condition()
        self.start()
        self.opened.wait(35)

    def run(self) -> None:
        try:
            path, headers, _ = self._request
            self._connection.request("GET", path, headers=headers)
            response = self._connection.getresponse()
            self.code = response.status
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            if response.status != 200:
                self.refusal = _document(response.read(), self.headers)
                return
            self.opened.set()
            while line := response.readline():
                with self.changed:
                    self.events.append(orjson.loads(line))
                    self.changed.notify_all()
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # the case has ended, or the server: the events that are there are compared
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()
            self.opened.set()

    def collected(self, step: Step) -> tuple[list[Json], bool]:
        """The events once there are enough of them, and whether the stream has ended."""
        end_s = monotonic_s() + step.get("max_wait", 6)
        wanted, to_end = step.get("n"), step.get("until_close")
        with self.changed:
            while not self.closed and monotonic_s() < end_s:
                if wanted is not None and not to_end and len(_kept(self.events, step)) >= wanted:
                    break
                self.changed.wait(0.1)
        if wanted is not None and not self.closed and not to_end:
            wait_s(step.get("grace", 0.25))  # what should not come
        with self.changed:
            return list(self.events), self.closed

    def end(self) -> None:
        if self._connection.sock is not None:
            self._connection.sock.close()


def _kept(events: list[Json], step: Step) -> list[Json]:
    """The events that are compared: of bookmarks, as a rule, only the one that ends the initial events."""
    how = step.get("bookmarks", "end-only")

    def counts(event: Json) -> bool:
        if event.get("type") != "BOOKMARK" or how == "keep":
            return True
        marked: bool = at(event, f'object.metadata.annotations["{INITIAL_EVENTS_END}"]') == "true"
        return how != "drop" and marked

    return [event for event in events if counts(event)]


class Replay:
    """Runs cases against one server."""

    def __init__(self, client: Client, run: str) -> None:
        self._client = client
        self._run = run

    def prepare(self, fixtures: list[Step]) -> None:
        variables = {"run": self._run, "G": f"{self._run}.conf.test", "ns": "none"}
        for fixture in fixtures:
            step = substituted(fixture, variables)
            if step.get("op") == "poll":
                self._poll(step)
            else:
                code, _, document = self._client.ask(step)
                assert code in (200, 201, 409), document

    def run(self, case: Case, recorded: list[Step]) -> list[str]:
        """Where the answers to a case differ from the recorded ones."""
        namespace = f"n{hashlib.sha1(case['id'].encode()).hexdigest()[:6]}-{self._run}"
        variables: dict[str, Any] = {"run": self._run, "ns": namespace, "G": f"{self._run}.conf.test"}
        names = Normalizer(self._run, namespace, case.get("normalize", []), real_s())
        watches: dict[str, Watch] = {}
        if not case.get("no_ns"):
            self._client.ask(
                {"method": "POST", "path": "/api/v1/namespaces", "body": {"metadata": {"name": namespace}}}
            )
        found: list[str] = []
        try:
            for index, raw in enumerate(case["steps"]):
                done = self._step(raw, substituted(raw, variables), bool(case.get("mf")), variables, names, watches)
                wanted = next((step for step in recorded if step["i"] == index), None)
                if wanted is not None and wanted.get("scored"):
                    place = f"step {index} {raw.get('method', raw.get('op', 'GET'))} {raw.get('path', '')}"
                    found += [f"{place}: {text}" for text in _compared(raw, wanted, done)]
        finally:
            for watch in watches.values():
                watch.end()
        return found

    def _step(
        self,
        raw: Step,
        step: Step,
        managed: bool,
        variables: dict[str, Any],
        names: Normalizer,
        watches: dict[str, Watch],
    ) -> Step:
        op = step.get("op", "http")
        if op == "sleep":
            wait_s(step["seconds"])
            return {}
        if op == "watch":
            watches[step.get("id", "w")] = watch = Watch(self._client, step)
            return {"code": watch.code}
        if op == "collect":
            return _collected(raw, step, watches[step.get("id", "w")], managed, names)
        code, headers, document = self._poll(step) if op == "poll" else self._client.ask(step)
        for name, path in (raw.get("save") or {}).items():
            variables[name] = at(document, path)
        body = stored_form(raw, names.document(document, managed=managed or bool(step.get("mf"))))
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return {"code": code, "headers": names.headers(kept), "body": body}

    def _poll(self, step: Step) -> Answer:
        end_s = monotonic_s() + min(step.get("timeout", 15), POLL_LONGEST_S)
        while True:
            answer = self._client.ask(step)
            as_wanted = all(at(answer[2], path) == wanted for path, wanted in (step.get("until") or {}).items())
            if (answer[0] == step.get("code", 200) and as_wanted) or monotonic_s() > end_s:
                return answer
            wait_s(0.05)


def _collected(raw: Step, step: Step, watch: Watch, managed: bool, names: Normalizer) -> Step:
    events, closed = watch.collected(step)
    kept_headers = {name: watch.headers[name] for name in _KEPT_HEADERS if name in watch.headers}
    done: Step = {"code": watch.code, "headers": names.headers(kept_headers), "closed": closed}
    if watch.code != 200:
        return {**done, "body": stored_form(raw, names.document(watch.refusal, managed=False))}
    done["bookmark_seen"] = any(event.get("type") == "BOOKMARK" for event in events)
    shown = []
    for event in _kept(events, step)[: step.get("first")]:
        is_bookmark = event.get("type") == "BOOKMARK"
        obj = names.document(event.get("object"), managed=managed, bookmark=is_bookmark)
        shown.append(stored_form(raw, {"type": event.get("type"), "object": obj}))
    if step.get("unordered"):
        shown.sort(key=lambda event: orjson.dumps(event, option=orjson.OPT_SORT_KEYS))
    return {**done, "events": shown}


def _compared(raw: Step, wanted: Step, done: Step) -> Iterator[str]:
    if wanted.get("code") != done.get("code"):
        yield f"expected code {wanted.get('code')}, got {done.get('code')}"
        return
    for header in raw.get("cmp_headers", ()):
        expected, found = wanted["headers"].get(header), done["headers"].get(header)
        if expected != found:
            yield f"header {header}: expected {expected!r}, got {found!r}"
    for part in ("body", "events", "closed", "bookmark_seen"):
        if part in wanted:
            yield from (f"{part}{text}" for text in differences(wanted[part], done.get(part)))
