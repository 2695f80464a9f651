"""A lab on a cluster of its own, which kind makes for it and which goes with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from labsim.errors import LabError
from labsim.hub.kind.command import KindCommand
from labsim.hub.kind.configuration import configuration
from labsim.hub.plain.marks import new_lab_id
from labsim.lab.hub_choice import PLAIN, HubChoice
from labsim.lab.interruption import uninterrupted
from labsim.lab.lab_request import LabRequest
from labsim.lab.ledger import Entry, Ledger, Remover
from labsim.lab.opening import OpenLab
from labsim.lab.plain import open_plain_lab
from labsim.model.scenario import LabSpec

LEDGER_KIND = "kind cluster"
NAME_CHARACTERS = 32  # containers are named after it
KUBECONFIG = "kind-kubeconfig"


def open_kind_lab(spec: LabSpec, request: LabRequest) -> OpenLab:
    """Create the cluster and a lab on it. LabError where kind or its container runtime is missing."""
    kind = KindCommand.found()
    cluster = f"labsim-{new_lab_id(request.name[:NAME_CHARACTERS])}"
    request.folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = request.folder / KUBECONFIG
    journal = Ledger(request.ledger)
    detail = {"runtime": kind.runtime, "kubeconfig": str(kubeconfig.resolve())}
    journal.intend(LEDGER_KIND, cluster, mark=cluster, detail=detail)

    def delete() -> None:
        kind.delete(cluster, kubeconfig)
        journal.removed(LEDGER_KIND, cluster)

    try:
        kind.create(
            cluster, configuration(cluster, image=request.hub.kind_image, node_ports=request.hub.kind_ports), kubeconfig
        )
        journal.created(LEDGER_KIND, cluster)
        made = HubChoice(hub=PLAIN, kubeconfig=str(kubeconfig), kube_controllers="external")
        opened = open_plain_lab(spec, dataclasses.replace(request, hub=made), goes_with_its_cluster=True)
    except BaseException as failed:
        try:
            with uninterrupted():
                delete()
        except LabError as left:
            reason = failed if isinstance(failed, LabError) else LabError(str(failed))
            raise LabError(
                f"{reason.message}; and {left.message}", hint="labsim down removes what is left, once the cause is gone"
            ) from failed
        raise
    opened.at_last(delete)
    return opened


def _remove(entry: Entry) -> None:
    if is_left(entry):
        KindCommand(entry.detail["runtime"]).delete(entry.mark, Path(entry.detail["kubeconfig"]))


def is_left(entry: Entry) -> bool:
    """Whether the cluster of a ledger's entry exists."""
    return entry.mark in KindCommand(entry.detail["runtime"]).clusters()


def removers() -> dict[str, Remover]:
    return {LEDGER_KIND: _remove}
