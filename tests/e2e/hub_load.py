"""Clients of a hub that is killed now and then: they write what they know, and hold it to what it has acknowledged."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
from pathlib import Path
from typing import Any

import orjson
import yaml

from labsim.edge_time import wait_s
from labsim.model.objects import dig

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
GONE = ""  # the value of an object that is deleted, or was never made
DOWN = (OSError, http.client.HTTPException)  # what a client sees of a process that is killed


class Hub:
    """A connection to the hub of a kubeconfig. One thread uses it."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self._address = cluster["server"].removeprefix("https://")
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=ca)
        self._headers = {"authorization": f"Bearer {user['token']}", "content-type": "application/json"}
        self._connection: http.client.HTTPSConnection | None = None

    def open(self, method: str, path: str, body: Any = None, content_type: str = "") -> http.client.HTTPResponse:
        """Send a request. Raises one of DOWN where the hub goes, or is, away; the next request connects again."""
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(self._address, timeout=30, context=self._tls)
        headers = {**self._headers, "content-type": content_type} if content_type else self._headers
        try:
            self._connection.request(method, path, None if body is None else orjson.dumps(body), headers)
            return self._connection.getresponse()
        except DOWN:
            self.close()
            raise

    def ask(self, method: str, path: str, body: Any = None, content_type: str = "") -> tuple[int, Any]:
        """Status and document of an answer."""
        response = self.open(method, path, body, content_type)
        try:
            return response.status, orjson.loads(response.read())
        except (*DOWN, orjson.JSONDecodeError):
            self.close()
            raise ConnectionError("the answer was cut off") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Writer:
    """Creates, patches and deletes its own ConfigMaps, one request after the other, and remembers what was said."""

    def __init__(self, kubeconfig: Path, name: str, stop: threading.Event) -> None:
        self._hub = Hub(kubeconfig)
        self._name = name
        self._stop = stop
        self.known: dict[str, str] = {}  # by object, what was acknowledged last
        self.doubtful: dict[str, str] = {}  # by object, a change whose answer never came
        self.highest = 0  # resourceVersion of anything acknowledged
        self.acknowledged = 0
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)

    def _write(self) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            name = f"{self._name}-{count % 17}"
            present = self.known.get(name, GONE)
            value = GONE if present and count % 5 == 0 else f"{self._name}/{count}"
            try:
                self._change(name, present, value)
            except DOWN:
                self.doubtful[name] = value
                self._settle(name)

    def _change(self, name: str, present: str, value: str) -> None:
        path = f"{CONFIG_MAPS}/{name}"
        if not present:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}
            status, answer = self._hub.ask("POST", CONFIG_MAPS, body)
        elif value:
            body = {"data": {"value": value}}
            status, answer = self._hub.ask("PATCH", path, body, "application/merge-patch+json")
        else:
            status, answer = self._hub.ask("DELETE", path)
        if status not in (200, 201):
            self.problems.append(f"{name} from {present!r} to {value!r}: {status} {answer}")
        self.known[name] = value
        self.acknowledged += 1
        self.highest = max(self.highest, int(dig(answer, "metadata", "resourceVersion", default=0)))

    def _settle(self, name: str) -> None:
        """The hub is away. When it is back, everything is as it was said to be; the last change may have happened."""
        while not self._stop.is_set():
            try:
                _, found = self._hub.ask("GET", CONFIG_MAPS)
            except DOWN:
                wait_s(0.02)
                continue
            self.check(found)
            values = {item["metadata"]["name"]: item["data"]["value"] for item in found["items"]}
            self.known[name] = values.get(name, GONE)
            self.doubtful.pop(name)
            return

    def check(self, found: Any) -> None:
        """Hold a list to what was acknowledged."""
        if int(found["metadata"]["resourceVersion"]) < self.highest:
            self.problems.append(f"revision {self.highest} was acknowledged, now it is {found['metadata']}")
        values = {item["metadata"]["name"]: item["data"]["value"] for item in found["items"]}
        for name in self.known.keys() | {name for name in values if name.startswith(f"{self._name}-")}:
            allowed = {self.known.get(name, GONE)}
            if name in self.doubtful:
                allowed.add(self.doubtful[name])
            if values.get(name, GONE) not in allowed:
                self.problems.append(f"{name} is {values.get(name, GONE)!r}, {allowed} was acknowledged")


class Watcher:
    """Watches all ConfigMaps, and goes on from where it was whenever the hub is back."""

    def __init__(self, kubeconfig: Path, stop: threading.Event) -> None:
        self._hub = Hub(kubeconfig)
        self._stop = stop
        self.resumed = self.expired = self.events = 0
        self.revision = 0
        self.values: dict[str, str] = {}
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                if not self.revision:
                    self._list()
                self._follow()
            except DOWN:
                self._hub.close()
                wait_s(0.02)

    def _list(self) -> None:
        _, found = self._hub.ask("GET", CONFIG_MAPS)
        self.revision = int(found["metadata"]["resourceVersion"])
        self.values = {item["metadata"]["name"]: item["data"]["value"] for item in found["items"] if "data" in item}

    def _follow(self) -> None:
        query = f"?watch=1&resourceVersion={self.revision}&timeoutSeconds=5"
        response = self._hub.open("GET", CONFIG_MAPS + query)
        begun = self.events
        while line := response.readline():
            if not line.endswith(b"\n"):
                break
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                self._told_to_list(event["object"])
                break
            if self.events == begun:
                self.resumed += 1
            self._saw(event["type"], event["object"])
        self._hub.close()

    def _told_to_list(self, status: Any) -> None:
        if status["code"] != 410:
            self.problems.append(f"the watch was answered {status}")
        self.expired += 1
        self.revision = 0

    def _saw(self, event: str, obj: Any) -> None:
        self.events += 1
        revision, name = int(obj["metadata"]["resourceVersion"]), obj["metadata"]["name"]
        if revision <= self.revision:
            self.problems.append(f"{event} of {name} at {revision}, after {self.revision}")
        if (event == "ADDED") is (name in self.values):
            self.problems.append(f"{event} of {name}, which was {self.values.get(name, 'not there')}")
        self.revision = revision
        if event == "DELETED":
            self.values.pop(name, None)
        else:
            self.values[name] = obj["data"]["value"]
