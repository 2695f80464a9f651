"""Kubeconfigs as text, YAML or JSON: which servers they name, and naming another."""

from __future__ import annotations

import functools
from typing import Any

import orjson
import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _clusters(document: Any) -> list[dict[str, Any]]:
    entries = document.get("clusters") if isinstance(document, dict) else None
    found = [entry.get("cluster") for entry in entries or () if isinstance(entry, dict)]
    return [cluster for cluster in found if isinstance(cluster, dict)]


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return yaml.load(text, Loader=_LOADER)  # noqa: S506  (the safe loader, in C where it is there)
    except yaml.YAMLError:
        return None


@functools.lru_cache(maxsize=256)
def servers_of(text: str) -> tuple[str, ...]:
    """The server of each cluster; empty for a text that is no kubeconfig."""
    return tuple(str(cluster.get("server", "")) for cluster in _clusters(_parsed(text)))


@functools.lru_cache(maxsize=256)
def with_server(text: str, server: str) -> str:
    """The same kubeconfig with this server for every cluster."""
    document = _parsed(text)
    for cluster in _clusters(document):
        cluster["server"] = server
    return orjson.dumps(document).decode()
