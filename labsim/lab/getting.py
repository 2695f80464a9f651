"""What `labsim get` shows: objects of a lab's hub, as kubectl would print them, from the API's own Tables."""

from __future__ import annotations

import difflib
from typing import Any

import orjson

from labsim.errors import LabError, NothingSelected, UsageError
from labsim.kube.catalog import Resource
from labsim.kube.http import KubeHttp
from labsim.kube.users import ADMIN
from labsim.lab.lab import Lab
from labsim.model.http import Request, request_for_url

AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def get_objects(lab: Lab, kind: str, name: str = "") -> dict[str, Any]:
    """Objects of a kind, in all namespaces: `columns` (name, wide) and `rows` as tables have them, and the `objects`.

    kind: what kubectl takes (agents, agent, Agent, nodepools, np, machines.cluster.x-k8s.io). name: only that one.
    """
    api = KubeHttp(lab.world.hub, authenticate=lambda request: ADMIN)
    resource = resource_named(api, kind)
    namespaced = resource.kind.namespaced
    table = _answer(api, _request(resource, AS_TABLE))
    objects = _answer(api, _request(resource, "application/json"))["items"]
    columns = [("Namespace", False)] if namespaced else []
    columns += [(str(column["name"]), column.get("priority", 0) > 0) for column in table["columnDefinitions"]]
    rows = []
    for row, obj in zip(table["rows"], objects, strict=True):
        metadata = obj["metadata"]
        if name in ("", metadata["name"]):
            cells = [metadata["namespace"]] if namespaced else []
            cells += [_printed(cell) for cell in row["cells"]]
            rows.append({"cells": cells, "object": obj})
    if name and not rows:
        known = ", ".join(sorted(obj["metadata"]["name"] for obj in objects)) or "none yet"
        raise NothingSelected(f"there is no {resource.singular} {name!r}", hint=f"{resource.kind.plural}: {known}")
    return {
        "resource": resource.singular + (f".{resource.kind.group}" if resource.kind.group else ""),
        "columns": columns,
        "rows": [row["cells"] for row in rows],
        "objects": [row["object"] for row in rows],
    }


def _printed(cell: Any) -> str:
    """As kubectl prints it."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return "" if cell is None else str(cell)


def resource_named(api: KubeHttp, wanted: str) -> Resource:
    """The resource that a person means: plural, singular, kind or short name, and `.group` where that is not enough."""
    word, _, group = wanted.lower().partition(".")
    known: set[str] = set()
    served = (entry for versions in api.catalog.groups.values() for entries in versions.values() for entry in entries)
    for resource in served:
        names = {resource.kind.plural, resource.singular, resource.kind.kind.lower(), *resource.short_names}
        if resource.stored and "list" in resource.verbs:
            known |= names
            if word in names and resource.kind.group.startswith(group):
                return resource
    near = difflib.get_close_matches(word, sorted(known), 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else "kubectl api-resources lists what there is"
    raise UsageError(f"the hub has no resource {wanted!r}", hint=hint)


def _request(resource: Resource, accept: str) -> Request:
    kind = resource.kind
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    url = f"https://hub{base}/{kind.plural}"
    return request_for_url("GET", url, headers={"accept": accept, "user-agent": "labsim"}, client="command")


def _answer(api: KubeHttp, request: Request) -> dict[str, Any]:
    response = api.handle(request)
    document: dict[str, Any] = orjson.loads(response.body)
    if response.status != 200:
        raise LabError(f"the hub answered {response.status}: {document.get('message', '')}")
    return document
