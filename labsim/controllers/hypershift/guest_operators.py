"""ClusterOperators and the ClusterVersion of a hosted cluster, computed from what runs (fact sheet, section 9)."""

from __future__ import annotations

from collections.abc import Mapping

from labsim.controllers.hypershift.components import is_available
from labsim.controllers.hypershift.desired import Condition, ensure_exists, write_status
from labsim.controllers.hypershift.guest_catalog import (
    CLUSTER_WORKLOADS,
    CONTROL_PLANE_OPERATORS,
    KONNECTIVITY_AGENT,
    NODE_OPERATORS,
    OPERATORS,
)
from labsim.controllers.hypershift.guest_pods import place_pods
from labsim.controllers.hypershift.guest_state import GuestState
from labsim.controllers.hypershift.names import key_text, of_control_plane
from labsim.controllers.hypershift.observed import Observed, admin_kubeconfig
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, get, list_all, now
from labsim.model.kinds import (
    CLUSTER_OPERATOR,
    CLUSTER_VERSION,
    DAEMON_SET,
    DEPLOYMENT,
    HOSTED_CONTROL_PLANE,
    POD,
    STATEFUL_SET,
)
from labsim.model.objects import Object, condition_of, dig, is_deleting, name_of, new, timestamp

_READ = (CLUSTER_OPERATOR, CLUSTER_VERSION, DAEMON_SET, DEPLOYMENT, STATEFUL_SET)
_SCAN_PER_NODE_S = 0.05
_PACE_S = 2.0
_CLUSTER_VERSION = {
    "Succeeding": "Failing",
    "Progressing": "Progressing",
    "ReleaseAccepted": "ReleaseAccepted",
    "Upgradeable": "Upgradeable",
    "Available": "Available",
}


class GuestOperators:
    """The loop over what runs inside each hosted cluster, one key per HostedControlPlane."""

    def __init__(self, settings: HyperShiftSettings, observed: Observed, state: GuestState) -> None:
        self._settings = settings
        self._observed = observed
        self._state = state

    def controller(self) -> Controller:
        return Controller(
            name="guest-operators",
            reconcile=self.reconcile,
            watches=(
                Watch(DEPLOYMENT, of_control_plane),
                Watch(HOSTED_CONTROL_PLANE, None),
                Watch(POD, lambda _, owner: (_owner_key(owner),), hosted=True, when=self._state.note_pod),
                *(Watch(kind, None, hosted=True) for kind in _READ),
            ),
            workers=4,
        )

    def reconcile(self, key: Key) -> Program[Result]:
        owner = key_text(key)
        plane = yield from get(HOSTED_CONTROL_PLANE, key.namespace, key.name)
        if plane is None or is_deleting(plane):
            self._state.forget(owner)
            return DONE
        config = yield from get(DEPLOYMENT, key.namespace, "hosted-cluster-config-operator")
        at = yield from admin_kubeconfig(self._observed, key)
        if at is None or not is_available(config):
            return DONE
        moment_s = yield from now()
        wait_s = self._observed.scan_wait_s(*_scan(owner, moment_s, self._state))
        if wait_s > 0:
            return Result(wait_s)
        running = yield from place_pods(owner, self._state, at)
        version_operator = yield from get(DEPLOYMENT, key.namespace, "cluster-version-operator")
        cluster_version: Object | None = None
        if is_available(version_operator):
            workloads = {name_of(entry): entry for entry in (yield from list_all(DEPLOYMENT, key.namespace))}
            pending = yield from self._write_operators(plane, workloads, running, owner, at)
            cluster_version = yield from self._write_version(plane, pending, moment_s, at)
        yield from self._report(plane, cluster_version, owner)
        return DONE

    def _write_operators(
        self, plane: Object, workloads: Mapping[str, Object], running: Mapping[str, int], owner: str, at: str
    ) -> Program[list[str]]:
        """Every ClusterOperator; answers the names of those that are not available."""
        version = self._version(plane)
        pending: list[str] = []
        for name in OPERATORS:
            problem = self._problem(name, plane, workloads, running, owner)
            if problem:
                pending.append(name)
            yield from ensure_exists(new(CLUSTER_OPERATOR, None, name, spec={}), CLUSTER_OPERATOR, at=at)
            fields: Object = {}
            if not problem:
                fields["versions"] = [{"name": "operator", "version": version}]
            yield from write_status(
                CLUSTER_OPERATOR, "", name, conditions=_operator_conditions(problem), fields=fields, at=at
            )
        return pending

    def _problem(
        self, name: str, plane: Object, workloads: Mapping[str, Object], running: Mapping[str, int], owner: str
    ) -> str:
        """Why an operator is not available, "" where it is."""
        if name in CONTROL_PLANE_OPERATORS:
            operand = CONTROL_PLANE_OPERATORS[name]
            return "" if is_available(workloads.get(operand)) else f"{operand} is not available"
        if name in NODE_OPERATORS:
            runs = self._state.runs_anywhere(owner, NODE_OPERATORS[name])
            return "" if runs else 'DNS "default" is unavailable.'
        missing = [entry.name for entry in CLUSTER_WORKLOADS if entry.operator == name and not running.get(entry.name)]
        if name == "console" and not running.get("router-default"):
            route = f"https://console-openshift-console.apps.{_apps_domain(plane)}"
            return f"RouteHealthAvailable: failed to GET route ({route}): no endpoints available"
        return "" if not missing else f"deployment {missing[0]} has no running pods: no worker node is ready"

    def _write_version(self, plane: Object, pending: list[str], moment_s: float, at: str) -> Program[Object | None]:
        """The ClusterVersion: Completed once every operator has rolled out, and never taken back."""
        image, version = str(dig(plane, "spec", "releaseImage", default="")), self._version(plane)
        spec = {"clusterID": dig(plane, "spec", "clusterID"), "channel": ""}
        present = yield from ensure_exists(new(CLUSTER_VERSION, None, "version", spec=spec), CLUSTER_VERSION, at=at)
        history = [dict(entry) for entry in dig(present, "status", "history", default=[])]
        if not history or history[0].get("image") != image:
            entry = {"state": "Partial", "startedTime": timestamp(moment_s), "version": version, "image": image}
            history.insert(0, {**entry, "verified": False, "completionTime": None})
        if history[0]["state"] == "Partial" and not pending:
            history[0].update(state="Completed", completionTime=timestamp(moment_s))
        fields = {
            "desired": {"version": version, "image": image},
            "history": history,
            "observedGeneration": present["metadata"].get("generation", 1),
            "versionHash": "",
        }
        conditions = _version_conditions(version, pending, history[0]["state"] == "Completed")
        return (yield from write_status(CLUSTER_VERSION, "", "version", conditions=conditions, fields=fields, at=at))

    def _report(self, plane: Object, cluster_version: Object | None, owner: str) -> Program[None]:
        """What the config operator tells the HostedControlPlane about the inside."""
        conditions: dict[str, Condition | None] = dict(self._connections(owner))
        fields: Object = {}
        if cluster_version is not None:
            for name, source in _CLUSTER_VERSION.items():
                entry = condition_of(cluster_version, source)
                if entry is not None:
                    conditions[f"ClusterVersion{name}"] = _mirrored(name, entry)
            status: Object = cluster_version["status"]
            fields["versionStatus"] = {
                "desired": status["desired"],
                "history": status["history"],
                "observedGeneration": status["observedGeneration"],
            }
        namespace = plane["metadata"]["namespace"]
        yield from write_status(HOSTED_CONTROL_PLANE, namespace, name_of(plane), conditions=conditions, fields=fields)

    def _connections(self, owner: str) -> dict[str, Condition]:
        """Whether control plane and nodes reach each other through konnectivity."""
        none = "No worker nodes available"
        if not self._state.ready_nodes(owner):
            return {
                "DataPlaneConnectionAvailable": Condition("Unknown", "NoWorkerNodesAvailable", none),
                "ControlPlaneConnectionAvailable": Condition(
                    "Unknown", "NoWorkerNodesAvailable", f"{none} to verify control plane connectivity"
                ),
            }
        # The agents' logs are read through the tunnels of the agents: any of them will do.
        text = ""
        if not self._state.runs_anywhere(owner, KONNECTIVITY_AGENT):
            text = "Couldn't find any konnectivity-agent running in data plane"
        elif not self._state.tunnels.get(owner):
            text = "failed to read konnectivity-agent logs from data plane"
        if text:
            broken = Condition("False", "KonnectivityAgentPodsNotFound", text)
            return {
                "DataPlaneConnectionAvailable": broken,
                "ControlPlaneConnectionAvailable": Condition("True", "AsExpected", "All is well"),
            }
        good = Condition("True", "AsExpected", "All is well")
        return {"DataPlaneConnectionAvailable": good, "ControlPlaneConnectionAvailable": good}

    def _version(self, plane: Object) -> str:
        return self._settings.version_of(str(dig(plane, "spec", "releaseImage", default=""))) or ""


def next_look_in_s(owner: str, moment_s: float, observed: Observed, state: GuestState) -> float:
    """When the inside of a hosted cluster may be looked at again: a big one is looked at less often."""
    return observed.scan_due_in_s(*_scan(owner, moment_s, state))


def _scan(owner: str, moment_s: float, state: GuestState) -> tuple[str, float, float]:
    return f"operators/{owner}", moment_s, max(_PACE_S, len(state.nodes.get(owner, {})) * _SCAN_PER_NODE_S)


def _operator_conditions(problem: str) -> dict[str, Condition | None]:
    if not problem:
        return {
            "Available": Condition("True", "AsExpected", ""),
            "Progressing": Condition("False", "AsExpected", ""),
            "Degraded": Condition("False", "AsExpected", ""),
            "Upgradeable": Condition("True", "AsExpected", ""),
        }
    reason = "RouteHealth_FailedGet" if problem.startswith("RouteHealth") else "OperandUnavailable"
    return {
        "Available": Condition("False", reason, problem),
        "Progressing": Condition("True", "Progressing", problem),
        "Degraded": Condition("False", "AsExpected", ""),
        "Upgradeable": Condition("True", "AsExpected", ""),
    }


def _version_conditions(version: str, pending: list[str], completed: bool) -> dict[str, Condition | None]:
    done = Condition("True", "", f"Done applying {version}")
    if pending:
        text = f"Unable to apply {version}: some cluster operators have not yet rolled out"
        if len(pending) == 1:
            text = f"Unable to apply {version}: the cluster operator {pending[0]} has not yet successfully rolled out"
        reason = "ClusterOperatorNotAvailable" if len(pending) == 1 else "ClusterOperatorsNotAvailable"
        failing = Condition("True", reason, text.partition(": ")[2])
        progressing = (
            Condition("False", "", f"Error while reconciling {version}")
            if completed
            else Condition("True", reason, text)
        )
    else:
        failing = Condition("False", "", "")
        progressing = Condition("False", "", f"Cluster version is {version}")
    return {
        "Available": done if completed else Condition("False", "", ""),
        "Failing": failing,
        "Progressing": progressing,
        "ReleaseAccepted": Condition("True", "PayloadLoaded", f'Payload loaded version="{version}"'),
        "Upgradeable": Condition("True", "AsExpected", ""),
    }


def _mirrored(name: str, entry: Object) -> Condition:
    """A condition of the ClusterVersion as HostedControlPlanes carry it: Succeeding is Failing turned round."""
    status = entry["status"]
    if name == "Succeeding":
        status = {"True": "False", "False": "True"}.get(status, status)
    return Condition(status, entry.get("reason") or "FromClusterVersion", entry.get("message", ""))


def _apps_domain(plane: Object) -> str:
    prefix = dig(plane, "spec", "dns", "baseDomainPrefix")
    base = dig(plane, "spec", "dns", "baseDomain", default="")
    first = name_of(plane) if prefix is None else prefix
    return f"{first}.{base}" if first else str(base)


def _owner_key(owner: str) -> Key:
    namespace, _, name = owner.partition("/")
    return Key(namespace, name)
