"""A lab on a plain Kubernetes cluster: our definitions and objects on it, everything else in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labsim.controllers.runtime.effects import Unreachable
from labsim.errors import LabError
from labsim.hub.client import HubClient
from labsim.hub.embedded.kubeconfig import write_private
from labsim.hub.plain import definitions
from labsim.hub.plain.client import PlainClient
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.image_of import image_authorities
from labsim.hub.plain.in_world_time import InWorldTime
from labsim.hub.plain.marks import new_lab_id
from labsim.hub.plain.scope import Scope
from labsim.hub.plain.server import PlainServer
from labsim.hub.plain.sweep import marked_objects, sweep
from labsim.kube.crds import plain_hub_crds
from labsim.kube.errors import ApiError
from labsim.kube.writes import AdmissionHook
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab_request import LabRequest
from labsim.lab.ledger import CREATED, Entry, Ledger, Remover
from labsim.lab.opening import OpenLab
from labsim.model.kinds import NAMESPACE, SERVICE_ACCOUNT
from labsim.model.objects import name_of, namespace_of
from labsim.model.scenario import LabSpec
from labsim.world.pace import RealPace

if TYPE_CHECKING:
    from labsim.world.world import World

DEFAULT_PLAIN_SPEED = 30.0  # a write that takes 20 ms takes 0.6 s in the world
# The groups that a component's owner defines, where labsim does not play the component.
GROUPS = {
    "cim": ("agent-install.openshift.io", "extensions.hive.openshift.io", "hive.openshift.io"),
    "capi": ("cluster.x-k8s.io",),
    "agentProvider": ("capi-provider.agent-install.openshift.io",),
    "hypershift": ("hypershift.openshift.io",),
    "import": ("cluster.open-cluster-management.io", "addon.open-cluster-management.io"),
}
LEDGER_KIND = "objects on a cluster"
HINT = "is it up? see --kubeconfig and --context; of a cluster that is gone for good, delete the lab's folder"


class PlainHub:
    """A cluster as the hub of one lab."""

    def __init__(self, connection: ClusterConnection, lab_id: str, *, runs_kube_controllers: bool) -> None:
        self.runs_kube_controllers = runs_kube_controllers
        self._connection = connection
        self._lab_id = lab_id
        self._server: PlainServer | None = None

    def connect(self, world: World) -> PlainServer:
        pace = world.pace
        if not isinstance(pace, RealPace):
            raise LabError("a hub outside the process needs paced time", hint="give a --speed above 0")
        self._server = PlainServer(
            self._connection,
            Scope(self._lab_id),
            world,
            InWorldTime(pace.in_world_of, world.now),
            lambda kind: world.missed("hub", kind.kind),
        )
        return self._server

    def client(self) -> HubClient:
        return PlainClient(self._connected)

    def admit(self, hooks: Sequence[AdmissionHook]) -> None:
        self._connected.admission.extend(hooks)

    def image_authorities(self) -> str:
        return image_authorities(self._connection)

    def close(self) -> None:
        """End its watches and requests; nothing is removed."""
        if self._server is not None:
            self._server.close()

    @property
    def _connected(self) -> PlainServer:
        if self._server is None:
            raise RuntimeError("no world is connected to this hub")
        return self._server


def open_plain_lab(spec: LabSpec, request: LabRequest, *, goes_with_its_cluster: bool = False) -> OpenLab:
    """A lab on the cluster of a kubeconfig. LabError, and nothing touched, where the cluster has kinds of its own that
    we would simulate. goes_with_its_cluster: the cluster is deleted with the lab, so nothing is taken off it."""
    from labsim.lab.virtual_machines import DEFAULT_VM_SPEED, open_with_machines

    hub = request.hub
    simulated = request.machines == "simulated"
    access = ClusterAccess(kubeconfig=hub.kubeconfig_path or default_kubeconfig(), context=hub.context)
    connection = ClusterConnection(access)
    components = spec.hub.components.external()
    theirs = {group for component in components for group in GROUPS.get(component, ())}
    with answering(connection):
        cluster = cluster_identity(connection)
        definitions.check(connection, plain_hub_crds(), theirs)
        external = "kubeControllers" in components or (
            has_kube_controllers(connection) if hub.kube_controllers == "auto" else hub.kube_controllers == "external"
        )
    lab_id = new_lab_id(request.name)
    journal = Ledger(request.ledger)
    detail = {
        "cluster": cluster,
        "kubeconfig": str(access.kubeconfig.resolve()),
        "context": access.context,
        "kubeControllers": "external" if external else "simulated",
    }
    if not goes_with_its_cluster:
        journal.intend(LEDGER_KIND, lab_id, mark=lab_id, detail=detail)
    plain = PlainHub(connection, lab_id, runs_kube_controllers=external)

    def leave() -> None:
        plain.close()
        if goes_with_its_cluster:
            return
        remove_objects(Entry(kind=LEDGER_KIND, identity=lab_id, mark=lab_id, state=CREATED, detail=detail))
        journal.removed(LEDGER_KIND, lab_id)

    try:
        with answering(connection):
            definitions.install(connection, plain_hub_crds(), lab_id, theirs)
        paced = request.at_speed(DEFAULT_PLAIN_SPEED if simulated else DEFAULT_VM_SPEED)
        opened = open_with_machines(spec, paced, plain)
    except BaseException as failed:
        try:
            with uninterrupted():
                leave()
        except LabError as left:
            reason = failed if isinstance(failed, LabError) else LabError(str(failed))
            raise LabError(
                f"{reason.message}; what was made so far could not be removed: {left.message}",
                hint=" ".join(hint for hint in (reason.hint, left.hint) if hint),
            ) from failed
        raise
    opened.at_last(leave)
    opened.hub_url = connection.url
    opened.write_hub_kubeconfig = lambda path: write_private(path, connection.access.text())
    if simulated and isinstance(opened.lab.world.pace, RealPace):  # VMs have been told when it began
        opened.lab.world.pace.begin()
    return opened


def default_kubeconfig() -> Path:
    """Where kubectl looks: `$KUBECONFIG`, or `~/.kube/config`."""
    return Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")


@contextlib.contextmanager
def answering(connection: ClusterConnection) -> Iterator[None]:
    """A block in which a cluster that does not answer, or that refuses, is an error of the lab's."""
    try:
        yield
    except Unreachable as away:
        raise LabError(
            f"the cluster does not answer: {away}",
            hint=HINT,
        ) from away
    except ApiError as error:
        raise LabError(
            f"the cluster at {connection.url} refuses: {error.message}", hint="the user has to be its administrator"
        ) from error


def cluster_identity(connection: ClusterConnection) -> str:
    """What tells a cluster from another one at the same address: the uid of its kube-system namespace."""
    return str(connection.call("GET", NAMESPACE.path("", "kube-system"))["metadata"]["uid"])


def has_kube_controllers(connection: ClusterConnection) -> bool:
    """Whether somebody ends namespaces and collects garbage: it would have made the first ServiceAccount too."""
    try:
        connection.call("GET", SERVICE_ACCOUNT.path("default", "default"))
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return True


def remove_objects(entry: Entry) -> None:
    """Take a lab off its cluster, by what the ledger says. Quiet where the cluster is another one now."""
    kubeconfig = Path(entry.detail["kubeconfig"])
    connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig, context=entry.detail["context"]))
    try:
        with answering(connection):
            if cluster_identity(connection) == entry.detail["cluster"]:
                sweep(connection, entry.mark, ends_namespaces=entry.detail["kubeControllers"] == "simulated")
    finally:
        connection.close()


def objects_left(entry: Entry) -> list[str]:
    """Kind and name of each object that a lab left on the cluster of a ledger's entry; none where it is another one."""
    kubeconfig = Path(entry.detail["kubeconfig"])
    connection = ClusterConnection(ClusterAccess(kubeconfig=kubeconfig, context=entry.detail["context"]))
    try:
        with answering(connection):
            if cluster_identity(connection) != entry.detail["cluster"]:
                return []
            found = marked_objects(connection, entry.mark)
    finally:
        connection.close()
    return [f"{obj['kind']} {'/'.join(part for part in (namespace_of(obj), name_of(obj)) if part)}" for obj in found]


def removers() -> dict[str, Remover]:
    return {LEDGER_KIND: remove_objects}
