"""Reading a kubeconfig, in JSON or in the plain YAML that tools write (block maps, lists, quoted scalars)."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any


class BadKubeconfig(Exception):
    """The text is no kubeconfig that this reader understands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One cluster, and how to log in to it: a token, or a client certificate with its key (PEM texts)."""

    server: str
    ca_pem: str = ""
    token: str = ""
    client_cert_pem: str = ""
    client_key_pem: str = ""


def read_kubeconfig(data: bytes) -> Kubeconfig:
    """The cluster and user of the current context (or the first ones, where none is named)."""
    text = data.decode(errors="replace")
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else parse_plain_yaml(text)
        context = _named(document["contexts"], document.get("current-context"))["context"]
        cluster = _named(document["clusters"], context.get("cluster"))["cluster"]
        user = _named(document["users"], context.get("user"))["user"] or {}
        return Kubeconfig(
            server=str(cluster["server"]).rstrip("/"),
            ca_pem=_decoded(cluster.get("certificate-authority-data")),
            token=str(user.get("token") or ""),
            client_cert_pem=_decoded(user.get("client-certificate-data")),
            client_key_pem=_decoded(user.get("client-key-data")),
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise BadKubeconfig(f"{type(error).__name__}: {error}") from error


def _named(entries: list[dict[str, Any]], name: Any) -> dict[str, Any]:
    return next((entry for entry in entries if entry.get("name") == name), entries[0])


def _decoded(value: Any) -> str:
    return base64.b64decode(str(value)).decode() if value else ""


def parse_plain_yaml(text: str) -> Any:
    """Block maps and lists of scalars, as client-go and oc write kubeconfigs. Raises ValueError on anything else."""
    lines = [
        (len(line) - len(line.lstrip(" ")), line.strip())
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---"
    ]
    value, rest = _block(lines, 0, 0)
    if rest != len(lines):
        raise ValueError(f"unexpected line {lines[rest][1]!r}")
    return value


def _block(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[Any, int]:
    if at < len(lines) and lines[at][1].startswith("- "):
        return _list(lines, at, lines[at][0])
    return _map(lines, at, lines[at][0] if at < len(lines) else indent)


def _list(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while at < len(lines) and lines[at][0] == indent and lines[at][1].startswith("- "):
        content = lines[at][1][2:].strip()
        if _is_pair(content):  # a map that begins on the dash's own line
            lines[at] = (indent + 2, content)
            item, at = _map(lines, at, indent + 2)
        else:
            item, at = _scalar(content), at + 1
        items.append(item)
    return items, at


def _map(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at][0] == indent and not lines[at][1].startswith("- "):
        key, colon, value = lines[at][1].partition(":")
        if not colon:
            raise ValueError(f"not a key: {lines[at][1]!r}")
        at += 1
        if value.strip():
            found[_scalar(key)] = _scalar(value.strip())
        elif at < len(lines) and (lines[at][0] > indent or (lines[at][0] == indent and lines[at][1].startswith("- "))):
            found[_scalar(key)], at = _block(lines, at, indent)
        else:
            found[_scalar(key)] = None
    return found, at


def _is_pair(content: str) -> bool:
    key, colon, rest = content.partition(":")
    return bool(colon) and (not rest or rest.startswith(" ")) and not key.startswith(('"', "'"))


def _scalar(text: str) -> Any:
    if text.startswith('"') and text.endswith('"'):
        return json.loads(text)
    if text.startswith("'") and text.endswith("'") and len(text) > 1:
        return text[1:-1].replace("''", "'")
    return {"{}": {}, "[]": [], "null": None, "~": None, "true": True, "false": False}.get(text, text)
