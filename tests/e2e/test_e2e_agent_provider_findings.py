"""Findings in the real manager of cluster-api-provider-agent: what happens with a build of the user's own.

The manager runs against the API alone, and the test does by hand what Cluster API does, so that the moments are exact.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.controllers.agent_provider.names import AGENT_MACHINE_FINALIZER, AGENT_MACHINE_LABEL, DELETION_HOOK
from labsim.edge_time import monotonic_s, wait_s
from labsim.hub.embedded.bare import BareHub
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.kube.crds import hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.patches import MERGE_PATCH
from labsim.kube.users import ADMIN
from labsim.model.kinds import AGENT, AGENT_CLUSTER, AGENT_MACHINE, CLUSTER, MACHINE, NAMESPACE, Kind
from labsim.model.objects import Object, annotations_of, finalizers_of, labels_of, new, owner_reference

PLACE, POOL, NAME = "clusters-red", "pool", "red-0"
WITHIN_S = 60.0
SETTLES_S = 3.0  # far longer than a manager needs for a pass over one AgentMachine
ENDS_WITHIN_S = 30.0
SINCE = "2026-01-02T03:04:05Z"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ClusterConnection]:
    hub = BareHub({"the-token": ADMIN}, crds=hub_crds())
    try:
        hub.write_kubeconfig(tmp_path / "kubeconfig", "the-token", "admin")
        connection = ClusterConnection(ClusterAccess(kubeconfig=tmp_path / "kubeconfig"))
        for namespace in (PLACE, POOL):
            connection.call("POST", NAMESPACE.path(), body=new(NAMESPACE, None, namespace))
        yield connection
        connection.close()
    finally:
        hub.close()


@pytest.fixture
def manager(api: ClusterConnection, agent_provider_manager: Path, tmp_path: Path) -> Iterator[None]:
    """The manager of one hosted cluster, running."""
    flags = ["--namespace", PLACE, "--agent-namespace", POOL]
    flags += ["--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    with (tmp_path / "manager.log").open("wb") as log:
        process = subprocess.Popen([str(agent_provider_manager), *flags], env=environment, stdout=log, stderr=log)
    yield
    process.terminate()
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make(api: ClusterConnection, kind: Kind, namespace: str, name: str, **parts: Any) -> Object:
    """Create an object, with its status where it is given one."""
    made = new(kind, namespace, name, spec=parts.get("spec", {}))
    made["metadata"].update(parts.get("metadata", {}))
    stored = api.call("POST", kind.path(namespace), body=made)
    return say(api, kind, namespace, name, parts["status"]) if "status" in parts else stored


def say(api: ClusterConnection, kind: Kind, namespace: str, name: str, status: Object) -> Object:
    path = f"{kind.path(namespace, name)}/status"
    return api.call("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)


def present(api: ClusterConnection, kind: Kind, namespace: str = PLACE, name: str = NAME) -> Object | None:
    try:
        return api.call("GET", kind.path(namespace, name))
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def wait_for(what: str, is_so: Callable[[], object]) -> None:
    deadline_s = monotonic_s() + WITHIN_S
    while not is_so():
        assert monotonic_s() < deadline_s, f"waited {WITHIN_S:.0f} s for {what}"
        wait_s(0.05)


def make_claimed_machine(api: ClusterConnection) -> None:
    """A Machine whose AgentMachine has claimed the only agent."""
    reference = {"apiVersion": AGENT_CLUSTER.api_version, "kind": AGENT_CLUSTER.kind, "name": "red", "namespace": PLACE}
    make(api, CLUSTER, PLACE, "red", spec={"infrastructureRef": reference})
    endpoint = {"host": "api.red.example.com", "port": 6443}
    installed = {"clusterDeploymentReference": {"name": "red", "namespace": PLACE}}
    make(api, AGENT_CLUSTER, PLACE, "red", spec={"controlPlaneEndpoint": endpoint}, status=installed)
    conditions = [
        {"type": name, "status": status, "reason": name, "message": "", "lastTransitionTime": SINCE}
        for name, status in (("Bound", "False"), ("Connected", "True"), ("Validated", "True"))
    ]
    free = {"conditions": conditions, "debugInfo": {"state": "known-unbound"}}
    make(api, AGENT, POOL, "agent", spec={"approved": True, "role": ""}, status=free)
    reference = {"apiVersion": AGENT_MACHINE.api_version, "kind": AGENT_MACHINE.kind, "name": NAME, "namespace": PLACE}
    machine = make(
        api,
        MACHINE,
        PLACE,
        NAME,
        metadata={"labels": {"cluster.x-k8s.io/cluster-name": "red"}, "finalizers": ["machine.cluster.x-k8s.io"]},
        spec={"clusterName": "red", "bootstrap": {}, "infrastructureRef": reference},
    )
    make(api, AGENT_MACHINE, PLACE, NAME, metadata={"ownerReferences": [owner_reference(machine, controller=True)]})
    wait_for("the claim", lambda: AGENT_MACHINE_LABEL in labels_of(present(api, AGENT, POOL, "agent") or {}))
    wait_for("the hook", lambda: DELETION_HOOK in annotations_of(present(api, MACHINE) or {}))
    wait_for("the finalizer", lambda: AGENT_MACHINE_FINALIZER in finalizers_of(present(api, AGENT_MACHINE) or {}))


def reaches(api: ClusterConnection, reason: str, hook_succeeded: str) -> None:
    """The Machine's end has got to a stage, in the conditions of both generations."""
    old = {"type": "PreTerminateDeleteHookSucceeded", "status": hook_succeeded, "lastTransitionTime": SINCE}
    newer = {"type": "Deleting", "status": "True", "reason": reason, "message": "", "lastTransitionTime": SINCE}
    say(api, MACHINE, PLACE, NAME, {"conditions": [old], "v1beta2": {"conditions": [newer]}})


def version_read_by_the_manager(api: ClusterConnection) -> str:
    """In which version of Cluster API the manager has put its hook on the Machine."""
    for entry in (present(api, MACHINE) or {})["metadata"]["managedFields"]:
        if f"f:{DELETION_HOOK}" in entry["fieldsV1"].get("f:metadata", {}).get("f:annotations", {}):
            return str(entry["apiVersion"]).rpartition("/")[2]
    raise AssertionError("nobody owns the hook")


def release(api: ClusterConnection) -> None:
    """The Machine is deleted, waits at its hook, and the manager lets it go."""
    api.call("DELETE", MACHINE.path(PLACE, NAME))
    reaches(api, "WaitingForPreTerminateHook", "False")
    wait_for("the hook's end", lambda: DELETION_HOOK not in annotations_of(present(api, MACHINE) or {}))
    wait_for("no finalizer", lambda: not finalizers_of(present(api, AGENT_MACHINE) or {}))


@pytest.mark.usefixtures("manager")
def test_an_agent_machine_that_is_deleted_at_once_goes(api: ClusterConnection) -> None:
    make_claimed_machine(api)
    release(api)
    api.call("DELETE", AGENT_MACHINE.path(PLACE, NAME))
    assert present(api, AGENT_MACHINE) is None


@pytest.mark.usefixtures("manager")
def test_a_manager_that_reads_v1beta2_holds_an_agent_machine_that_is_deleted_later(api: ClusterConnection) -> None:
    """Hazard H1. Cluster API drains again after the hook, say, and deletes the AgentMachine when that is done.

    A manager that reads v1beta1 sees that the hook is over, whatever comes next. One that reads v1beta2 knows no more
    than the stage, takes the Machine for a live one, and its finalizer on the AgentMachine is there for good.
    """
    make_claimed_machine(api)
    version = version_read_by_the_manager(api)
    release(api)
    reaches(api, "DrainingNode", "True")
    wait_s(SETTLES_S)
    reaches(api, "WaitingForInfrastructureDeletion", "True")
    api.call("DELETE", AGENT_MACHINE.path(PLACE, NAME))
    wait_s(SETTLES_S)
    left = present(api, AGENT_MACHINE)
    found = "goes" if left is None else f"is held by {', '.join(finalizers_of(left))}"
    recorded = {"v1beta1": "goes", "v1beta2": f"is held by {AGENT_MACHINE_FINALIZER}"}
    assert found == recorded[version], f"reads {version}: not the recorded finding (docs/decisions/0100)"
