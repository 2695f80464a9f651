"""Cluster API's objects between v1beta1 and v1beta2: nothing gets lost on the way there and back, and what moves where.

Objects are drawn from the schemas themselves, so a field that a schema gains is in the test too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsim.kube.crds import hub_conversions, hub_crds, plain_hub_crds
from labsim.kube.crds.capi_conversion import DATA_ANNOTATION
from labsim.model.durations import duration_text
from labsim.model.kinds import (
    AGENT_MACHINE,
    CLUSTER,
    MACHINE,
    MACHINE_DEPLOYMENT,
    MACHINE_HEALTH_CHECK,
    MACHINE_SET,
    Kind,
)
from labsim.model.objects import Object, dig, new, thaw

KINDS = (CLUSTER, MACHINE_DEPLOYMENT, MACHINE_SET, MACHINE, MACHINE_HEALTH_CHECK)
WORDS = st.sampled_from(("a", "b-c", "d.e", "f0"))
TIMES = st.sampled_from(("2026-01-02T03:04:05Z", "2026-11-23T17:00:00Z"))
DURATIONS = st.integers(0, 100_000).map(duration_text)
NEWER_REFERENCE = st.just({"apiGroup": AGENT_MACHINE.group, "kind": "AgentMachine", "name": "x"})
OLDER_REFERENCE = st.just(
    {"apiVersion": AGENT_MACHINE.api_version, "kind": "AgentMachine", "name": "x", "namespace": "n"}
)
TEMPLATE = {"apiVersion": "a.b/v1", "kind": "T", "name": "x"}
PART: Object = {"metadata": {"labels": {"a": "b"}}, "class": "w", "name": "x", "replicas": 0}
# Drawn by hand: what the schema does not tell, by the last fields of its path.
NEWER_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "infrastructureRef": NEWER_REFERENCE,
    "controlPlaneRef": NEWER_REFERENCE,
    "configRef": NEWER_REFERENCE,
    "templateRef": st.just(TEMPLATE),
    "nodeInfo": st.just({"osImage": "x"}),
    "topology": st.just(
        {
            "classRef": {"name": "c", "namespace": "m"},
            "version": "v1",
            "variables": [{"name": "v", "value": 1}],
            "controlPlane": {"replicas": 0, "deletion": {"nodeDrainTimeoutSeconds": 0}},
            "workers": {
                "machineDeployments": [
                    {
                        **PART,
                        "deletion": {"order": "Oldest", "nodeDeletionTimeoutSeconds": 5},
                        "rollout": {"after": "2026-01-02T03:04:05Z", "strategy": {"type": "OnDelete"}},
                        "healthCheck": {
                            "enabled": False,
                            "checks": {"nodeStartupTimeoutSeconds": 3},
                            "remediation": {"maxInFlight": 1, "triggerIf": {"unhealthyInRange": "[1-2]"}},
                        },
                    }
                ],
                "machinePools": [{**PART, "failureDomains": ["a"]}],
            },
        }
    ),
}
OLDER_FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "infrastructureRef": OLDER_REFERENCE,
    "controlPlaneRef": OLDER_REFERENCE,
    "configRef": OLDER_REFERENCE,
    "remediationTemplate": st.just({**TEMPLATE, "namespace": "n"}),
    "nodeRef": st.just({"apiVersion": "v1", "kind": "Node", "name": "x"}),
    "nodeInfo": st.just({"osImage": "x"}),
    "nodeDrainTimeout": DURATIONS,
    "nodeVolumeDetachTimeout": DURATIONS,
    "nodeDeletionTimeout": DURATIONS,
    "nodeStartupTimeout": DURATIONS,
    "timeout": DURATIONS,
    "failureDomains": st.just({"one": {"controlPlane": True}, "two": {"attributes": {"a": "b"}}}),
    "topology": st.just(
        {
            "class": "c",
            "classNamespace": "m",
            "version": "v1",
            "controlPlane": {"metadata": {}, "replicas": 3, "nodeDrainTimeout": "5m0s"},
            "workers": {
                "machineDeployments": [
                    {
                        **PART,
                        "strategy": {
                            "type": "RollingUpdate",
                            "rollingUpdate": {"maxSurge": 0, "deletePolicy": "Oldest"},
                            "remediation": {"maxInFlight": "20%"},
                        },
                        "machineHealthCheck": {"enable": False, "maxUnhealthy": "40%", "nodeStartupTimeout": "1m0s"},
                        "rollout": {"after": "2026-01-02T03:04:05Z"},
                    }
                ]
            },
        }
    ),
}
# Upstream loses these when somebody writes v1beta2.
LOST = ("progressDeadlineSeconds", "revisionHistoryLimit")
# Numbers and flags of v1beta2 that v1beta1 always has: absent ones come back as 0 or False.
ALWAYS_COUNTED = ("replicas", "controlPlane")


def drawn(node: Object, fields: Mapping[str, st.SearchStrategy[Any]], name: str = "") -> st.SearchStrategy[Any]:
    """Values of a schema's node: never an empty object, list or text, as Go writes none."""
    if name in fields:
        return fields[name]
    if node.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(1, 9), st.just("20%"))
    if node["type"] == "object":
        return drawn_object(node, fields)
    if node["type"] == "array":
        keys = node.get("x-kubernetes-list-map-keys")
        unique: Callable[[Any], Any] = (lambda item: item[keys[0]]) if keys else json.dumps
        return st.lists(drawn(node["items"], fields), min_size=1, max_size=2, unique_by=unique)
    if node["type"] == "string":
        return st.sampled_from(node["enum"]) if "enum" in node else TIMES if node.get("format") else WORDS
    return st.booleans() if node["type"] == "boolean" else st.integers(1, 9)


def drawn_object(node: Object, fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    properties = {key: child for key, child in (node.get("properties") or {}).items() if key not in LOST}
    if not properties:
        return st.dictionaries(WORDS, drawn(node.get("additionalProperties") or {"type": "string"}, fields), min_size=1)
    needed = {*(node.get("required") or ()), *(key for key in ALWAYS_COUNTED if key in properties)}
    values = {key: drawn(child, fields, key) for key, child in properties.items()}
    return st.fixed_dictionaries(
        {key: values[key] for key in values if key in needed},
        optional={key: values[key] for key in values if key not in needed},
    ).filter(bool)


def objects(kind: Kind, version: str, fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Object]:
    crd = next(item for item in hub_crds() if item["metadata"]["name"] == kind.qualified)
    entry = next(item for item in crd["spec"]["versions"] if item["name"] == version)
    properties = entry["schema"]["openAPIV3Schema"]["properties"]
    parts = {part: drawn(properties[part], fields, part) for part in ("spec", "status")}
    return st.fixed_dictionaries({"spec": parts["spec"]}, optional={"status": parts["status"]}).map(
        lambda made: {**new(kind, "n", "x"), "apiVersion": f"{kind.group}/{version}", **made}
    )


def definition_of(group: str, kind: str) -> Object | None:
    found = (crd for crd in hub_crds() if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, kind))
    return next(found, None)


def converted(obj: Object, version: str) -> Object:
    """The object in another version; what was given is left alone."""
    kind = next(kind for kind in KINDS if kind.kind == obj["kind"])
    before = thaw(obj)
    made = hub_conversions()[kind.qualified](obj, f"{kind.group}/{version}", definition_of)
    assert obj == before
    return made


def without_data(obj: Object) -> Object:
    """A v1beta1 object without what it remembers of v1beta2."""
    made = thaw(obj)
    made["metadata"].get("annotations", {}).pop(DATA_ANNOTATION, None)
    if not made["metadata"].get("annotations", True):
        del made["metadata"]["annotations"]
    return made


def as_go_writes_it(obj: Object) -> Object:
    """A v1beta1 object with the fields that are always there, and without what says nothing."""
    made = thaw(obj)
    kind, spec, status = made["kind"], made["spec"], made.setdefault("status", {})
    zeros = {
        "Machine": ("bootstrapReady", "infrastructureReady"),
        "Cluster": ("controlPlaneReady", "infrastructureReady"),
        "MachineSet": ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
        "MachineDeployment": (
            *("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"),
        ),
        "MachineHealthCheck": ("expectedMachines", "currentHealthy", "remediationsAllowed"),
    }
    for field in zeros[kind]:
        status.setdefault(field, False if field.endswith("Ready") else 0)
    if spec.get("paused") is False:
        del spec["paused"]
    if kind == "Cluster":
        spec.setdefault("controlPlaneEndpoint", {"host": "", "port": 0})
    template = spec if kind == "Machine" else dig(spec, "template", "spec")
    if "template" in spec or kind in ("MachineSet", "MachineDeployment"):
        spec.setdefault("template", {}).setdefault("metadata", {})
        template = spec["template"].setdefault("spec", {})
        template.setdefault("clusterName", "")
        template.setdefault("infrastructureRef", {})
    if template is not None and kind in ("Machine", "MachineSet", "MachineDeployment"):
        template.setdefault("bootstrap", {})
    return made


ROUND_TRIPS = settings(
    max_examples=60, derandomize=True, suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large)
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_from_v1beta1_there_and_back_loses_nothing(kind: Kind) -> None:
    @ROUND_TRIPS
    @given(objects(kind, "v1beta1", OLDER_FIELDS))
    def there_and_back(obj: Object) -> None:
        newer = converted(obj, "v1beta2")
        assert without_data(converted(newer, "v1beta1")) == as_go_writes_it(obj)

    there_and_back()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_from_v1beta2_there_and_back_loses_nothing(kind: Kind) -> None:
    @ROUND_TRIPS
    @given(objects(kind, "v1beta2", NEWER_FIELDS))
    def there_and_back(obj: Object) -> None:
        back = converted(converted(obj, "v1beta1"), "v1beta2")
        dig(obj, "status", "failureDomains", default=[]).sort(key=lambda domain: domain["name"])  # keys in v1beta1
        if kind in (MACHINE_SET, MACHINE_DEPLOYMENT):  # whose old counts are always there
            status = obj.setdefault("status", {})
            status.setdefault("replicas", 0)
            old = status.setdefault("deprecated", {}).setdefault("v1beta1", {})
            counted = dig(back, "status", "deprecated", "v1beta1")
            old.update({field: 0 for field in counted if field.endswith("Replicas") and field not in old})
        assert back == obj

    there_and_back()


def machine(**status: Any) -> Object:
    reference = {"apiVersion": AGENT_MACHINE.api_version, "kind": "AgentMachine", "name": "x", "namespace": "n"}
    spec = {"clusterName": "c", "bootstrap": {}, "infrastructureRef": reference}
    return new(MACHINE, "n", "x", spec=spec, status=status)


def test_what_upstream_loses_of_a_v1beta1_object_that_v1beta2_writes() -> None:
    obj = machine()
    obj["spec"]["infrastructureRef"].update(uid="u", namespace="elsewhere", apiVersion=f"{AGENT_MACHINE.group}/v0")
    obj["spec"]["nodeDrainTimeout"] = "1500ms"
    back = converted(converted(obj, "v1beta2"), "v1beta1")
    assert back["spec"]["infrastructureRef"] == machine()["spec"]["infrastructureRef"]
    assert back["spec"]["nodeDrainTimeout"] == "1s"


def test_a_flag_is_false_in_v1beta2_only_where_it_was_said() -> None:
    assert "initialization" not in converted(machine(infrastructureReady=False), "v1beta2").get("status", {})
    said = converted(machine(), "v1beta2")
    said["status"] = {"initialization": {"infrastructureProvisioned": False}}
    older = converted(said, "v1beta1")
    assert older["status"]["infrastructureReady"] is False
    assert converted(older, "v1beta2")["status"]["initialization"] == {"infrastructureProvisioned": False}
    older["status"]["infrastructureReady"] = True
    assert converted(older, "v1beta2")["status"]["initialization"] == {"infrastructureProvisioned": True}


def test_the_phase_of_a_machine_is_that_of_its_last_v1beta2_writer() -> None:
    """Upstream: only the Machine controller writes it, so who writes v1beta1 in between is not heard."""
    newer = converted(machine(phase="Provisioned"), "v1beta2")
    assert newer["status"]["phase"] == "Provisioned"
    older = converted(newer, "v1beta1")
    older["status"]["phase"] = "Running"
    assert converted(older, "v1beta2")["status"]["phase"] == "Provisioned"


def test_old_conditions_are_not_shown_as_new_ones() -> None:
    old = {"type": "PreTerminateDeleteHookSucceeded", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    status = converted(machine(conditions=[old]), "v1beta2")["status"]
    assert status == {"deprecated": {"v1beta1": {"conditions": [old]}}}


def test_a_cap_on_what_int32_holds() -> None:
    obj = machine()
    obj["spec"]["nodeDrainTimeout"] = "9999999h"
    assert converted(obj, "v1beta2")["spec"]["deletion"] == {"nodeDrainTimeoutSeconds": 2**31 - 1}


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("nodeDrainTimeout", "soon", 'time: invalid duration "soon"'),
        ("infrastructureRef", {"apiVersion": "a/b/c", "kind": "K", "name": "x"}, "unexpected GroupVersion string: a/b"),
    ],
)
def test_what_cannot_be_converted_is_refused(field: str, value: Any, problem: str) -> None:
    obj = machine()
    obj["spec"][field] = value
    with pytest.raises(ValueError, match=problem):
        converted(obj, "v1beta2")


def test_a_provider_without_a_contract_has_no_version() -> None:
    newer = converted(machine(), "v1beta2")
    newer["spec"]["infrastructureRef"] = {"apiGroup": CLUSTER.group, "kind": "Cluster", "name": "x"}
    with pytest.raises(ValueError, match="cannot find any versions matching contract versions"):
        converted(newer, "v1beta1")


def test_a_cluster_outside_the_process_gets_the_stored_version_alone() -> None:
    versions = {item["metadata"]["name"]: [v["name"] for v in item["spec"]["versions"]] for item in plain_hub_crds()}
    assert {versions[kind.qualified] == ["v1beta1"] for kind in KINDS} == {True}
    assert {item["spec"]["conversion"]["strategy"] for item in plain_hub_crds()} == {"None"}
    assert versions[AGENT_MACHINE.qualified] == ["v1alpha1", "v1beta1"]
