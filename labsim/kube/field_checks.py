"""fieldValidation: whether fields that a kind does not know are refused, warned about, or ignored."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson

from labsim.kube.errors import invalid_options
from labsim.model.http import Request, Response

STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"


@dataclasses.dataclass(slots=True)
class FieldChecks:
    """What a write asks for, and the warnings that came of it."""

    strictness: str
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords for a write of ApiServer."""
        return {"field_validation": self.strictness, "warnings": self.warnings}

    def on(self, response: Response) -> Response:
        """The response with its warnings."""
        if not self.warnings:
            return response
        told = [f"299 - {orjson.dumps(text).decode()}" for text in self.warnings]
        earlier = response.headers.get("warning")
        # One header a warning: whoever sends the response makes a line of each.
        headers = {**response.headers, "warning": "\n".join([*([earlier] if earlier else []), *told])}
        return dataclasses.replace(response, headers=headers)


def field_checks(request: Request, options: str) -> FieldChecks:
    """The checks that a request asks for (Warn where it says nothing); 422 for another word."""
    wanted = request.param("fieldValidation") if request.query else ""
    if wanted not in ("", STRICT, WARN, IGNORE):
        text = f'Unsupported value: "{wanted}": supported values: "", "Ignore", "Strict", "Warn"'
        raise invalid_options(options, "fieldValidation", "FieldValueNotSupported", text)
    return FieldChecks(wanted or WARN)


def note_duplicates(body: bytes, document: Any, checks: FieldChecks) -> None:
    """Note every field that a JSON body says twice; a strict write is refused for them later.

    Only a slow reader sees them, so it is asked only where the body is longer than what was read from it.
    """
    if checks.strictness == IGNORE or not body.lstrip().startswith(b"{"):
        return
    if len(body.translate(None, _SPACE)) == len(orjson.dumps(document).translate(None, _SPACE)):
        return
    found: dict[str, None] = {}
    _find_duplicates(json.loads(body.decode("utf-8", "replace"), object_pairs_hook=_Pairs), "", found)
    checks.warnings.extend(f'duplicate field "{path}"' for path in found)


_SPACE = b" \t\r\n"


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the text."""


def _find_duplicates(value: Any, path: str, found: dict[str, None]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found[here] = None
            seen.add(key)
            _find_duplicates(item, here, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_duplicates(item, f"{path}[{index}]", found)
