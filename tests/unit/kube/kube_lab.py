"""A server with a kind of everything, for the tests of the kube core."""

from __future__ import annotations

from typing import Any

from labsim.clock import EventQueue
from labsim.entropy import Entropy
from labsim.kube.crds.builder import array, crd, enum, int_or_string, integer, map_of, obj, rule, string, version
from labsim.kube.server import ApiServer
from labsim.model.kinds import NAMESPACE, Kind
from labsim.model.objects import Object, new

WIDGET = Kind("lab.test", "v1", "Widget", "widgets")
OLD_WIDGET = Kind("lab.test", "v1alpha1", "Widget", "widgets")
PLAIN = Kind("lab.test", "v1", "Plain", "plains", False)
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

PORT = obj({"name": string(), "port": integer(), "protocol": string(default="TCP")}, required=["name"])
WIDGET_SPEC = obj(
    {
        "size": integer(minimum=0, maximum=100),
        "replicas": integer(minimum=0),
        "color": enum("red", "green", "blue", default="red"),
        "note": string(pattern="^[a-z]+$", maxLength=8),
        "fixed": string(**{"x-kubernetes-validations": [rule("self == oldSelf", "fixed is fixed")]}),
        "labels": map_of(string()),
        "nested": obj({"level": integer(default=7), "text": string()}),
        "maybe": string(nullable=True),
        "any": int_or_string(),
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "args": array(string()),
        "tags": array(string(), **{"x-kubernetes-list-type": "set"}),
        "ports": array(PORT, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    }
)
WIDGET_SPEC["x-kubernetes-validations"] = [
    rule("!has(self.size) || !has(self.replicas) || self.replicas <= self.size", "too many")
]
STATUS = obj({"phase": string(), "replicas": integer()})
SCALE = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def definitions() -> list[Object]:
    old = version("v1alpha1", spec=obj({"size": integer(), "old": string()}), storage=False)
    return [
        crd(
            WIDGET,
            [old, version("v1", spec=WIDGET_SPEC, status=STATUS, scale=SCALE, selectable_fields=[".spec.color"])],
            short_names=["wd"],
        ),
        crd(PLAIN, [version("v1", spec=obj({"a": integer()}), status=STATUS, status_subresource=False)]),
    ]


def server(**options: Any) -> ApiServer:
    """A server with widgets, plains and a namespace `n`."""
    made = ApiServer(name="test", clock=EventQueue(), entropy=Entropy(1), crds=definitions(), **options)
    made.create(new(NAMESPACE, None, "n"), NAMESPACE)
    return made


def widget(name: str = "w", metadata: Object | None = None, **spec: Any) -> Object:
    made = new(WIDGET, "n", name, spec=spec)
    made["metadata"].update(metadata or {})
    return made
