"""What the service asks of a pull secret (cim-resources section 2). The texts are upstream's, secret and all."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import orjson


class InvalidPullSecret(ValueError):
    """Why a pull secret cannot be used."""


def check_pull_secret(text: str, images: Sequence[str], unauthenticated: Sequence[str]) -> None:
    """Raises InvalidPullSecret unless `text` has credentials for the registries of `images`."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidPullSecret("pull secret must be a well-formed JSON") from error
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict) or not auths:
        raise InvalidPullSecret("pull secret must contain 'auths' JSON-object field")
    for registry, entry in auths.items():
        _check_entry(registry, entry)
    for image in images:
        registry = image.partition("/")[0]
        if registry not in unauthenticated and registry not in auths:
            raise InvalidPullSecret(f'pull secret must contain auth for "{registry}"')


def _check_entry(registry: str, entry: object) -> None:
    encoded = entry.get("auth") if isinstance(entry, dict) else None
    if not encoded:
        return
    try:
        decoded = base64.b64decode(str(encoded), validate=True).decode(errors="replace")
    except binascii.Error as error:
        raise InvalidPullSecret(f"invalid pull secret: 'auth' field of \"{registry}\" is not base64-encoded") from error
    if len(decoded.split(":")) < 2:
        raise InvalidPullSecret(f"invalid pull secret: 'auth' for {registry} is not in 'user:password' format")
