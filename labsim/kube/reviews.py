"""Reviews: questions about users and rights that are answered and not stored."""

from __future__ import annotations

from collections.abc import Callable

from labsim.kube.authorization import Attributes, Authorizer
from labsim.kube.users import User
from labsim.model.objects import Object, dig

TokenLookup = Callable[[str], User | None]


def review(kind: str, body: Object, user: User, authorizer: Authorizer, token_user: TokenLookup) -> Object:
    """The body of a review with its status. `kind` is the review's Kind."""
    if kind == "SelfSubjectReview":
        return {**_answered(body), "status": {"userInfo": _user_info(user)}}
    if kind == "TokenReview":
        found = token_user(str(dig(body, "spec", "token", default="")))
        if found is None:
            return {**_answered(body), "status": {"user": {}, "error": "invalid bearer token"}}
        return {**_answered(body), "status": {"authenticated": True, "user": _user_info(found)}}
    if kind == "SelfSubjectRulesReview":
        rules = authorizer.rules(user, str(dig(body, "spec", "namespace", default="")))
        status = {
            "resourceRules": [rule for rule in rules if "resources" in rule],
            "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
            "incomplete": False,
        }
        return {**_answered(body), "status": status}
    asked = user if kind == "SelfSubjectAccessReview" else _subject(body)
    allowed = authorizer.allows(asked, _attributes(body))
    return {**_answered(body), "status": {"allowed": allowed}}


def _answered(body: Object) -> Object:
    metadata = body.get("metadata") or {}
    return {**body, "metadata": metadata}


def _user_info(user: User) -> Object:
    made: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        made["uid"] = user.uid
    if user.extra:
        made["extra"] = {key: list(values) for key, values in user.extra}
    return made


def _subject(body: Object) -> User:
    spec = body.get("spec") or {}
    return User(str(spec.get("user", "")), str(spec.get("uid", "")), tuple(spec.get("groups") or ()))


def _attributes(body: Object) -> Attributes:
    spec = body.get("spec") or {}
    path = spec.get("nonResourceAttributes")
    if path:
        return Attributes(str(path.get("verb", "")), path=str(path.get("path", "")))
    wanted = spec.get("resourceAttributes") or {}
    return Attributes(
        str(wanted.get("verb", "")),
        group=str(wanted.get("group", "")),
        resource=str(wanted.get("resource", "")),
        subresource=str(wanted.get("subresource", "")),
        namespace=str(wanted.get("namespace", "")),
        name=str(wanted.get("name", "")),
    )
