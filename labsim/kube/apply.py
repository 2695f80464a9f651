"""Server-side apply: who owns which field, conflicts, and what an applier no longer wants.

A field set is a tree in the FieldsV1 form: `{"f:spec": {"f:replicas": {}}}`; items of lists that are merged by a key are
`k:{"name":"a"}`, values of sets `v:"a"`, and `.` stands for the item itself. Lists without a type are atomic: one leaf.
"""

from __future__ import annotations

from typing import Any

import orjson

from labsim.kube.errors import ApiError
from labsim.kube.patches import merge_key_of
from labsim.model.objects import Object

Fields = dict[str, Any]
Path = tuple[str, ...]
_SERVER_OWNED = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "managedFields",
        "name",
        "namespace",
    }
    | {"deletionGracePeriodSeconds", "selfLink", "generateName"}
)


def _list_keys(schema: dict[str, Any] | None, field: str, items: list[Any]) -> tuple[str, ...] | None:
    """The keys that a list's items are told apart by; () for a set of plain values; None for an atomic list."""
    if schema is not None and field not in ("ownerReferences", "finalizers"):
        kind = schema.get("x-kubernetes-list-type")
        if kind == "map":
            return tuple(schema.get("x-kubernetes-list-map-keys", ()))
        return () if kind == "set" else None
    key = merge_key_of(field, items)
    return None if key is None else (key,) if key else ()


def _item_key(item: Any, keys: tuple[str, ...]) -> str:
    if not keys:
        return "v:" + orjson.dumps(item).decode()
    return "k:" + orjson.dumps({key: item.get(key) for key in sorted(keys)}).decode()


def _child(schema: dict[str, Any] | None, key: str) -> dict[str, Any] | None:
    if schema is None:
        return None
    found: dict[str, Any] = schema.get("properties", {}).get(key) or {}
    if not found and isinstance(schema.get("additionalProperties"), dict):
        found = schema["additionalProperties"]
    return found


def _is_atomic_map(schema: dict[str, Any] | None) -> bool:
    return schema is not None and schema.get("x-kubernetes-map-type") == "atomic"


def field_set(value: Any, schema: dict[str, Any] | None, field: str = "") -> Fields:
    """The fields that a value sets."""
    if isinstance(value, dict) and value and not _is_atomic_map(schema):
        return {f"f:{key}": field_set(item, _child(schema, key), key) for key, item in value.items()}
    if isinstance(value, list) and value:
        keys = _list_keys(schema, field, value)
        if keys is not None:
            items = schema.get("items") if schema is not None else None
            result: Fields = {}
            for item in value:
                inside = field_set(item, items, "") if keys else {}
                result[_item_key(item, keys)] = {".": {}, **inside} if keys else {}
            return result
    return {}


def leaves(fields: Fields, path: Path = ()) -> dict[Path, None]:
    """The leaf paths of a field set, in order."""
    found: dict[Path, None] = {}
    for key, inside in fields.items():
        if inside:
            found.update(leaves(inside, (*path, key)))
        else:
            found[(*path, key)] = None
    return found


def _tree(paths: dict[Path, None]) -> Fields:
    root: Fields = {}
    for path in paths:
        node = root
        for key in path:
            node = node.setdefault(key, {})
    return root


def _at(value: Any, path: Path) -> Any:
    """The value at a field path; _MISSING where there is none."""
    for key in path:
        if key == ".":
            return "present"
        if key.startswith("f:"):
            if not isinstance(value, dict) or key[2:] not in value:
                return _MISSING
            value = value[key[2:]]
            continue
        if not isinstance(value, list):
            return _MISSING
        wanted = orjson.loads(key[2:])
        for item in value:
            if item == wanted if key.startswith("v:") else all(item.get(k) == v for k, v in wanted.items()):
                value = item
                break
        else:
            return _MISSING
    return value


_MISSING = object()


def _remove(value: Any, path: Path) -> None:
    key, rest = path[0], path[1:]
    if key.startswith("f:"):
        if not isinstance(value, dict) or key[2:] not in value:
            return
        if not rest:
            del value[key[2:]]
            return
        _remove(value[key[2:]], rest)
        if value[key[2:]] in ({}, []):
            del value[key[2:]]
        return
    if not isinstance(value, list) or key == ".":
        return
    wanted = orjson.loads(key[2:])
    for index, item in enumerate(value):
        if item == wanted if key.startswith("v:") else all(item.get(k) == v for k, v in wanted.items()):
            if not rest or rest == (".",):
                del value[index]
            else:
                _remove(item, rest)
            return


def _merge(live: Any, applied: Any, schema: dict[str, Any] | None, field: str = "") -> Any:
    if isinstance(applied, dict) and isinstance(live, dict) and not _is_atomic_map(schema):
        result = dict(live)
        for key, value in applied.items():
            result[key] = _merge(live.get(key), value, _child(schema, key), key)
        return result
    if isinstance(applied, list) and isinstance(live, list):
        keys = _list_keys(schema, field, applied)
        if keys is not None:
            items = schema.get("items") if schema is not None else None
            merged_items = list(live)
            places = {_item_key(item, keys): index for index, item in enumerate(live)}
            for item in applied:
                place = places.get(_item_key(item, keys))
                if place is None:
                    merged_items.append(item)
                elif keys:
                    merged_items[place] = _merge(live[place], item, items)
            return merged_items
    return applied


def _shown(path: Path) -> str:
    text = ""
    for key in path:
        if key.startswith("f:"):
            text += f".{key[2:]}"
        elif key.startswith("k:"):
            inside = ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in orjson.loads(key[2:]).items())
            text += f"[{inside}]"
        elif key.startswith("v:"):
            text += f"[={key[2:]}]"
    return text


def _relevant(obj: Object) -> Object:
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _SERVER_OWNED}
    return {
        **{key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")},
        **({"metadata": metadata} if metadata else {}),
    }


def _entry(manager: str, operation: str, api_version: str, fields: Fields, now: str, subresource: str) -> Object:
    entry: Object = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": now}
    entry.update(fieldsType="FieldsV1", fieldsV1=fields)
    if subresource:
        entry["subresource"] = subresource
    return entry


def _same(entry: Object, manager: str, operation: str, subresource: str) -> bool:
    return (
        entry.get("manager") == manager
        and entry.get("operation") == operation
        and entry.get("subresource", "") == subresource
    )


def applied(
    live: Object | None,
    body: Object,
    *,
    schema: dict[str, Any] | None,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
) -> Object:
    """The object after an apply, with its managedFields. Raises ApiError 409 with every conflict unless forced."""
    wanted = leaves(field_set(_relevant(body), schema))
    entries: list[Object] = [] if live is None else list(live["metadata"].get("managedFields") or [])
    own = next((entry for entry in entries if _same(entry, manager, "Apply", subresource)), None)
    before = {} if own is None else leaves(own["fieldsV1"])
    others = [entry for entry in entries if entry is not own]
    if live is not None:
        _check_conflicts(live, body, wanted, others, force)
        if force:
            others = _without(others, {path: None for path in wanted if _at(live, path) != _at(body, path)})
    result: Object = body if live is None else _merge(live, body, schema)
    if live is not None:
        result = orjson.loads(orjson.dumps(result))
        kept = {path for entry in others for path in leaves(entry["fieldsV1"])}
        for path in before:
            if path not in wanted and path not in kept:
                _remove(result, path)
    fields = _tree(wanted)
    if own is not None and own["fieldsV1"] == fields and live is not None:
        entry = own
    else:
        entry = _entry(manager, "Apply", body["apiVersion"], fields, now, subresource)
    result.setdefault("metadata", {})["managedFields"] = _sorted([*others, entry])
    return result


def _check_conflicts(live: Object, body: Object, wanted: dict[Path, None], others: list[Object], force: bool) -> None:
    conflicts: list[tuple[str, str]] = []
    for entry in others:
        for path in leaves(entry["fieldsV1"]):
            if path in wanted and path[-1] != "." and _at(live, path) != _at(body, path):
                named = str(entry["manager"])
                if entry["operation"] == "Update":
                    named = f'{named}" using "{entry["apiVersion"]}'
                conflicts.append((named, _shown(path)))
    if not conflicts or force:
        return
    by_manager: dict[str, list[str]] = {}
    for named, path in conflicts:
        by_manager.setdefault(named, []).append(path)
    if len(conflicts) == 1:
        text = f'Apply failed with 1 conflict: conflict with "{conflicts[0][0]}": {conflicts[0][1]}'
    else:
        parts = [
            f'conflicts with "{named}":\n' + "\n".join(f"- {path}" for path in paths)
            for named, paths in by_manager.items()
        ]
        text = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(parts)
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{named}"', "field": path}
        for named, path in conflicts
    ]
    raise ApiError(409, "Conflict", text, {"causes": causes})


def updated_managers(
    old: Object | None, new: Object, *, schema: dict[str, Any] | None, manager: str, now: str, subresource: str = ""
) -> list[Object]:
    """managedFields after an ordinary write: what the writer changed is its own from now on."""
    entries: list[Object] = list((old or new)["metadata"].get("managedFields") or []) if old is not None else []
    after = leaves(field_set(_relevant(new), schema))
    changed = {path: None for path in after if old is None or (_at(old, path) != _at(new, path))}
    entries = _kept(entries, after)
    if not changed:
        return entries
    own = next((entry for entry in entries if _same(entry, manager, "Update", subresource)), None)
    others = _without([entry for entry in entries if entry is not own], changed)
    mine = {**({} if own is None else leaves(own["fieldsV1"])), **changed}
    return _sorted([*others, _entry(manager, "Update", new["apiVersion"], _tree(mine), now, subresource)])


def _kept(entries: list[Object], present: dict[Path, None]) -> list[Object]:
    """Entries without the fields that no longer exist; an entry without any is dropped."""
    result = []
    for entry in entries:
        paths = {path: None for path in leaves(entry["fieldsV1"]) if path in present}
        if paths:
            result.append({**entry, "fieldsV1": _tree(paths)})
    return result


def _without(entries: list[Object], lost: dict[Path, None]) -> list[Object]:
    result = []
    for entry in entries:
        paths = {path: None for path in leaves(entry["fieldsV1"]) if path not in lost}
        if paths:
            result.append({**entry, "fieldsV1": _tree(paths)})
    return result


def _sorted(entries: list[Object]) -> list[Object]:
    return sorted(entries, key=lambda entry: (entry["operation"], entry["time"], entry["manager"]))
