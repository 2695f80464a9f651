"""What a URL path of the API means: which collection, object or subresource, or which document."""

from __future__ import annotations

import dataclasses

from labsim.kube.short_texts import cached_if_short


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """The parts of a resource's path. `namespace` None is all namespaces, or a cluster-scoped resource."""

    group: str
    version: str
    plural: str = ""
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    watch: bool = False  # the old /watch/ paths

    @property
    def is_object(self) -> bool:
        return bool(self.name)


@cached_if_short(8192)
def parse_path(path: str) -> Route | None:
    """The route of a decoded path below `/api` or `/apis`; None for any other, and where it is no resource's."""
    raw = path.split("/")
    if path.endswith("/"):
        raw.pop()
    if len(raw) < 3 or raw[0] or "" in raw[1:]:
        return None
    parts = raw[1:]
    if parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watch = bool(rest) and rest[0] == "watch" and len(rest) > 1
    if watch:
        rest = rest[1:]
    namespace: str | None = None
    # /namespaces/NS/PLURAL... is inside a namespace; /namespaces/NAME[/status|finalize] is the Namespace itself.
    if len(rest) >= 3 and rest[0] == "namespaces" and (len(rest) > 3 or rest[2] not in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        return None
    plural, name, subresource = [*rest, "", "", ""][:3]
    return Route(group, version, plural, namespace, name, subresource, watch)
