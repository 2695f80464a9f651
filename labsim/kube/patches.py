"""The patch types: JSON patch, merge patch, and strategic merge patch for built-in kinds.

Strategic merge keys are those that the built-in types carry as x-kubernetes-patch-merge-key.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from labsim.history import merged
from labsim.kube.errors import ApiError, bad_request

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# Field name to the key that its items are merged by; "" merges a list of plain values as a set.
MERGE_KEYS: dict[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "secrets": "name",
    "hostAliases": "ip",
    "conditions": "type",
    "addresses": "type",
    "ownerReferences": "uid",
    "finalizers": "",
    "topologySpreadConstraints": "topologyKey",
}


def merge_key_of(field: str, items: list[Any]) -> str | None:
    """The key that a list of a built-in kind is merged by; None for one that is replaced as a whole."""
    if field == "ports":
        return "containerPort" if any("containerPort" in item for item in items if isinstance(item, dict)) else "port"
    return MERGE_KEYS.get(field)


def patched(obj: Any, body: Any, patch_type: str, *, is_custom: bool) -> Any:
    """The object with a patch applied. Raises ApiError for a patch that does not fit."""
    if patch_type == JSON_PATCH:
        if not isinstance(body, list):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
            )
        try:
            return jsonpatch.apply_patch(obj, body)
        except jsonpatch.JsonPatchTestFailed as error:
            raise ApiError(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from error
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, KeyError, TypeError) as error:
            raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request") from error
    if not isinstance(body, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if patch_type == STRATEGIC_MERGE_PATCH:
        if is_custom:
            accepted = ", ".join((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
            raise ApiError(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - accepted media types include: {accepted}",
            )
        return strategically_merged(obj, body)
    if patch_type == MERGE_PATCH:
        return merged(obj, body)
    raise ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join((JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)),
    )


def strategically_merged(target: Any, patch: dict[str, Any]) -> Any:
    """A strategic merge: lists with a merge key are merged item by item, `$patch` directives are obeyed."""
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if not key.startswith("$")}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif key.startswith("$retainKeys"):
            result = {field: item for field, item in result.items() if field in value}
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategically_merged(result.get(key), value)
        elif isinstance(value, list):
            result[key] = _merged_list(key, result.get(key), value)
        else:
            result[key] = value
    return result


def _merged_list(field: str, target: Any, patch: list[Any]) -> list[Any]:
    merge_key = merge_key_of(field, patch)
    if merge_key is None or not isinstance(target, list):
        return [item for item in patch if not (isinstance(item, dict) and item.get("$patch") == "delete")]
    if merge_key == "":
        return [*target, *(item for item in patch if item not in target)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    result = list(target)
    for item in patch:
        value = item.get(merge_key)
        place = next((index for index, known in enumerate(result) if known.get(merge_key) == value), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(strategically_merged({}, item))
        else:
            result[place] = strategically_merged(result[place], item)
    return result
