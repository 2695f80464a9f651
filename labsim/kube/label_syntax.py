"""What names, labels and annotation keys may look like, and how the API server says that one does not."""

from __future__ import annotations

import re
from collections.abc import Callable

from labsim.kube.short_texts import cached_if_short

SUBDOMAIN_BYTES_MAX = 253
LABEL_BYTES_MAX = 63

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_NAME_PART})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_dns_1035 = re.compile(_DNS_1035).fullmatch
_is_name_part = re.compile(_NAME_PART).fullmatch
_is_value = re.compile(_VALUE).fullmatch
_is_config_key = re.compile(_CONFIG_KEY).fullmatch

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_DNS_1035}')"
)
_NAME_PART_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_PART}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_CONFIG_KEY}')"
)

Problems = Callable[[str], tuple[str, ...]]


def _too_long(limit: int, unit: str = "bytes") -> str:
    return f"must be no more than {limit} {unit}"


@cached_if_short(8192)
def subdomain_problems(name: str) -> tuple[str, ...]:
    """RFC 1123 subdomain: the names of most kinds."""
    found = [] if len(name) <= SUBDOMAIN_BYTES_MAX else [_too_long(SUBDOMAIN_BYTES_MAX, "characters")]
    if not _is_subdomain(name):
        found.append(_SUBDOMAIN_TEXT)
    return tuple(found)


@cached_if_short(4096)
def label_problems(name: str) -> tuple[str, ...]:
    """RFC 1123 label: the names of namespaces and services."""
    found = [] if len(name) <= LABEL_BYTES_MAX else [_too_long(LABEL_BYTES_MAX, "characters")]
    if not _is_label(name):
        found.append("must not contain dots" if _is_subdomain(name) else _LABEL_TEXT)
    return tuple(found)


def dns_1035_problems(name: str) -> tuple[str, ...]:
    """RFC 1035 label: names of kinds and resources in a CRD."""
    found = [] if len(name) <= LABEL_BYTES_MAX else [_too_long(LABEL_BYTES_MAX, "characters")]
    return tuple(found) if _is_dns_1035(name) else (*found, _DNS_1035_TEXT)


def path_segment_problems(name: str) -> tuple[str, ...]:
    """The names of roles and bindings: anything that can stand in a URL path."""
    if name in (".", ".."):
        return (f"may not be '{name}'",)
    return tuple(f"may not contain '{letter}'" for letter in "/%" if letter in name)


@cached_if_short(8192)
def label_key_problems(key: str) -> tuple[str, ...]:
    """What is wrong with a label's (or annotation's) key."""
    prefix, slash, name = key.partition("/")
    if not slash:
        prefix, name = "", key
    elif "/" in name:
        return (
            f"a valid label key {_NAME_PART_TEXT} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    found: list[str] = []
    if slash and not prefix:
        found.append("prefix part must be non-empty")
    elif slash:
        found += [f"prefix part {problem}" for problem in subdomain_problems(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name.encode()) > LABEL_BYTES_MAX:
        found.append(f"name part {_too_long(LABEL_BYTES_MAX)}")
    if not _is_name_part(name):
        found.append(f"name part {_NAME_PART_TEXT}")
    return tuple(found)


@cached_if_short(8192)
def label_value_problems(value: str) -> tuple[str, ...]:
    found = [] if len(value.encode()) <= LABEL_BYTES_MAX else [_too_long(LABEL_BYTES_MAX)]
    return tuple(found) if _is_value(value) else (*found, _VALUE_TEXT)


def config_key_problems(key: str) -> tuple[str, ...]:
    """What is wrong with a key of a ConfigMap or Secret."""
    found = [] if len(key.encode()) <= SUBDOMAIN_BYTES_MAX else [_too_long(SUBDOMAIN_BYTES_MAX)]
    if not _is_config_key(key):
        return (*found, _CONFIG_KEY_TEXT)
    if key in (".", ".."):
        return (*found, f"must not be '{key}'")
    if key.startswith(".."):
        return (*found, "must not start with '..'")
    return tuple(found)
