"""Keeps a lab's zone: the hub's own names, and the records of every hosted cluster that is on its hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labsim.kube.store import Revision
from labsim.lab.names import HUB_DOMAIN, of_stack
from labsim.model.kinds import HOSTED_CLUSTER, SERVICE
from labsim.model.objects import Object, annotations_of, dig, is_deleting
from labsim.network.zone import hosted_cluster_records

if TYPE_CHECKING:
    from labsim.lab.lab import Lab

HUB_OWNER = "hub"
_CLUSTER_ANNOTATION = "hypershift.openshift.io/cluster"


class LabNames:
    """Does what a person does who runs the lab's DNS: makes the records that the documentation asks for, when there
    is a hosted cluster to make them for. `lab.dns.missing` of the scenario are those that the person forgot."""

    def __init__(self, lab: Lab) -> None:
        self._addresses, self._stack = lab.options.addresses, lab.spec.dns.stack
        self._zone = lab.world.fabric.zone
        self._clusters: dict[str, Object] = {}
        self._balanced: dict[str, tuple[str, ...]] = {}  # clusters whose API server has a load balancer
        self._zone.put(HUB_OWNER, HUB_DOMAIN, self._addresses.hub_records(self._stack))
        self._zone.leave_out(lab.spec.dns.missing)
        if lab.options.kept is not None and lab.world.hub_in_process is not None:
            for kind in (HOSTED_CLUSTER, SERVICE):
                for entry in lab.world.hub_in_process.store.list(kind):
                    self._heard(entry)
        lab.world.hub_server.subscribe(self._heard)

    def _heard(self, revision: Revision) -> None:
        if revision.kind == HOSTED_CLUSTER:
            owner = f"{revision.namespace}/{revision.name}"
            if revision.type == "DELETED":
                self._clusters.pop(owner, None)
                self._balanced.pop(owner, None)
                self._zone.remove(owner)
            else:
                self._clusters[owner] = revision.object
                self._put(owner)
        elif revision.kind == SERVICE and revision.name == "kube-apiserver":
            self._note_load_balancer(revision.object)

    def _note_load_balancer(self, service: Object) -> None:
        owner = annotations_of(service).get(_CLUSTER_ANNOTATION, "")
        ingress = dig(service, "status", "loadBalancer", "ingress", default=())
        addresses = tuple(entry["ip"] for entry in ingress if entry.get("ip"))
        if owner in self._clusters and not is_deleting(service) and self._balanced.get(owner, ()) != addresses:
            self._balanced[owner] = addresses
            self._put(owner)

    def _put(self, owner: str) -> None:
        cluster = self._clusters[owner]
        base = dig(cluster, "spec", "dns", "baseDomain", default="")
        if not base:
            return
        prefix = dig(cluster, "spec", "dns", "baseDomainPrefix", default=cluster["metadata"]["name"])
        api = of_stack(self._balanced.get(owner, ()), self._stack) or self._addresses.of_hub(self._stack)
        apps = self._addresses.of_apps(self._stack)
        domain = f"{prefix}.{base}" if prefix else base
        self._zone.put(owner, domain, hosted_cluster_records(domain, api=api, apps=apps))
