"""Making one Machine of a MachineSet: a name, a clone of the infrastructure template, the Machine."""

from __future__ import annotations

from labsim.controllers.capi.names import (
    CLONED_FROM_KIND_ANNOTATION,
    CLONED_FROM_NAME_ANNOTATION,
    CLUSTER_NAME_LABEL,
    DEPLOYMENT_NAME_LABEL,
    MACHINE_FINALIZER,
    SET_NAME_LABEL,
)
from labsim.controllers.runtime.effects import Program, ReconcileError, create, delete, get
from labsim.entropy import Entropy
from labsim.kube.errors import ApiError
from labsim.model.kinds import AGENT_MACHINE, AGENT_MACHINE_TEMPLATE, MACHINE
from labsim.model.objects import Object, dig, labels_of, name_of, namespace_of, new, owner_reference, thaw, uid_of

_LABEL_LIMIT = 63


class MachineMaker:
    """Names and makes Machines. The n-th name of a MachineSet depends on the seed, the MachineSet and n."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy.child("machine-names")
        self._counts: dict[str, int] = {}

    def _name(self, machine_set: Object) -> str:
        coordinates = f"{namespace_of(machine_set)}/{name_of(machine_set)}"
        count = self._counts.get(uid_of(machine_set), 0)
        self._counts[uid_of(machine_set)] = count + 1
        suffix = self._entropy.text(f"{coordinates}/{uid_of(machine_set)}/{count}")
        return f"{name_of(machine_set)}-{suffix}"

    def make(self, machine_set: Object) -> Program[str]:
        """Make one Machine and return its name; the clone goes again if the Machine is refused."""
        template_spec = machine_set["spec"]["template"]["spec"]
        reference = template_spec["infrastructureRef"]
        namespace = namespace_of(machine_set)
        template = yield from get(AGENT_MACHINE_TEMPLATE, namespace, reference["name"])
        if template is None:
            raise ReconcileError(
                f'failed to clone infrastructure machine: {reference["kind"]} "{reference["name"]}" not found'
            )
        while True:
            name = self._name(machine_set)
            if (yield from get(MACHINE, namespace, name)) is None:
                break
        yield from create(infrastructure_clone(machine_set, template, name), AGENT_MACHINE)
        try:
            yield from create(machine_from(machine_set, name), MACHINE)
        except ApiError:
            yield from delete(AGENT_MACHINE, namespace, name)
            raise
        return name


def machine_labels(machine_set: Object) -> dict[str, str]:
    """The labels of a MachineSet's Machines, and of their infrastructure objects."""
    labels = dict(dig(machine_set, "spec", "template", "metadata", "labels", default={}))
    name = name_of(machine_set)
    labels[SET_NAME_LABEL] = name if len(name) <= _LABEL_LIMIT else name[:_LABEL_LIMIT].rstrip("-.")
    deployment = labels_of(machine_set).get(DEPLOYMENT_NAME_LABEL)
    if deployment:
        labels[DEPLOYMENT_NAME_LABEL] = deployment
    labels[CLUSTER_NAME_LABEL] = machine_set["spec"]["clusterName"]
    return labels


def machine_annotations(machine_set: Object) -> dict[str, str]:
    return dict(dig(machine_set, "spec", "template", "metadata", "annotations", default={}))


def infrastructure_clone(machine_set: Object, template: Object, name: str) -> Object:
    """An AgentMachine as its template says. The MachineSet owns it until the Machine takes it over."""
    made = new(
        AGENT_MACHINE, namespace_of(machine_set), name, spec=thaw(template["spec"]["template"].get("spec") or {})
    )
    made["metadata"]["labels"] = machine_labels(machine_set)
    made["metadata"]["annotations"] = {
        **machine_annotations(machine_set),
        CLONED_FROM_NAME_ANNOTATION: name_of(template),
        CLONED_FROM_KIND_ANNOTATION: f"{AGENT_MACHINE_TEMPLATE.kind}.{AGENT_MACHINE_TEMPLATE.group}",
    }
    made["metadata"]["ownerReferences"] = [owner_reference(machine_set)]
    return made


def machine_from(machine_set: Object, name: str) -> Object:
    """A Machine as the MachineSet's template says."""
    spec = thaw(machine_set["spec"]["template"]["spec"])
    spec["clusterName"] = machine_set["spec"]["clusterName"]
    spec["infrastructureRef"] = {
        "apiVersion": AGENT_MACHINE.api_version,
        "kind": AGENT_MACHINE.kind,
        "namespace": namespace_of(machine_set),
        "name": name,
    }
    made = new(MACHINE, namespace_of(machine_set), name, spec=spec)
    made["metadata"]["labels"] = machine_labels(machine_set)
    made["metadata"]["annotations"] = machine_annotations(machine_set)
    made["metadata"]["finalizers"] = [MACHINE_FINALIZER]
    made["metadata"]["ownerReferences"] = [owner_reference(machine_set, controller=True)]
    return made
