"""Ignition on the machine that applies it: fetch what it points to, merge, write the files.

Knows of a configuration what a lab machine needs: `ignition.config.merge` and `replace`, `ignition.security` CAs,
`storage.files`, `systemd.units`. `passwd` and everything else is kept as data in the merged document.
Source: the Ignition specification 3.x, and facts of CIM's discovery Ignition (cim-resources 4.3).
"""

from __future__ import annotations

import base64
import binascii
import functools
import gzip
import hashlib
import json
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any

from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, Log, Sleep, Task, WriteFile

Config = dict[str, Any]

ACCEPT = "application/vnd.coreos.ignition+json;version=3.2.0, */*;q=0.1"
FIRST_RETRY_S = 0.1  # doubles with each try, as Ignition's own fetcher does
RETRY_CAP_S = 5.0
MAX_DEPTH = 8


class IgnitionFailed(Exception):
    """The configuration is wrong, or a source refuses for good: the machine would stop in its emergency shell."""


@functools.lru_cache(maxsize=8)
def parse(data: bytes) -> Config:
    """The configuration in a file. Machines of one image have the same: not to be changed. Raises IgnitionFailed."""
    try:
        config = json.loads(data)
    except ValueError as error:
        raise IgnitionFailed(f"not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise IgnitionFailed("the configuration is not a JSON object")
    return config


@functools.lru_cache(maxsize=64)
def decode_data_url(url: str) -> bytes:
    """The bytes of a `data:` URL, in base64 or percent encoding."""
    head, comma, body = url[len("data:") :].partition(",")
    if not url.startswith("data:") or not comma:
        raise IgnitionFailed(f"not a data URL: {url[:40]}")
    raw = urllib.parse.unquote_to_bytes(body)
    if not head.endswith(";base64"):
        return raw
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error as error:
        raise IgnitionFailed(f"bad base64 in a data URL: {error}") from error


def _section(config: Mapping[str, Any], *path: str) -> Any:
    value: Any = config
    for key in path:
        value = value.get(key) if type(value) is dict or isinstance(value, Mapping) else None
    return value


def merge(parent: Config, child: Config) -> Config:
    """The child laid over the parent: lists are merged by name or path, and the child wins."""
    merged: Config = {**parent, **{key: child[key] for key in child if key not in ("ignition", "storage", "systemd")}}
    merged["ignition"] = {**(parent.get("ignition") or {}), **(child.get("ignition") or {})}
    for section, key, name in (("storage", "files", "path"), ("systemd", "units", "name")):
        entries = {entry[name]: entry for entry in _section(parent, section, key) or []}
        for entry in _section(child, section, key) or []:
            entries[entry[name]] = {**entries.get(entry[name], {}), **entry}
        both = {**(parent.get(section) or {}), **(child.get(section) or {})}
        if both or entries:
            merged[section] = {**both, key: list(entries.values())}
    return merged


def render(config: Config) -> Task[Config]:
    """The whole configuration, with everything that it refers to fetched. Raises IgnitionFailed."""
    result = yield from _render(config, "", 0)
    final: Config = result
    return final


def _render(config: Config, ca_pem: str, depth: int) -> Task[Config]:
    if depth > MAX_DEPTH:
        raise IgnitionFailed("configurations refer to each other too deeply")
    authorities = yield from _authorities(config, ca_pem)
    replace = _section(config, "ignition", "config", "replace")
    if replace and replace.get("source"):
        child = parse((yield from fetch(replace, authorities)))
        result: Config = yield from _render(child, authorities, depth + 1)
        return result
    merged = config
    for resource in _section(config, "ignition", "config", "merge") or []:
        if resource.get("source"):
            child = parse((yield from fetch(resource, authorities)))
            rendered = yield from _render(child, authorities, depth + 1)
            merged = merge(merged, rendered)
    return merged


def _authorities(config: Config, known: str) -> Task[str]:
    """The PEM bundle that this configuration's fetches trust, besides what a parent trusted."""
    parts = [known] if known else []
    for resource in _section(config, "ignition", "security", "tls", "certificateAuthorities") or []:
        data = yield from fetch(resource, known)
        parts.append(data.decode(errors="replace").strip() + "\n")
    return "".join(parts)


def fetch(resource: Mapping[str, Any], ca_pem: str) -> Task[bytes]:
    """The bytes of a resource: a data URL, or HTTP(S), asked again with a capped back-off until it answers."""
    source = str(resource.get("source") or "")
    if not source:
        return b""
    if source.startswith("data:"):
        data = decode_data_url(source)
    elif source.startswith(("https://", "http://")):
        data = yield from _fetch_http(source, _headers(resource), ca_pem)
    else:
        raise IgnitionFailed(f"cannot fetch {source[:80]}: only data, http and https are known")
    if resource.get("compression") == "gzip":
        try:
            data = _inflated(data)
        except (OSError, EOFError, zlib.error) as error:
            raise IgnitionFailed(f"{source[:80]}: {error}") from error
    _verify(resource, source, data)
    return data


@functools.lru_cache(maxsize=32)
def _inflated(data: bytes) -> bytes:
    return gzip.decompress(data)


def _headers(resource: Mapping[str, Any]) -> dict[str, str]:
    headers = {"Accept": ACCEPT}
    for header in resource.get("httpHeaders") or []:
        headers[str(header["name"])] = str(header.get("value", ""))
    return headers


def _verify(resource: Mapping[str, Any], source: str, data: bytes) -> None:
    wanted = _section(resource, "verification", "hash")
    if not wanted:
        return
    algorithm, _, digest = str(wanted).partition("-")
    if algorithm not in ("sha512", "sha256") or hashlib.new(algorithm, data).hexdigest() != digest:
        raise IgnitionFailed(f"{source[:80]}: hash verification failed")


def _fetch_http(url: str, headers: Mapping[str, str], ca_pem: str) -> Task[bytes]:
    pause_s = FIRST_RETRY_S
    told = ""
    while True:
        try:
            answer: HttpAnswer = yield Http("GET", url, headers, ca_pem=ca_pem)
        except ConnectionFailed as error:
            trouble = str(error)
        else:
            if 200 <= answer.status < 300:
                yield Log(f"GET {url}: attempt succeeded with {answer.status}", "ignition")
                return answer.body
            trouble = f"GET result: {answer.status}"
            if answer.status < 500 and answer.status not in (408, 425, 429):
                raise IgnitionFailed(f"failed to fetch {url}: {trouble}")
        if trouble != told:  # one line per kind of trouble, not one per try
            yield Log(f"GET {url}: {trouble}; trying again", "ignition")
            told = trouble
        yield Sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_CAP_S)


def write_files(config: Config) -> Task[None]:
    """Write `storage.files`. A source that is remote is fetched; `append` adds to what the file starts with."""
    ca_pem = yield from _authorities(config, "")
    for entry in _section(config, "storage", "files") or []:
        data = yield from fetch(entry.get("contents") or {}, ca_pem)
        for piece in entry.get("append") or []:
            data += yield from fetch(piece, ca_pem)
        yield WriteFile(str(entry["path"]), data, int(entry.get("mode") or 0o644))


def write_keys(config: Config) -> Task[None]:
    """Write the keys of `passwd.users`, where Ignition writes them on RHCOS."""
    for user in _section(config, "passwd", "users") or []:
        keys = [str(key).strip() for key in user.get("sshAuthorizedKeys") or []]
        if keys:
            text = "\n".join(keys) + "\n"
            yield WriteFile(authorized_keys_path(str(user["name"])), text.encode(), 0o600)


def authorized_keys_path(user: str) -> str:
    return f"/home/{user}/.ssh/authorized_keys.d/ignition"


def units(config: Config) -> dict[str, Mapping[str, Any]]:
    """The systemd units by name; a unit that is masked or not enabled is there too."""
    return {str(unit["name"]): unit for unit in _section(config, "systemd", "units") or []}
