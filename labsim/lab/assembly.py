"""The components of a lab's hub, set up for that lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labsim.controllers.agent_provider.component import AgentProvider
from labsim.controllers.capi.component import Capi
from labsim.controllers.cim.component import Cim
from labsim.controllers.cim.kept_rows import RowsKeeper, restore_rows
from labsim.controllers.cim.settings import CimSettings, HardwareMinimums
from labsim.controllers.hypershift.component import HyperShift
from labsim.controllers.hypershift.create_cluster import CreateClusterOptions, create_cluster_agent_objects
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.importer.component import Importer
from labsim.controllers.kube.component import KubeControllers
from labsim.controllers.runtime.component import Component
from labsim.discovery.base_image import BaseImage, plain_base_image
from labsim.lab.names import IMAGE_SERVICE_NAME, ROUTES_DOMAIN, SERVICE_NAME
from labsim.lab.objects import pull_secret_text
from labsim.model.objects import Object
from labsim.model.scenario import CreateHostedClusterStep

if TYPE_CHECKING:
    from labsim.lab.lab import Lab


def add_components(lab: Lab) -> None:
    """Put every component that labsim plays into the lab's world, and CIM's routes on its fabric."""
    world, outside = lab.world, lab.options.hub
    external = lab.spec.hub.components.external()
    # A cluster makes the pods of its Deployments too; on our own hub nobody else could, whoever collects garbage there.
    cluster_makes_pods = outside is not None and outside.runs_kube_controllers
    runs_kube_controllers = cluster_makes_pods if outside else "kubeControllers" in external
    hypershift = HyperShift(
        world.entropy,
        HyperShiftSettings(makes_pods=not cluster_makes_pods, routes_domain="" if outside else ROUTES_DOMAIN),
    )
    cim = Cim(world.entropy, cim_settings(lab))
    kept = lab.options.kept
    if cim.name not in external:
        _keep_rows(lab, cim)
    played: tuple[Component, ...] = (
        KubeControllers(on_hub=not runs_kube_controllers, load_balancers=lab.options.addresses.load_balancers),
        cim,
        Capi(world.entropy, "" if kept is None else kept.life),
        AgentProvider(world.entropy),
        hypershift,
        Importer(),
    )
    for component in played:
        if component.name not in external or component.name == KubeControllers.name:  # hosted clusters have theirs
            world.add(component)
    if hypershift.name not in external:
        world.hosted_authentication = hypershift.hosted_authentication
    if cim.name not in external:
        _serve_cim(lab, cim)


def _keep_rows(lab: Lab, cim: Cim) -> None:
    """CIM's database goes on from what was kept, and is kept itself."""
    kept, durability = lab.options.kept, lab.options.durability
    if kept is not None:
        restore_rows(cim.database, kept.cim, kept.life)
        kept.cim.clear()
    if durability is not None:
        rows = RowsKeeper(cim.database, durability.changed)
        durability.keep("cim", rows.everything, rows.take)


def _serve_cim(lab: Lab, cim: Cim) -> None:
    """CIM's webhooks on the hub, and its two services."""
    world, addresses = lab.world, lab.options.addresses
    if lab.options.hub is None:
        world.hub.admission.extend(cim.admission_hooks())
    else:
        lab.options.hub.admit(cim.admission_hooks())
    for service, host in (("assisted-service", SERVICE_NAME), ("assisted-image-service", IMAGE_SERVICE_NAME)):
        world.publish_service(service, host, addresses.service_port, ca_pem=lab.options.ca_pem)


def cim_settings(lab: Lab) -> CimSettings:
    """CIM as the lab's file and profile want it."""
    options, sizes = lab.options, lab.options.sizes
    minimums = HardwareMinimums()
    if sizes.minimum_cpus is not None:
        minimums = HardwareMinimums.uniform(
            cpu_cores=sizes.minimum_cpus,
            memory_mib=sizes.minimum_memory_mib or 0,
            disk_gb=sizes.minimum_disk_gb or 0,
        )
    return CimSettings(
        service_base_url=options.addresses.service_url,
        image_service_base_url=options.addresses.image_service_url,
        reclaim=lab.spec.cim.reclaim,
        minimums=minimums,
        ca_pem=options.ca_pem,
        hosts_entry=options.addresses.hosts_entry(lab.spec.dns.stack),
        name_server="{}:{}".format(*options.addresses.name_server) if options.addresses.name_server else "",
        pace_json=options.pace_file,
        base_image=_base_image(options.base_iso, options.folder),
    )


def _base_image(base_iso: Path | None, folder: Path) -> BaseImage:
    if base_iso is None:
        return plain_base_image(folder)
    return BaseImage(path=base_iso)


def _published_address(lab: Lab, step: CreateHostedClusterStep) -> str:
    """A name, as the documentation has it. Components that somebody else runs ask this host's resolver for names,
    which does not know the lab's: they are given the address."""
    if lab.spec.hub.components.external():
        return lab.options.addresses.hub_ip
    return f"api.{step.name}.{lab.spec.base_domain}"


def hosted_cluster_objects(lab: Lab, step: CreateHostedClusterStep, agent_namespace: str) -> list[Object]:
    """The objects of `hcp create cluster agent` for a step of a scenario."""
    entropy = lab.entropy.child(f"hosted-cluster/{step.namespace}/{step.name}")
    selector = (
        {"matchLabels": dict(step.node_pool.agent_label_selector)} if step.node_pool.agent_label_selector else None
    )
    return create_cluster_agent_objects(
        CreateClusterOptions(
            name=step.name,
            namespace=step.namespace,
            pull_secret=pull_secret_text(lab.entropy),
            agent_namespace=agent_namespace,
            api_server_address=step.api_server_address or _published_address(lab, step),
            base_domain=lab.spec.base_domain,
            infra_id=f"{step.name}-{entropy.text('infra-id')}",
            etcd_encryption_key=entropy.bytes("etcd-encryption-key", 32),
            release_image=step.release_image,
            api_server_publishing=step.publish,
            node_pool_replicas=step.node_pool.replicas,
            node_upgrade_type=step.node_pool.upgrade_type,
            control_plane_availability_policy=step.availability,
            agent_label_selector=selector,
            ssh_key=lab.ssh_public_key(),
        )
    )
