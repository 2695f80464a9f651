"""The functions that Kubernetes adds to CEL, as far as the evaluating library lacks them.

Each takes and returns plain values; what is an object upstream (a URL, an IP, a quantity) is a map here, with its
methods as functions of it. A function raises ValueError where upstream's fails: the rule then counts as broken.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qs, urlsplit

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")


def quantity_value(text: str) -> Decimal:
    """The number that a resource quantity says; ValueError for none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"quantities must match the regular expression: {text!r}")
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2] or ""]
    except InvalidOperation as problem:
        raise ValueError(str(problem)) from problem


def _passes(check: Callable[[str], Any]) -> Callable[[str], bool]:
    def passes(text: str) -> bool:
        try:
            check(text)
        except ValueError:
            return False
        return True

    return passes


def _url(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError(f"URL parse error during conversion from string: {text!r}")
    host, port = parts.hostname or "", parts.port
    shown = f"[{host}]" if ":" in host else host
    return {
        "url": text,
        "scheme": parts.scheme,
        "hostname": host,
        "host": shown if port is None else f"{shown}:{port}",
        "port": "" if port is None else str(port),
        "path": parts.path,
        "query": parse_qs(parts.query, keep_blank_values=True),
    }


def _ip(text: str) -> dict[str, Any]:
    address = ipaddress.ip_address(text)
    if "%" in text or (address.version == 6 and getattr(address, "ipv4_mapped", None) is not None):
        raise ValueError(f"IP Address {text!r} is not allowed here")
    return {"ip": str(address), "family": address.version}


def _cidr(text: str) -> dict[str, Any]:
    network = ipaddress.ip_interface(text)
    if "/" not in text:
        raise ValueError(f"network address parse error: {text!r}")
    return {"cidr": text, "ip": str(network.ip), "prefix": network.network.prefixlen, "family": network.version}


def _address_of(value: Any) -> Any:
    return ipaddress.ip_address(value["ip"] if isinstance(value, dict) else value)


def _network_of(value: Any) -> Any:
    return ipaddress.ip_network(value["cidr"] if isinstance(value, dict) else value, strict=False)


def _contains_cidr(outer: Any, inner: Any) -> bool:
    one, other = _network_of(outer), _network_of(inner)
    return bool(one.version == other.version and other.subnet_of(one))


def _quantity(text: str) -> dict[str, Any]:
    return {"quantity": str(quantity_value(text))}


def _amount(value: Any) -> Decimal:
    return Decimal(value["quantity"] if isinstance(value, dict) else value)


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _index_of(value: Any, item: Any, start: int = 0) -> int:
    if isinstance(value, str):
        return value.find(item, start)
    return next((at for at, known in enumerate(value) if known == item), -1)


def _last_index_of(value: Any, item: Any) -> int:
    if isinstance(value, str):
        return value.rfind(item)
    return max((at for at, known in enumerate(value) if known == item), default=-1)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator == "":
        return list(text)
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    if start < 0 or start > len(text) or (end is not None and not start <= end <= len(text)):
        raise ValueError("index out of range")
    return text[start:end]


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit)


def _is_sorted(values: list[Any]) -> bool:
    return all(one <= other for one, other in itertools.pairwise(values))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "split": _split,
    "join": lambda parts, separator="": separator.join(parts),
    "lowerAscii": lambda text: text.lower(),
    "upperAscii": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "replace": _replace,
    "substring": _substring,
    "charAt": lambda text, at: _substring(text, at, min(at + 1, len(text))),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "find": _find,
    "findAll": _find_all,
    "sum": sum,
    "min": lambda *values: min(values[0] if len(values) == 1 else values),
    "max": lambda *values: max(values[0] if len(values) == 1 else values),
    "isSorted": _is_sorted,
    "isURL": _passes(_url),
    "url": _url,
    "getScheme": lambda url: url["scheme"],
    "getHost": lambda url: url["host"],
    "getHostname": lambda url: url["hostname"],
    "getPort": lambda url: url["port"],
    "getEscapedPath": lambda url: url["path"],
    "getQuery": lambda url: url["query"],
    "isIP": _passes(_ip),
    "ip": lambda value: _ip(value) if isinstance(value, str) else {"ip": value["ip"], "family": value["family"]},
    "family": lambda address: address["family"],
    "isCanonical": lambda text: _ip(text)["ip"] == text,
    "isLoopback": lambda address: _address_of(address).is_loopback,
    "isGlobalUnicast": lambda address: not (_address_of(address).is_multicast or _address_of(address).is_link_local),
    "isLinkLocalUnicast": lambda address: _address_of(address).is_link_local,
    "isUnspecified": lambda address: _address_of(address).is_unspecified,
    "isCIDR": _passes(_cidr),
    "cidr": _cidr,
    "containsIP": lambda network, address: _address_of(address) in _network_of(network),
    "containsCIDR": _contains_cidr,
    "prefixLength": lambda network: network["prefix"],
    "masked": lambda network: _cidr(str(_network_of(network))),
    "isQuantity": _passes(quantity_value),
    "quantity": _quantity,
    "isGreaterThan": lambda one, other: _amount(one) > _amount(other),
    "isLessThan": lambda one, other: _amount(one) < _amount(other),
    "compareTo": lambda one, other: (_amount(one) > _amount(other)) - (_amount(one) < _amount(other)),
    "asInteger": lambda value: int(_amount(value)),
    "asApproximateFloat": lambda value: float(_amount(value)),
    "isInteger": lambda value: _amount(value) == _amount(value).to_integral_value(),
    "sign": lambda value: (_amount(value) > 0) - (_amount(value) < 0),
}
