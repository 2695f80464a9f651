"""What a changed template gives to Machines that exist: labels, annotations and time-outs, in place.

Upstream applies these with a field manager of its own. Here what is missing or differs is patched; a label that
leaves the template stays on the Machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labsim.controllers.capi.cloning import machine_annotations, machine_labels
from labsim.controllers.runtime.effects import Program, get, patch
from labsim.model.kinds import AGENT_MACHINE, MACHINE
from labsim.model.objects import Object, annotations_of, labels_of, name_of, namespace_of

TIMEOUTS = ("nodeDrainTimeout", "nodeVolumeDetachTimeout", "nodeDeletionTimeout")


def propagate(machine_set: Object, name: str) -> Program[None]:
    """Bring one Machine and its infrastructure object up to date with the template."""
    machine = yield from get(MACHINE, namespace_of(machine_set), name)
    if machine is None:
        return
    labels, annotations = machine_labels(machine_set), machine_annotations(machine_set)
    body = _metadata(machine, labels, annotations)
    template_spec = machine_set["spec"]["template"]["spec"]
    timeouts = {
        field: template_spec.get(field) for field in TIMEOUTS if machine["spec"].get(field) != template_spec.get(field)
    }
    if timeouts:
        body["spec"] = timeouts
    if body:
        yield from patch(MACHINE, namespace_of(machine), name, body)
    reference = machine["spec"]["infrastructureRef"]["name"]
    infrastructure = yield from get(AGENT_MACHINE, namespace_of(machine), reference, live=True)
    if infrastructure is not None:
        body = _metadata(infrastructure, labels, annotations)
        if body:
            yield from patch(AGENT_MACHINE, namespace_of(machine), name_of(infrastructure), body)


def _metadata(obj: Object, labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    missing = {
        field: {key: value for key, value in wanted.items() if present.get(key) != value}
        for field, wanted, present in (
            ("labels", labels, labels_of(obj)),
            ("annotations", annotations, annotations_of(obj)),
        )
    }
    metadata = {field: values for field, values in missing.items() if values}
    return {"metadata": metadata} if metadata else {}
