"""Reviews: questions about users and rights that are answered and not stored."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from labsim.kube.account_tokens import ISSUER
from labsim.kube.authorization import Attributes, Authorizer
from labsim.kube.errors import ApiError, bad_request, cause
from labsim.kube.users import User
from labsim.model.objects import Object, dig

TokenLookup = Callable[[str], User | None]


def review(kind: str, body: Object, user: User, authorizer: Authorizer, token_user: TokenLookup) -> Object:
    """The body of a review with its status. `kind` is the review's Kind."""
    if kind == "SelfSubjectReview":
        return {**_answered(body), "status": {"userInfo": _user_info(user)}}
    if kind == "TokenReview":
        token = str(dig(body, "spec", "token", default=""))
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        wanted = dig(body, "spec", "audiences", default=[])
        found = token_user(token) if not wanted or ISSUER in wanted else None
        if found is None:
            return {**_answered(body), "status": {"user": {}, "error": "invalid bearer token"}}
        return {**_answered(body), "status": {"authenticated": True, "user": _user_info(found), "audiences": [ISSUER]}}
    if kind == "SelfSubjectRulesReview":
        rules = authorizer.rules(user, str(dig(body, "spec", "namespace", default="")))
        status = {
            "resourceRules": [rule for rule in rules if "resources" in rule],
            "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
            "incomplete": False,
        }
        return {**_answered(body), "spec": {}, "status": status}
    _check_attributes(body, kind)
    asked = user if kind == "SelfSubjectAccessReview" else _subject(body)
    wanted = _attributes(body)
    status = {"allowed": authorizer.allows(asked, wanted)}
    reason = authorizer.reason(asked, wanted) if status["allowed"] else authorizer.missing_roles(asked, wanted)
    if reason:
        status["reason"] = reason
    return {**_answered(body), "status": status}


def _check_attributes(body: Object, kind: str) -> None:
    """422 unless a question is about a resource or about a path, and about somebody."""
    spec = body.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = []
    if resource is not None and path is not None:
        shown = orjson.dumps({"Path": path.get("path", ""), "Verb": path.get("verb", "")}).decode()
        text = f"Invalid value: {shown}: cannot be specified in combination with resourceAttributes"
        causes.append(cause("FieldValueInvalid", text, "spec.nonResourceAttributes"))
    if resource is None and path is None:
        text = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(cause("FieldValueInvalid", text, "spec.resourceAttributes"))
    if kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        text = 'Invalid value: "": at least one of user or group must be specified'
        causes.append(cause("FieldValueInvalid", text, "spec.user"))
    if causes:
        texts = [f"{found['field']}: {found['message']}" for found in causes]
        text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        details = {"group": "authorization.k8s.io", "causes": causes}
        raise ApiError(422, "Invalid", f'.authorization.k8s.io "" is invalid: {text}', details)


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
