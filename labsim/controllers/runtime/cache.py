"""A controller's view of one kind: what its watch has delivered so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from labsim.kube.selectors import parse_label_selector
from labsim.model.objects import Object

ObjectKey = tuple[str, str]  # namespace, name


class Cache:
    """Objects by namespace and name, with indexes for the labels that somebody selects by equality."""

    __slots__ = ("_by_label", "_by_namespace", "_objects")

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, Object] = {}
        self._by_namespace: dict[str, set[ObjectKey]] = {}
        self._by_label: dict[str, dict[str, set[ObjectKey]]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def entries(self) -> Iterator[tuple[str, str, Object]]:
        """Namespace, name and object of each, in the order in which they came."""
        for (namespace, name), obj in self._objects.items():
            yield namespace, name, obj

    def put(self, namespace: str, name: str, obj: Object) -> Object | None:
        """Store what a watch delivered; returns what stood there before."""
        key = (namespace, name)
        before = self._objects.get(key)
        self._objects[key] = obj
        if before is None:
            self._by_namespace.setdefault(namespace, set()).add(key)
        if self._by_label:
            old_labels = {} if before is None else before["metadata"].get("labels") or {}
            new_labels = obj["metadata"].get("labels") or {}
            if old_labels != new_labels:
                self._index(key, old_labels, new_labels)
        return before

    def _index(self, key: ObjectKey, old_labels: dict[str, str], new_labels: dict[str, str]) -> None:
        for label, values in self._by_label.items():
            old, new = old_labels.get(label), new_labels.get(label)
            if old != new:
                if old is not None:
                    values[old].discard(key)
                if new is not None:
                    values.setdefault(new, set()).add(key)

    def drop(self, namespace: str, name: str) -> Object | None:
        key = (namespace, name)
        before = self._objects.pop(key, None)
        if before is not None:
            self._by_namespace[namespace].discard(key)
            labels = before["metadata"].get("labels") or {}
            for label, values in self._by_label.items():
                if label in labels:
                    values[labels[label]].discard(key)
        return before

    def list(self, namespace: str | None, label_selector: str) -> list[Object]:
        """The matching objects, ordered by namespace and name."""
        keys: Iterable[ObjectKey]
        match: Callable[[dict[str, str]], bool] | None = None
        if label_selector:
            selector = parse_label_selector(label_selector)
            match = selector.matches
            exact = _first_equality(label_selector)
            keys = self._objects if exact is None else self._labelled(*exact)
            if namespace is not None:
                keys = [key for key in keys if key[0] == namespace]
        else:
            keys = self._objects if namespace is None else self._by_namespace.get(namespace, ())
        objects = self._objects
        if match is None:
            return [objects[key] for key in sorted(keys)]
        return [objects[key] for key in sorted(keys) if match(objects[key]["metadata"].get("labels") or {})]

    def _labelled(self, label: str, value: str) -> set[ObjectKey]:
        values = self._by_label.get(label)
        if values is None:
            values = self._by_label[label] = {}
            for key, obj in self._objects.items():
                found = (obj["metadata"].get("labels") or {}).get(label)
                if found is not None:
                    values.setdefault(found, set()).add(key)
        return values.get(value, set())


def _first_equality(selector: str) -> tuple[str, str] | None:
    """The first `label=value` requirement of a selector, which an index can answer."""
    for part in selector.split(","):
        if "=" in part and "!" not in part and "(" not in part and ")" not in part:
            label, _, value = part.replace("==", "=").partition("=")
            return label.strip(), value.strip()
    return None
