"""Acting as somebody else: the Impersonate-* headers, and the rights that they take.

As upstream since 1.36: first the constrained mode that fits the wanted user (a node, a service account, anybody else),
which asks for the verb `impersonate-on:MODE:VERB` on what is requested and for `impersonate:MODE` on the user; then the
old mode, which asks for `impersonate` alone. The refusal that is told is the first one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import orjson

from labsim.kube.authentication import AUTHENTICATED, UNAUTHENTICATED
from labsim.kube.authorization import Attributes, Authorizer, forbidden_error
from labsim.kube.errors import ApiError, bad_request
from labsim.kube.label_syntax import subdomain_problems
from labsim.kube.users import User

_EXTRA = "impersonate-extra-"
_NODE = "system:node:"
_ACCOUNT = "system:serviceaccount:"
_AUTHENTICATION = "authentication.k8s.io"


def wanted_user(headers: Mapping[str, str]) -> User | None:
    """The user that the headers name, None for none; 400 for groups, uid or extra without a name."""
    name, uid = headers.get("impersonate-user", ""), headers.get("impersonate-uid", "")
    groups = tuple(part.strip() for part in headers.get("impersonate-group", "").split(",") if part.strip())
    extra = tuple(
        (unquote(key[len(_EXTRA) :]).lower(), tuple(part.strip() for part in value.split(",")))
        for key, value in headers.items()
        if key.startswith(_EXTRA)
    )
    if name:
        return User(name, uid, groups, extra)
    if not (uid or groups or extra):
        return None
    listed = f"[]string{{{', '.join(_quoted(group) for group in groups)}}}" if groups else "[]string(nil)"
    shown = f'&user.DefaultInfo{{Name:"", UID:{_quoted(uid)}, Groups:{listed}, Extra:{_go_extra(extra)}}}'
    raise bad_request(f"requested {shown} without impersonating a user name")


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _go_extra(extra: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    if not extra:
        return "map[string][]string(nil)"
    entries = (f"{_quoted(key)}:[]string{{{', '.join(map(_quoted, values))}}}" for key, values in extra)
    return f"map[string][]string{{{', '.join(entries)}}}"


def impersonated(authorizer: Authorizer, user: User, wanted: User, request: Attributes) -> User:
    """Who the request is made as; raises the 403 where `user` may not be `wanted` for it."""
    refusals: list[ApiError] = []
    mode = _mode(wanted)
    checks = [_legacy(wanted)]
    if mode:
        on_request = dataclasses.replace(request, verb=f"impersonate-on:{mode}:{request.verb}")
        checks.insert(0, [on_request, *_constrained(wanted, mode)])
    for needed in checks:
        refused = next((asked for asked in needed if not _allows(authorizer, user, asked)), None)
        if refused is None:
            return _completed(wanted, constrained=len(checks) == 2 and needed is checks[0])
        refusals.append(forbidden_error(user, refused))
    raise refusals[0]


def _allows(authorizer: Authorizer, user: User, asked: Attributes) -> bool:
    if asked.resource == "groups" and asked.group and asked.name == "system:masters":
        return False  # never in a constrained mode
    return authorizer.allows(user, asked)


def _mode(wanted: User) -> str:
    """The constrained mode for a user; "" where there is none."""
    only_name = not (wanted.uid or wanted.groups or wanted.extra)
    if _is_node(wanted.name):
        return "arbitrary-node" if only_name else ""
    if _account(wanted.name) is not None:
        return "serviceaccount" if only_name else ""
    return "user-info"


def _is_node(name: str) -> bool:
    return name.startswith(_NODE) and not list(subdomain_problems(name[len(_NODE) :]))


def _account(name: str) -> tuple[str, str] | None:
    parts = name.split(":")
    return (parts[2], parts[3]) if name.startswith(_ACCOUNT) and len(parts) == 4 and parts[2] and parts[3] else None


def _constrained(wanted: User, mode: str) -> Iterator[Attributes]:
    yield from _about(wanted, f"impersonate:{mode}", _AUTHENTICATION)


def _legacy(wanted: User) -> list[Attributes]:
    return list(_about(wanted, "impersonate", ""))


def _about(wanted: User, verb: str, group: str) -> Iterator[Attributes]:
    account = _account(wanted.name)
    if account is not None:
        yield Attributes(verb, group, "serviceaccounts", namespace=account[0], name=account[1])
    elif group and _is_node(wanted.name):
        yield Attributes(verb, group, "nodes", name=wanted.name[len(_NODE) :])
    else:
        yield Attributes(verb, group, "users", name=wanted.name)
    if wanted.uid:
        yield Attributes(verb, _AUTHENTICATION, "uids", name=wanted.uid)
    for name in wanted.groups:
        yield Attributes(verb, group, "groups", name=name)
    for key, values in wanted.extra:
        for value in values:
            yield Attributes(verb, _AUTHENTICATION, "userextras", key, name=value)


def _completed(wanted: User, *, constrained: bool) -> User:
    """The user with the groups that come with the name."""
    groups, account = wanted.groups, _account(wanted.name)
    if account is not None and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    elif constrained and _is_node(wanted.name):
        groups = ("system:nodes",)
    group = UNAUTHENTICATED if wanted.name == "system:anonymous" else AUTHENTICATED
    if group not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, group)
    return dataclasses.replace(wanted, groups=groups)
