"""CustomResourceDefinitions: defaults, checks, and the conditions that say whether their kind is served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from labsim.kube.definition_schemas import schema_problems
from labsim.kube.definition_types import check_types
from labsim.kube.errors import cause
from labsim.kube.label_syntax import dns_1035_problems, subdomain_problems
from labsim.kube.users import User
from labsim.model.objects import Object, dig

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_SIMPLE_PATH = re.compile(r"\.[A-Za-z_][-\w]*(\.[A-Za-z_][-\w]*)*")
_PROTECTED = (".k8s.io", ".kubernetes.io")
_APPROVAL = "api-approved.kubernetes.io"
_MIXED_CASE = "may have mixed case, but should otherwise match: "

Cause = dict[str, str]


def _invalid(value: Any, text: str, path: str) -> Cause:
    return cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(value).decode()}: {text}", path)


def complete_definition(obj: Object, old: Object | None, _user: User) -> None:
    """Names, conversion and stored versions."""
    check_types(obj)
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = str(names.get("kind", ""))
    if kind:
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {}).setdefault("strategy", "None")
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]
    storage = [entry.get("name") for entry in spec.get("versions") or () if entry.get("storage")]
    if old is None:
        empty = {"kind": "", "plural": ""}
        obj["status"] = {"conditions": None, "acceptedNames": empty, "storedVersions": storage[:1]}
    elif storage:
        stored = obj.setdefault("status", {}).setdefault("storedVersions", [])
        if storage[0] not in stored:
            obj["status"]["storedVersions"] = [*stored, storage[0]]


def definition_problems(obj: Object, old: Object | None) -> list[Cause]:
    """Everything that is wrong with a definition."""
    if old is not None and obj["spec"] == old["spec"]:
        return []
    return list(_problems(obj, old))


def _problems(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec, names = obj["spec"], obj["spec"]["names"]
    group, plural = str(spec.get("group", "")), str(names.get("plural", ""))
    if old is None:
        wanted = f"{plural}.{group}"
        if obj["metadata"]["name"] != wanted:
            text = 'must be spec.names.plural+"."+spec.group'
            yield _invalid(obj["metadata"]["name"], text, "metadata.name")
    yield from _name_problems(group, names)
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        text = f'Unsupported value: "{spec.get("scope", "")}": supported values: "Cluster", "Namespaced"'
        yield cause("FieldValueNotSupported", text, "spec.scope")
    approval = dig(obj, "metadata", "annotations", _APPROVAL)
    if old is None and group.endswith(_PROTECTED) and not approval:
        text = f'Required value: protected groups must have approval annotation "{_APPROVAL}", see '
        text += "https://github.com/kubernetes/enhancements/pull/1111"
        yield cause("FieldValueRequired", text, f"metadata.annotations[{_APPROVAL}]")
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield _invalid(True, text, "spec.preserveUnknownFields")
    yield from _conversion_problems(spec["conversion"])
    yield from _version_problems(obj)
    if old is not None:
        yield from _change_problems(spec, old["spec"])


def _name_problems(group: str, names: Object) -> Iterator[Cause]:
    for text in subdomain_problems(group):
        yield _invalid(group, text, "spec.group")
    if not list(subdomain_problems(group)) and "." not in group:
        yield _invalid(group, "should be a domain with at least one dot", "spec.group")
    for index, name in enumerate(names.get("categories") or ()):
        for text in dns_1035_problems(name):
            yield _invalid(name, text, f"spec.names.categories[{index}]")
    for field in ("plural", "singular", "kind", "listKind"):
        if not names.get(field):
            yield cause("FieldValueRequired", "Required value", f"spec.names.{field}")
    names = {"plural": "a", "singular": "a", "kind": "A", "listKind": "A"} | {k: v for k, v in names.items() if v}
    for field in ("plural", "singular"):
        for text in dns_1035_problems(str(names.get(field, ""))):
            yield _invalid(names.get(field, ""), text, f"spec.names.{field}")
    for field in ("kind", "listKind"):
        for text in dns_1035_problems(str(names.get(field, "")).lower()):
            yield _invalid(names.get(field, ""), _MIXED_CASE + text, f"spec.names.{field}")
    for index, name in enumerate(names.get("shortNames") or ()):
        for text in dns_1035_problems(name):
            yield _invalid(name, text, f"spec.names.shortNames[{index}]")


def _conversion_problems(conversion: Object) -> Iterator[Cause]:
    strategy = conversion.get("strategy")
    if strategy not in ("None", "Webhook"):
        text = f'Unsupported value: {orjson.dumps(strategy).decode()}: supported values: "None", "Webhook"'
        yield cause("FieldValueNotSupported", text, "spec.conversion.strategy")
    if strategy != "Webhook":
        if dig(conversion, "webhook", "conversionReviewVersions"):
            text = "Forbidden: should not be set when strategy is not set to Webhook"
            yield cause("FieldValueForbidden", text, "spec.conversion.conversionReviewVersions")
        return
    if not dig(conversion, "webhook", "clientConfig"):
        text = "Required value: required when strategy is set to Webhook"
        yield cause("FieldValueRequired", text, "spec.conversion.webhookClientConfig")
    if not dig(conversion, "webhook", "conversionReviewVersions"):
        yield cause("FieldValueRequired", "Required value", "spec.conversion.conversionReviewVersions")


def _version_problems(obj: Object) -> Iterator[Cause]:
    versions = obj["spec"].get("versions") or []
    storage = [entry["name"] for entry in versions if entry.get("storage")]
    stored = dig(obj, "status", "storedVersions", default=[])
    if len({entry["name"] for entry in versions}) != len(versions):
        shown = [_go_version(entry) for entry in versions]
        yield _invalid(shown, "must contain unique version names", "spec.versions")
    if len(storage) != 1:
        shown = [_go_version(entry) for entry in versions]
        yield _invalid(shown, "must have exactly one version marked as storage version", "spec.versions")
    if not stored:
        yield _invalid(None, "must have at least one stored version", "status.storedVersions")
    elif storage and storage[-1] not in stored:
        yield _invalid(stored, f"must have the storage version {storage[-1]}", "status.storedVersions")
    names = [entry["name"] for entry in versions]
    for index, name in enumerate(stored):
        if name not in names:
            text = f"missing from spec.versions; {name} was previously a storage version, and must remain in "
            text += "spec.versions until a storage migration ensures no data remains persisted in "
            text += f"{name} and removes {name} from status.storedVersions"
            yield _invalid(name, text, f"status.storedVersions[{index}]")
    for index, entry in enumerate(versions):
        yield from _one_version(versions, index, entry)


def _one_version(versions: list[Object], index: int, entry: Object) -> Iterator[Cause]:
    here = f"spec.versions[{index}]"

    def path(field: str, hoisted: str) -> str:
        """What is the same in all versions is spoken of at the top."""
        shared = all(version.get(field) == entry.get(field) for version in versions)
        return hoisted if shared else f"{here}.{field}"

    for text in dns_1035_problems(str(entry.get("name", ""))):
        if index == 0:
            yield _invalid(entry.get("name", ""), text, "spec.version")
        yield _invalid(entry.get("name", ""), text, f"{here}.name")
    warning = entry.get("deprecationWarning")
    if warning is not None and not entry.get("deprecated"):
        yield _invalid(warning, "can only be set for deprecated versions", f"{here}.deprecationWarning")
    elif warning is not None and len(warning.encode()) > 256:
        yield _invalid(warning, "must be <= 256 bytes", f"{here}.deprecationWarning")
    fields = path("selectableFields", "spec.selectableFields")
    if index == 0 or not fields.startswith("spec.selectableFields"):
        yield from _selectable_problems(entry, fields)
    schema = dig(entry, "schema", "openAPIV3Schema")
    shared = all(version.get("schema") == entry.get("schema") for version in versions)
    if schema is None:
        yield cause("FieldValueRequired", "Required value", f"{here}.schema.openAPIV3Schema")
    elif index == 0 or not shared:
        root = "spec.validation" if shared else f"{here}.schema"
        yield from schema_problems(schema, f"{root}.openAPIV3Schema")
    scale = dig(entry, "subresources", "scale")
    if scale is not None and (index == 0 or not path("subresources", "").startswith("spec.subresources")):
        yield from _scale_problems(scale, path("subresources", "spec.subresources") + ".scale")
    columns = path("additionalPrinterColumns", "spec.additionalPrinterColumns")
    for at, column in enumerate(entry.get("additionalPrinterColumns") or ()):
        if not column.get("name"):
            yield cause("FieldValueRequired", "Required value", f"{columns}[{at}].name")
        shown = column.get("format")
        if shown and shown not in _COLUMN_FORMATS:
            yield _invalid(shown, f"must be one of {','.join(_COLUMN_FORMATS)}", f"{columns}[{at}].format")
        if not column.get("jsonPath"):
            yield cause("FieldValueRequired", "Required value", f"{columns}[{at}].JSONPath")
        elif not str(column["jsonPath"]).startswith("."):
            yield _invalid(
                column.get("jsonPath", ""), "must be a simple json path starting with .", f"{columns}[{at}].JSONPath"
            )
        if column.get("type") not in _COLUMN_TYPES:
            text = f"must be one of {','.join(_COLUMN_TYPES)}"
            yield _invalid(column.get("type", ""), text, f"{columns}[{at}].type")


def _selectable_problems(entry: Object, here: str) -> Iterator[Cause]:
    """Selectable fields must be single values that the schema declares, each named once."""
    seen: set[str] = set()
    for at, field in enumerate(entry.get("selectableFields") or ()):
        path, place = str(field.get("jsonPath", "")), f"{here}[{at}].jsonPath"
        if not path.startswith("."):
            first = path.partition(".")[0]
            yield _invalid(path, f"is an invalid path: expected [ or . but got: {first}", place)
            continue
        node: Any = dig(entry, "schema", "openAPIV3Schema", default={})
        for key in path[1:].split("."):
            node = (node.get("properties") or {}).get(key) if isinstance(node, dict) else None
        if node is None:
            yield _invalid(path, "is an invalid path: does not refer to a valid field", place)
        elif node.get("type") not in ("string", "boolean", "integer"):
            text = "must point to a field of type string, boolean or integer. Enum string fields and strings with "
            yield _invalid(path, f"{text}formats are allowed.", place)
        elif path in seen:
            yield cause("FieldValueDuplicate", f"Duplicate value: {orjson.dumps(path).decode()}", place)
        seen.add(path)


def _scale_problems(scale: Object, here: str) -> Iterator[Cause]:
    for field, root in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        value = str(scale.get(field, ""))
        if not value:
            yield cause("FieldValueRequired", "Required value", f"{here}.{field}")
        elif not _SIMPLE_PATH.fullmatch(value):
            yield _invalid(value, "must be a simple json path starting with .", f"{here}.{field}")
        elif not value.startswith(f"{root}."):
            yield _invalid(value, f"should be a json path under {root}", f"{here}.{field}")
    selector = str(scale.get("labelSelectorPath") or "")
    if selector and not selector.startswith((".spec.", ".status.")):
        yield _invalid(selector, "should be a json path under either .spec or .status", f"{here}.labelSelectorPath")


def _change_problems(spec: Object, before: Object) -> Iterator[Cause]:
    for field in ("scope", "group"):
        if spec.get(field) != before.get(field):
            yield _invalid(spec.get(field), "field is immutable", f"spec.{field}")
    for field in ("plural", "kind"):
        if spec["names"].get(field) != before["names"].get(field):
            yield _invalid(spec["names"].get(field), "field is immutable", f"spec.names.{field}")


def _go_version(entry: Object) -> Object:
    """A version as Go prints the internal type."""
    return {
        "Name": entry.get("name", ""),
        "Served": bool(entry.get("served")),
        "Storage": bool(entry.get("storage")),
        "Deprecated": bool(entry.get("deprecated")),
        "DeprecationWarning": entry.get("deprecationWarning"),
        "Schema": None,
        "Subresources": None,
        "AdditionalPrinterColumns": None,
        "SelectableFields": None,
    }


# -- what becomes of it ----------------------------------------------------------------------------------------------


def is_established(definition: Object) -> bool:
    return any(
        entry.get("type") == "Established" and entry.get("status") == "True"
        for entry in dig(definition, "status", "conditions", default=())
    )


def name_conflict(definition: Object, others: Iterable[Object]) -> tuple[str, str] | None:
    """(reason, message) where another definition of the group has one of the names already."""
    spec = definition["spec"]
    taken: set[str] = set()
    taken_kinds: set[str] = set()
    for other in others:
        if other["spec"]["group"] == spec["group"] and other["metadata"]["name"] != definition["metadata"]["name"]:
            names = dig(other, "status", "acceptedNames", default={})
            taken |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            taken_kinds |= {names.get("kind", ""), names.get("listKind", "")}
    names = spec["names"]
    found: tuple[str, str] | None = None
    checks = [("PluralConflict", names["plural"], taken), ("SingularConflict", names["singular"], taken)]
    checks += [("ShortNamesConflict", name, taken) for name in names.get("shortNames") or ()]
    checks += [("KindConflict", names["kind"], taken_kinds), ("ListKindConflict", names["listKind"], taken_kinds)]
    for reason, name, known in checks:
        if name and name in known:
            found = (reason, f'"{name}" is already in use')
    return found


def accepted_status(definition: Object, conflict: tuple[str, str] | None, now: str) -> Object:
    """The status once the names have been looked at."""

    def condition(kind: str, good: bool, reason: str, message: str) -> Object:
        status = "True" if good else "False"
        return {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}

    stored = definition["status"]["storedVersions"]
    if conflict is not None:
        refused = [
            condition("NamesAccepted", False, *conflict),
            condition("Established", False, "NotAccepted", "not all names are accepted"),
        ]
        names = dict(definition["spec"]["names"])
        if conflict[0] == "ListKindConflict":
            names.pop("listKind", None)
        return {"acceptedNames": names, "conditions": refused, "storedVersions": stored}
    accepted = [
        condition("NamesAccepted", True, "NoConflicts", "no conflicts found"),
        condition("Established", True, "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {"acceptedNames": dict(definition["spec"]["names"]), "conditions": accepted, "storedVersions": stored}


def terminating_condition(now: str) -> Object:
    return {
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    }
