"""The Ignition of one installed host: a pointer to the cluster's own, which the node fetches at its first boot.

Source: host-lifecycle section 6, step 4.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import orjson

from labsim.controllers.cim.rows import Cluster, Host


def ignition_url(host: Host, cluster: Cluster) -> str:
    """Where the node finds its configuration: the endpoint, then the machine config pool."""
    return f"{cluster.ignition_endpoint_url.rstrip('/')}/{host.machine_config_pool or 'worker'}"


def pointer_ignition(host: Host, cluster: Cluster) -> bytes:
    """Version 3.2.0: merge source with headers, the endpoint's CA, the hostname, and the host's overrides."""
    headers = [{"name": name, "value": value} for name, value in sorted(host.ignition_headers.items())]
    if host.ignition_token:
        headers.insert(0, {"name": "Authorization", "value": f"Bearer {host.ignition_token}"})
    source: dict[str, Any] = {"source": ignition_url(host, cluster)}
    if headers:
        source["httpHeaders"] = headers
    ignition: dict[str, Any] = {"version": "3.2.0", "config": {"merge": [source]}}
    if cluster.ignition_endpoint_ca:
        encoded = base64.b64encode(cluster.ignition_endpoint_ca.encode()).decode()
        authority = {"source": f"data:text/plain;charset=utf-8;base64,{encoded}"}
        ignition["security"] = {"tls": {"certificateAuthorities": [authority]}}
    hostname = {
        "path": "/etc/hostname",
        "mode": 420,
        "overwrite": True,
        "user": {"name": "root"},
        "contents": {"source": f"data:,{quote(host.hostname)}"},
    }
    document: dict[str, Any] = {"ignition": ignition, "storage": {"files": [hostname]}}
    if host.ignition_overrides:
        document = merge_ignition(document, orjson.loads(host.ignition_overrides))
    return orjson.dumps(document)


def merge_ignition(base: Any, override: Any) -> Any:
    """`override` on top of `base`: objects are merged, lists by the name or path of their entries, others joined."""
    if isinstance(base, dict) and isinstance(override, dict):
        merged = dict(base)
        for key, value in override.items():
            if key == "version" and key in base:
                continue
            merged[key] = merge_ignition(base[key], value) if key in base else value
        return merged
    if isinstance(base, list) and isinstance(override, list):
        return _merge_lists(base, override)
    return override


def _merge_lists(base: list[Any], override: list[Any]) -> list[Any]:
    merged = list(base)
    for entry in override:
        identity = _identity(entry)
        place = next((n for n, known in enumerate(merged) if identity and _identity(known) == identity), None)
        if place is None:
            merged.append(entry)
        else:
            merged[place] = merge_ignition(merged[place], entry)
    return merged


def _identity(entry: Any) -> Any:
    return (entry.get("path") or entry.get("name")) if isinstance(entry, dict) else None
