"""The scenario file: what a person writes, checked as a whole, with every mistake reported at once.

`load_scenario` is the way in. Durations and sizes carry their units; names of agent states are upstream's.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from labsim.errors import InvalidFile
from labsim.model.hub_fault import HubFaultStep
from labsim.model.machine_fault import FaultStep, MendStep
from labsim.model.machine_group import MachineGroup
from labsim.model.machine_steps import (
    Agents,
    AgentSelector,
    BootStep,
    PauseStep,
    PlugStep,
    ResetStep,
    ResumeStep,
    RevertStep,
    SnapshotStep,
    StopStep,
    UnplugStep,
)
from labsim.model.networks import DnsSpec, NetworkSpec
from labsim.model.quantities import format_duration, format_size
from labsim.model.scenario_parts import Duration, Name, Part, Player, State

API_VERSION = "labsim/v1alpha1"


class Metadata(Part):
    name: Name
    description: str = ""


class InfraEnvSpec(Part):
    name: Name
    namespace: Name | None = None
    """Where its agents live; the lab's own namespace by default."""
    agent_labels: dict[str, str] = Field(default_factory=dict, alias="agentLabels")
    auto_approve: bool = Field(default=False, alias="autoApprove")


class CimRequirement(Part):
    reclaim: Literal["upstream", "never"] = "upstream"


class Components(Part):
    """Who plays each component of the hub: labsim, or a real controller that you start."""

    cim: Player = "simulated"
    capi: Player = "simulated"
    agent_provider: Player = Field(default="simulated", alias="agentProvider")
    hypershift: Player = "simulated"
    importer: Player = Field(default="simulated", alias="import")
    kube_controllers: Literal["auto", "simulated", "external"] = Field(default="auto", alias="kubeControllers")
    """Garbage collection and namespaces. `auto`: simulated where nothing on the hub does it."""

    def external(self) -> tuple[str, ...]:
        """The components that somebody else runs, by their names in the file."""
        fields = type(self).model_fields
        return tuple(entry.alias or name for name, entry in fields.items() if getattr(self, name) == "external")

    def with_external(self, names: Iterable[str]) -> Components:
        """These, with more that somebody else runs, by their names in the file."""
        given = self.model_dump(by_alias=True) | dict.fromkeys(names, "external")
        return Components.model_validate(given)


class HubSpec(Part):
    components: Components = Components()


class LabSpec(Part):
    base_domain: str = Field(default="krnl.es", alias="baseDomain")
    cim: CimRequirement = CimRequirement()
    dns: DnsSpec = DnsSpec()
    network: NetworkSpec = NetworkSpec()
    hub: HubSpec = HubSpec()
    infra_envs: list[InfraEnvSpec] = Field(alias="infraEnvs", min_length=1)
    machines: list[MachineGroup] = Field(min_length=1)
    namespace: Name = "labsim"


class ApproveStep(Part):
    agents: Agents
    value: bool = True


class LabelStep(Part):
    agents: Agents
    labels: dict[str, str | None]


class NodePoolSpec(Part):
    replicas: int = Field(default=0, ge=0)
    upgrade_type: Literal["InPlace", "Replace"] = Field(default="InPlace", alias="upgradeType")
    agent_label_selector: dict[str, str] = Field(default_factory=dict, alias="agentLabelSelector")


class CreateHostedClusterStep(Part):
    name: Name
    namespace: Name = "clusters"
    agent_namespace: Name | None = Field(default=None, alias="agentNamespace")
    """The namespace whose agents are used; that of the first InfraEnv by default."""
    api_server_address: str = Field(default="", alias="apiServerAddress")
    """What its services are published at: `api.<name>.<baseDomain>` by default, which the lab's DNS then has."""
    publish: Literal["NodePort", "LoadBalancer"] = "NodePort"
    """`LoadBalancer`: an address for the API server, Routes for the rest, as the web console has it."""
    node_pool: NodePoolSpec = Field(default=NodePoolSpec(), alias="nodePool")
    availability: Literal["SingleReplica", "HighlyAvailable"] = "HighlyAvailable"
    release_image: str = Field(default="quay.io/openshift-release-dev/ocp-release:4.17.0-multi", alias="releaseImage")


class DeleteHostedClusterStep(Part):
    name: Name
    within: Duration = 1800.0


class ScaleStep(Part):
    node_pool: Name = Field(alias="nodePool")
    replicas: int = Field(ge=0)


class ReturnToPoolStep(Part):
    within: Duration


class WaitStep(Part):
    duration: Duration = Field(alias="for")


class NodesOf(Part):
    hosted_cluster: Name = Field(alias="hostedCluster")


class MachinesOf(Part):
    node_pool: Name = Field(alias="nodePool")


class ObjectRef(Part):
    kind: str
    name: str
    namespace: str | None = None


class ConditionIs(Part):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str | None = None


class ExpectStep(Part):
    """Something that must come to hold within a time, and may have to go on holding."""

    agents: Agents | None = None
    nodes: NodesOf | None = None
    machines: MachinesOf | None = None
    object: ObjectRef | None = None
    count: int | None = Field(default=None, ge=0)
    state: State | None = None
    ready: bool | None = None
    condition: ConditionIs | None = None
    within: Duration
    holds: Duration | None = None
    """How long it must then stay true without a break."""

    @model_validator(mode="after")
    def _one_subject(self) -> ExpectStep:
        subjects = [name for name in ("agents", "nodes", "machines", "object") if getattr(self, name) is not None]
        if len(subjects) != 1:
            raise ValueError("expect needs exactly one of agents, nodes, machines, object")
        subject = subjects[0]
        if self.state is not None and subject != "agents":
            raise ValueError(f"state goes with agents, not with {subject}")
        if self.ready is not None and subject != "nodes":
            raise ValueError(f"ready goes with nodes, not with {subject}")
        if (self.condition is not None) != (subject == "object"):
            raise ValueError("condition goes with object, and object needs a condition")
        return self


STEP_NAMES = (
    "boot",
    "reboot",
    "stop",
    "reset",
    "pause",
    "resume",
    "snapshot",
    "revert",
    "plug",
    "unplug",
    "expect",
    "approve",
    "label",
    "createHostedCluster",
    "deleteHostedCluster",
    "scale",
    "returnToPool",
    "wait",
    "hubFault",
    "fault",
    "mend",
)


class Step(Part):
    """One step: a mapping with exactly one of the known names."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    boot: BootStep | None = None
    reboot: BootStep | None = None
    stop: StopStep | None = None
    reset: ResetStep | None = None
    pause: PauseStep | None = None
    resume: ResumeStep | None = None
    snapshot: SnapshotStep | None = None
    revert: RevertStep | None = None
    plug: PlugStep | None = None
    unplug: UnplugStep | None = None
    expect: ExpectStep | None = None
    approve: ApproveStep | None = None
    label: LabelStep | None = None
    create_hosted_cluster: CreateHostedClusterStep | None = Field(default=None, alias="createHostedCluster")
    delete_hosted_cluster: DeleteHostedClusterStep | None = Field(default=None, alias="deleteHostedCluster")
    scale: ScaleStep | None = None
    return_to_pool: ReturnToPoolStep | None = Field(default=None, alias="returnToPool")
    wait: WaitStep | None = None
    hub_fault: HubFaultStep | None = Field(default=None, alias="hubFault")
    fault: FaultStep | None = None
    mend: MendStep | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Step:
        if len(self.model_fields_set) != 1:
            raise ValueError("a step is a mapping with exactly one of: " + ", ".join(STEP_NAMES))
        return self

    @property
    def action(self) -> Part:
        (name,) = self.model_fields_set
        action: Part = getattr(self, name)
        return action

    @property
    def verb(self) -> str:
        """The step's name as it stands in the file."""
        (name,) = self.model_fields_set
        return type(self).model_fields[name].alias or name


class ScenarioSpec(Part):
    lab: LabSpec
    steps: list[Step]


class Scenario(Part):
    """A whole scenario file."""

    api_version: Literal["labsim/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Scenario"]
    metadata: Metadata
    spec: ScenarioSpec

    def machine_names(self) -> list[str]:
        return [name for group in self.spec.lab.machines for name in group.machine_names()]


def load_scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises InvalidFile with every mistake, its path and a suggestion."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidFile(str(path), [("", f"cannot be read: {error.strerror or error}", "")]) from error
    except UnicodeDecodeError as error:
        raise InvalidFile(str(path), [(f"byte {error.start}", "is not text in UTF-8", "")]) from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, source: str = "scenario") -> Scenario:
    """The scenario in a text."""
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        raise InvalidFile(source, [(place, f"is not YAML: {getattr(error, 'problem', error)}", "")]) from error
    if not isinstance(document, dict):
        raise InvalidFile(source, [("", "a scenario is a mapping", "start with apiVersion: labsim/v1alpha1")])
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise InvalidFile(source, [_problem(entry) for entry in error.errors()]) from error
    problems = list(_cross_check(scenario))
    if problems:
        raise InvalidFile(source, problems)
    return scenario


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors."""
    schema = Scenario.model_json_schema(by_alias=True)
    for part in schema["$defs"].values():
        for field in part.get("properties", {}).values():
            if field.get("type") == "string" and isinstance(field.get("default"), (int, float)):
                field["default"] = _written(field["default"])
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _written(value: float) -> str:
    """A size or a duration as a person writes it."""
    return format_size(value).replace(" ", "") if isinstance(value, int) else format_duration(value)


_FIELD_NAMES = sorted(
    {field.alias or name for part in Part.__subclasses__() for name, field in part.model_fields.items()}
)


def _problem(entry: Any) -> tuple[str, str, str]:
    path = _path([part for part in entry["loc"] if not _is_union_tag(part)])
    if entry["type"] == "extra_forbidden":
        unknown = str(entry["loc"][-1])
        near = difflib.get_close_matches(unknown, _FIELD_NAMES, 1, 0.6)
        advice = f"did you mean {near[0]}?" if near else ""
        if not advice and len(entry["loc"]) == 4 and entry["loc"][1] == "steps":
            advice = "a step is exactly one of: " + ", ".join(STEP_NAMES)
        return path, f"unknown field {unknown!r}", advice
    message = str(entry["msg"]).removeprefix("Value error, ")
    return path, message, ""


def _is_union_tag(part: Any) -> bool:
    """Pydantic puts the tried member of a union into the path; a person's file has no such level."""
    return isinstance(part, str) and (part in {"AgentSelector", "OfAgents", "str"} or "[" in part)


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _cross_check(scenario: Scenario) -> Any:
    """Mistakes that show only when parts of the file are seen together."""
    lab = scenario.spec.lab
    infra_envs = [entry.name for entry in lab.infra_envs]
    for index, group in enumerate(lab.machines):
        if group.infra_env not in infra_envs:
            yield (
                f"spec.lab.machines[{index}].infraEnv",
                f"no InfraEnv {group.infra_env!r}",
                _nearest(group.infra_env, infra_envs),
            )
    names = scenario.machine_names()
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "spec.lab.machines", f"two machines are named {name!r}", "choose other group names"
    clusters: list[str] = []
    for index, step in enumerate(scenario.spec.steps):
        path = f"spec.steps[{index}].{step.verb}"
        action = step.action
        if isinstance(action, CreateHostedClusterStep):
            if action.name in clusters:
                yield f"{path}.name", f"hosted cluster {action.name!r} is created twice", ""
            if action.name == "clusters":
                yield f"{path}.name", "a hosted cluster must not be named 'clusters'", "choose another name"
            clusters.append(action.name)
        wanted = []
        if isinstance(action, ScaleStep):
            wanted = [("nodePool", action.node_pool)]
        elif isinstance(action, DeleteHostedClusterStep):
            wanted = [("name", action.name)]
        elif isinstance(action, ExpectStep):
            if action.nodes:
                wanted = [("nodes.hostedCluster", action.nodes.hosted_cluster)]
            if action.machines:
                wanted = [("machines.nodePool", action.machines.node_pool)]
            if isinstance(action.agents, AgentSelector) and action.agents.cluster not in (None, "none"):
                wanted = [("agents.cluster", str(action.agents.cluster))]
        for field, name in wanted:
            if name not in clusters:
                yield f"{path}.{field}", f"no step before this one creates {name!r}", _nearest(name, clusters)
        patterns = getattr(action, "machines", None)
        for pattern in [patterns] if isinstance(patterns, str) else patterns if isinstance(patterns, list) else []:
            if not fnmatch.filter(names, pattern):
                yield f"{path}.machines", f"no machine matches {pattern!r}", _nearest(pattern, names)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return "known: " + ", ".join(known[:8]) if known else ""
