"""Tokens of ServiceAccounts: issued by their `token` subresource, and recognised while account and time hold.

They have the form and the claims of upstream's, but are signed with a secret (HS256) that only this server knows:
nobody else has to check them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson

from labsim.kube.errors import ApiError, cause, invalid, no_resource
from labsim.kube.server import ApiServer
from labsim.kube.users import User
from labsim.model.kinds import SERVICE_ACCOUNT, Kind
from labsim.model.objects import Object, timestamp

ISSUER = "https://kubernetes.default.svc"
DEFAULT_S, SHORTEST_S, LONGEST_S = 3600, 600, 1 << 32
_TOKEN_REQUEST = Kind("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", True)
_HEADER = {"alg": "HS256", "typ": "JWT"}


class AccountTokens:
    """Issues and recognises the tokens of one server. `key` is its secret; without one there are no tokens."""

    def __init__(self, server: ApiServer, key: bytes) -> None:
        self._server = server
        self._key = key
        self._issued = 0

    def issue(self, namespace: str, name: str, body: Object) -> Object:
        """Answer a TokenRequest. 404 for an account that is not there, 422 for a time that cannot be had."""
        if not self._key:
            raise no_resource()
        account = self._server.get(SERVICE_ACCOUNT, namespace, name)
        spec = dict(body.get("spec") or {})
        lasting_s = spec.setdefault("expirationSeconds", DEFAULT_S)
        spec.setdefault("boundObjectRef", None)
        if not spec.get("audiences"):
            spec["audiences"] = [ISSUER]
        _check_lasting(lasting_s)
        now_s = int(self._server.clock.now())
        self._issued += 1
        claims = {
            "aud": spec["audiences"],
            "exp": now_s + lasting_s,
            "iat": now_s,
            "iss": ISSUER,
            "jti": self._identifier(account),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
            },
            "nbf": now_s,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        metadata = {"name": name, "namespace": namespace, "uid": account["metadata"]["uid"]}
        metadata["creationTimestamp"] = timestamp(now_s)
        status = {"token": self._signed(claims), "expirationTimestamp": timestamp(now_s + lasting_s)}
        made = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata}
        return {**made, "spec": spec, "status": status}

    def user_of(self, token: str) -> User | None:
        """The account that a token stands for; None for a token of somebody else, of another time or account."""
        claims = self._claims(token) if self._key else None
        if (
            claims is None
            or not claims["nbf"] <= self._server.clock.now() < claims["exp"]
            or ISSUER not in claims["aud"]
        ):
            return None
        place = claims["kubernetes.io"]
        namespace, name = place["namespace"], place["serviceaccount"]["name"]
        try:
            account = self._server.get(SERVICE_ACCOUNT, namespace, name)
        except ApiError:
            return None
        uid = account["metadata"]["uid"]
        if uid != place["serviceaccount"]["uid"]:
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        extra = (("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",)),)
        return User(claims["sub"], uid, groups, extra)

    def _identifier(self, account: Object) -> str:
        raw = hashlib.sha256(f"{account['metadata']['uid']}/{self._issued}".encode()).hexdigest()
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:32]}"

    def _signed(self, claims: Object) -> str:
        text = b".".join((_encoded(orjson.dumps(_HEADER)), _encoded(orjson.dumps(claims))))
        return b".".join((text, _encoded(self._signature(text)))).decode()

    def _signature(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")

    def _claims(self, token: str) -> dict[str, Any] | None:
        text, _, signature = token.encode().rpartition(b".")
        try:
            if not hmac.compare_digest(_decoded(signature), self._signature(text)):
                return None
            claims: dict[str, Any] = orjson.loads(_decoded(text.partition(b".")[2]))
        except ValueError:
            return None
        return claims


def _check_lasting(lasting_s: Any) -> None:
    if not isinstance(lasting_s, int) or lasting_s < SHORTEST_S:
        text = "may not specify a duration less than 10 minutes"
    elif lasting_s > LONGEST_S:
        text = "may not specify a duration larger than 2^32 seconds"
    else:
        return
    problem = cause("FieldValueInvalid", f"Invalid value: {lasting_s}: {text}", "spec.expirationSeconds")
    raise invalid(_TOKEN_REQUEST, "", [problem])


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
