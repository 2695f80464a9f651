"""fieldValidation: whether fields that a kind does not know are refused, warned about, or ignored."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson

from labsim.kube.errors import bad_request, invalid_options
from labsim.model.http import Request, Response
from labsim.model.kinds import Kind

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
        headers = {**response.headers, "warning": ", ".join([*([earlier] if earlier else []), *told])}
        return dataclasses.replace(response, headers=headers)


def field_checks(request: Request, options: str) -> FieldChecks:
    """The checks that a request asks for (Warn where it says nothing); 422 for another word."""
    wanted = request.param("fieldValidation") if request.query else ""
    if wanted not in ("", STRICT, WARN, IGNORE):
        text = f'Unsupported value: "{wanted}": supported values: "", "Ignore", "Strict", "Warn"'
        raise invalid_options(options, "fieldValidation", "FieldValueNotSupported", text)
    return FieldChecks(wanted or WARN)


def refuse_duplicates(request: Request, kind: Kind) -> None:
    """400 for a JSON body that says a field twice: only a strict client asks, since it takes a slow reader to see."""
    if not request.body.lstrip().startswith(b"{"):
        return
    found: list[str] = []
    _find_duplicates(json.loads(request.body, object_pairs_hook=_Pairs), "", found)
    if found:
        listed = ", ".join(f'duplicate field "{path}"' for path in found)
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {listed}"
        )


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the text."""


def _find_duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found.append(here)
            seen.add(key)
            _find_duplicates(item, here, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_duplicates(item, f"{path}[{index}]", found)
