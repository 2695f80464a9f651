"""Which object a write is about: what it says of kind, version, name and deletion must be those of the object."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from labsim.kube import errors
from labsim.kube.errors import ApiError, bad_request, cause
from labsim.kube.go_json import kind_of
from labsim.kube.registry import ServedKind
from labsim.model.kinds import Kind
from labsim.model.objects import Object, thaw


def identify(kind: Kind, new: Object) -> None:
    """Fill in apiVersion and kind, and refuse others."""
    found = new.setdefault("apiVersion", kind.api_version)
    if found != kind.api_version:
        raise bad_request(
            f"the API version in the data ({found}) does not match the expected API version ({kind.api_version})"
        )
    if new.setdefault("kind", kind.kind) != kind.kind:
        raise bad_request(f"the kind in the data ({new['kind']}) does not match the expected kind ({kind.kind})")
    if new.get("metadata") is None:
        new["metadata"] = {}


def check_identity(served: ServedKind, before: Object, given: Object, *, is_patch: bool) -> None:
    """Name, namespace, uid and resourceVersion, as far as the writer gives them, must be those of the object."""
    kind, name = served.kind, before["name"]
    if given.get("name") not in (None, "", name):
        text = f"the name of the object ({given['name']}) does not match the name on the URL ({name})"
        raise bad_request(text)
    if kind.namespaced and given.get("namespace") not in (None, "", before["namespace"]):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if given.get("resourceVersion") not in (None, "", before["resourceVersion"]):
        raise errors.conflict(kind, name)
    uid = given.get("uid")
    if uid in (None, "", before["uid"]):
        return
    if is_patch:
        problem = cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")
        raise errors.invalid(kind, name, [problem, problem])
    key = served.traits.storage_key(kind, before.get("namespace", ""), name)
    text = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
    text += f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
    raise errors.conflict(kind, name, text)


def other_kind(served: ServedKind, new: Object, name: str) -> ApiError:
    """The refusal of a patch that makes an object another kind."""
    kind, found, version = served.kind, new.get("kind"), new.get("apiVersion")
    if not found and served.is_custom:
        text = sorted_text(new)
        return errors.invalid_patch(text, f"Object 'Kind' is missing in '{text}'")
    if not served.is_custom:
        version = version or kind.api_version
        text = f'no kind "{found}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
        return errors.invalid_patch(sorted_text(new), text)
    group = str(version or "").rpartition("/")[0]
    causes = []
    if found != kind.kind:
        causes.append(cause("FieldValueInvalid", f'Invalid value: "{found}": must be {kind.kind}', "kind"))
    if version != kind.api_version:
        text = f'Invalid value: "{version or ""}": must be {kind.api_version}'
        causes.append(cause("FieldValueInvalid", text, "apiVersion"))
    return errors.invalid(dataclasses.replace(kind, group=group), name, causes, what=str(found))


def check_deletion(kind: Kind, before: Object, given: Object) -> None:
    """A client cannot say that an object is being deleted; upstream tells it twice."""
    causes = []
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        # A time once set is kept whatever is said; how long it was to take is not.
        kept = field in before and (field == "deletionTimestamp" or given.get(field) == before[field])
        if given.get(field) is not None and not kept:
            shown = orjson.dumps(given[field]).decode()
            causes.append(
                cause("FieldValueInvalid", f"Invalid value: {shown}: field is immutable", f"metadata.{field}")
            )
    if causes:
        raise errors.invalid(kind, before["name"], causes * 2)


def sorted_text(obj: Object) -> str:
    """An object as refusals show it: JSON with its keys in order."""
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS).decode()


def checked_apply(kind: Kind, namespace: str, name: str, body: Any) -> Object:
    """A copy of an applied configuration that fits its URL."""
    if not isinstance(body, dict):
        raise bad_request("an applied configuration must be an object")
    if not body.get("apiVersion") or not body.get("kind"):
        raise bad_request("invalid object type: /, Kind=")
    if (body["apiVersion"], body["kind"]) != (kind.api_version, kind.kind):
        version = body["apiVersion"] if "/" in str(body["apiVersion"]) else f"/{body['apiVersion']}"
        raise bad_request(f"invalid object type: {version}, Kind={body['kind']}")
    config = thaw(body)
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, dict):
        found = kind_of(metadata)
        raise bad_request(f"error decoding YAML: json: cannot unmarshal {found} into Go value of type v1.ObjectMeta")
    if metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    if not metadata.get("name"):
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if metadata["name"] != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    if kind.namespaced:
        if metadata.get("namespace") not in (None, "", namespace):
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    config["metadata"] = metadata
    return config
