"""Request bodies: JSON, YAML and protobuf, each to a JSON tree; and the patches that clients send."""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from labsim.kube import go_json
from labsim.kube.body_limits import MAX_DEPTH, check_operations, check_size, could_be_deep, is_too_deep, too_deep
from labsim.kube.errors import ApiError, bad_request, cause, invalid
from labsim.kube.protobuf import BadProtobuf, decode_body
from labsim.kube.yaml_reading import read_yaml
from labsim.model.http import Request
from labsim.model.kinds import Kind

JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (
    JSON_PATCH,
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY_PATCH,
)
_CUSTOM_PATCH_TYPES = tuple(name for name in PATCH_TYPES if "strategic" not in name)
JSON_TYPES = ("", "application/json")
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
_PROTOBUF = "application/vnd.kubernetes.protobuf"
_GO_TYPE_META = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
_SHOWN_BYTES = 30


def media_type(request: Request) -> str:
    """The body's media type without parameters, "" where none is given."""
    given = request.headers.get("content-type", "")
    return given if given in PATCH_TYPES else given.partition(";")[0].strip().lower()


def object_body(request: Request, kind: Kind | str, *, builtin: bool) -> dict[str, Any]:
    """The object that a request carries, of this kind. Protobuf is understood for built-in kinds only.

    A built-in kind fills in what the body does not say of itself; a custom resource must say it.
    """
    wanted = kind if isinstance(kind, str) else kind.kind
    found = media_type(request)
    check_size(request)
    if found in JSON_TYPES:
        document = _json_object(request.body, wanted, builtin)
    elif found in YAML_TYPES:
        document = _yaml_object(request.body, wanted)
    elif found == _PROTOBUF and builtin:
        try:
            document = decode_body(request.body)
            if is_too_deep(document):
                raise too_deep()
        except BadProtobuf as problem:
            raise _unrecognized(wanted, str(problem), request.body) from problem
    else:
        raise _unsupported(("application/json", "application/yaml", _PROTOBUF))
    if isinstance(kind, Kind):
        _identify(document, kind, request.body, builtin)
    return document


def _json_object(body: bytes, wanted: str, builtin: bool) -> dict[str, Any]:
    try:
        document = go_json.loads(body)
    except ValueError as problem:
        text = go_json.syntax_problem(body) or str(problem)
        raise _unrecognized(wanted, f"couldn't get version/kind; json parse error: {text}", body) from problem
    if could_be_deep(body) and is_too_deep(document):
        raise too_deep(f"{wanted}: ")
    if document is None and builtin:
        return {}
    if document is None:
        raise _unrecognized(wanted, "Object 'Kind' is missing in 'null'", body)
    if not isinstance(document, dict):
        text = f"json: cannot unmarshal {go_json.kind_of(document)} into Go value of type {_GO_TYPE_META}"
        raise _unrecognized(wanted, f"couldn't get version/kind; json parse error: {text}", body)
    return document


def _yaml_object(body: bytes, wanted: str) -> dict[str, Any]:
    try:
        document = _yaml(body)
    except yaml.YAMLError as problem:
        raise _unrecognized(wanted, _go_yaml_problem(problem), body) from problem
    if document is None:
        document = {}
    if not isinstance(document, dict):
        text = f"json: cannot unmarshal {go_json.kind_of(document)} into Go value of type {_GO_TYPE_META}"
        raise _unrecognized(wanted, f"couldn't get version/kind; json parse error: {text}", body)
    return document


def _identify(document: dict[str, Any], kind: Kind, body: bytes, builtin: bool) -> None:
    """Check what an object says that it is."""
    version, found = document.get("apiVersion"), document.get("kind")
    if version == kind.api_version and found == kind.kind:
        return
    if builtin:
        version, found = version or kind.api_version, found or kind.kind
        if (version, found) != (kind.api_version, kind.kind):
            text = f'no kind "{found}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
            shown = str(version).rpartition("/")[2]
            raise bad_request(f'{found} in version "{shown}" cannot be handled as a {kind.kind}: {text}')
        document.update(apiVersion=version, kind=found)
        return
    if not found:
        shown = body.decode(errors="replace")
        raise _unrecognized(kind.kind, f"Object 'Kind' is missing in '{shown}'", body)
    if version != kind.api_version:
        raise bad_request(
            f"the API version in the data ({version or ''}) does not match the expected API version "
            f"({kind.api_version})"
        )
    metadata = document.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    problem = cause("FieldValueInvalid", f'Invalid value: "{found}": must be {kind.kind}', "kind")
    raise invalid(kind, name, [problem], what=str(found))


def _unrecognized(wanted: str, problem: str, body: bytes) -> ApiError:
    return bad_request(f"the object provided is unrecognized (must be of type {wanted}): {problem} ({_summary(body)})")


def _summary(body: bytes) -> str:
    """The beginning of a body: as text where it looks like JSON, else in hexadecimal digits."""
    if not body:
        return "<empty>"
    more = " ..." if len(body) > _SHOWN_BYTES else ""
    start = body[:_SHOWN_BYTES]
    return (start.decode(errors="replace") if body.startswith(b"{") else start.hex()) + more


def _go_yaml_problem(problem: yaml.YAMLError) -> str:
    text = str(getattr(problem, "problem", None) or getattr(problem, "reason", None) or problem)
    mark = getattr(problem, "context_mark", None) or getattr(problem, "problem_mark", None)
    line = getattr(mark, "line", 0)
    if line and isinstance(problem, yaml.scanner.ScannerError):
        line += 1
    return f"yaml: line {line}: {text}" if line else f"yaml: {text}"


# -- patches -----------------------------------------------------------------------------------------------------------


def patch_body(request: Request, *, builtin: bool) -> tuple[str, Any]:
    """(patch type, decoded patch) of a PATCH."""
    kind = media_type(request)
    check_size(request)
    allowed = PATCH_TYPES if builtin else _CUSTOM_PATCH_TYPES
    if kind not in allowed:
        # Built-in kinds are refused by the router, before anybody looks at patches.
        raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type") if builtin else _unsupported(allowed)
    if kind == APPLY_PATCH:
        return kind, _apply_document(request.body)
    return kind, _patch_document(kind, request.body)


def _apply_document(body: bytes) -> Any:
    try:
        document = _yaml(body)
    except yaml.YAMLError as problem:
        text = f"error converting YAML to JSON: {_go_yaml_problem(problem)}"
        raise bad_request(f"error decoding YAML: {text}") from problem
    if document is not None and not isinstance(document, dict):
        text = f"cannot unmarshal {go_json.kind_of(document)} into Go value of type map[string]interface {{}}"
        raise bad_request(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: json: {text}")
    return document or {}


def _patch_document(kind: str, body: bytes) -> Any:
    told = "" if "strategic" in kind else "error decoding patch: "
    try:
        document = go_json.loads(body)
    except ValueError as problem:
        text = go_json.syntax_problem(body) or str(problem)
        raise bad_request(f"{told}{text}") from problem
    if could_be_deep(body) and is_too_deep(document):
        raise too_deep(told)
    if document is None:
        if kind == JSON_PATCH:
            raise bad_request("Invalid JSON Patch")
        return {}
    wanted, go_type = (list, "[]handlers.jsonPatchOp") if kind == JSON_PATCH else (dict, "map[string]interface {}")
    if not isinstance(document, wanted):
        found = go_json.kind_of(document)
        raise bad_request(f"{told}json: cannot unmarshal {found} into Go value of type {go_type}")
    if isinstance(document, list):
        check_operations(document)
    return document


def _yaml(body: bytes) -> Any:
    try:  # clients send JSON under the name of YAML, and JSON is read a hundred times faster
        document = orjson.loads(body)
    except ValueError:
        return read_yaml(body)
    if could_be_deep(body) and is_too_deep(document):
        raise yaml.MarkedYAMLError(problem=f"exceeded max depth of {MAX_DEPTH}")
    return document


def _unsupported(accepted: tuple[str, ...]) -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
    )
