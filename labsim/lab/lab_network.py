"""The libvirt network of a lab: planned from what the lab asks for and what this host has already, made, and served."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from labsim.errors import UsageError
from labsim.lab.names import HUB_DOMAIN, HUB_NAMES, Addresses
from labsim.lab.serving import LOOPBACK, Serving
from labsim.machines.driver import Journal
from labsim.machines.libvirt.errors import HypervisorError
from labsim.machines.libvirt.host_routes import address_of
from labsim.machines.libvirt.network_xml import NetworkSpec, subnets_of
from labsim.machines.libvirt.networks import LabNetwork, present_network, taken_networks
from labsim.model.scenario import LabSpec
from labsim.network.subnets import Network as Subnet
from labsim.network.subnets import free_subnet, free_subnet6, given_subnet
from labsim.network.zone import Record

NETWORK_TAKEN = "network-taken"  # a rule of the hypervisor's errors
_TRIES = 4  # another lab may take a subnet between the look and the making


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlace:
    """Where a lab's network goes. mark: the lab's; folder: the lab's."""

    mark: str
    folder: Path
    uri: str


def make_network(spec: LabSpec, place: NetworkPlace, journal: Journal, serving: Serving) -> LabNetwork:
    """Make the network that a lab asks for. Raises LabError."""
    if spec.dns.stack == "IPv6":
        raise UsageError(
            "libvirt machines need IPv4 to be started and found", hint="lab.dns.stack: dual has both families"
        )
    if spec.network.mode == "bridge" and spec.dns.stack != "IPv4":
        raise UsageError("on a bridge of the host labs have IPv4 only", hint="leave lab.dns.stack out")
    present = present_network(place.uri, network_uuid(place.mark), place.mark)
    if present:
        kept = plan_network(spec, place, [], serving.name_server.port, subnets=subnets_of(present))
        network = LabNetwork(kept, mark=place.mark, journal=journal, uri=place.uri, is_new=False)
        network.make()
        return network
    taken = taken_networks(place.uri)
    problem: HypervisorError | None = None
    for _ in range(_TRIES):
        planned = plan_network(spec, place, taken, serving.name_server.port)
        network = LabNetwork(planned, mark=place.mark, journal=journal, uri=place.uri)
        try:
            network.make()
        except HypervisorError as error:
            if error.rule.name != NETWORK_TAKEN or spec.network.subnet or not planned.subnet:
                raise
            problem = error
            taken.append(ipaddress.IPv4Network(planned.subnet))
        else:
            return network
    assert problem is not None
    raise problem


def plan_network(
    spec: LabSpec,
    place: NetworkPlace,
    taken: Iterable[Subnet],
    name_server_port: int,
    *,
    subnets: Sequence[Subnet] = (),
) -> NetworkSpec:
    """The network of a lab. Pure: `taken` is what it must not overlap; `subnets` those that it has already."""
    digest = hashlib.sha256(place.mark.encode()).hexdigest()
    wanted, taken = spec.network, list(taken)
    common = NetworkSpec(
        name=f"labsim-{place.mark}",
        uuid=network_uuid(place.mark),
        bridge=wanted.bridge or f"lab{digest[:10]}",
        mode="isolated" if wanted.mode == "user" else wanted.mode,
        folder=str(place.folder.resolve()),
    )
    if wanted.mode == "bridge":
        return common
    with_subnets = dataclasses.replace(
        common,
        subnet=_of_family(subnets, 4) or str(_chosen(wanted.subnet, taken, place.mark)),
        subnet6=_of_family(subnets, 6) or (str(free_subnet6(taken, place.mark)) if spec.dns.stack == "dual" else ""),
        forwards=((spec.base_domain, f"{LOOPBACK}#{name_server_port}"), (HUB_DOMAIN, f"{LOOPBACK}#{name_server_port}")),
    )
    # The hub's own names are the network's; those of hosted clusters come and go, and the lab's name server knows them.
    hub = [Record(name, address) for name in HUB_NAMES for address in (with_subnets.gateway, with_subnets.gateway6)]
    return dataclasses.replace(with_subnets, records=tuple(record for record in hub if record.address))


def network_uuid(mark: str) -> str:
    """The identity of a lab's network."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"labsim:network:{mark}"))


def _chosen(given: str, taken: Iterable[Subnet], mark: str) -> ipaddress.IPv4Network:
    return given_subnet(given, taken) if given else free_subnet(taken, mark)


def _of_family(subnets: Sequence[Subnet], version: int) -> str:
    return next((str(subnet) for subnet in subnets if subnet.version == version), "")


def addresses_in(network: NetworkSpec, serving: Serving) -> Addresses:
    """Where the machines of a network find the hub; it is served there when this returns."""
    if network.mode == "bridge":
        hub_ip = address_of(network.bridge)
        serving.listen_at([hub_ip], names=True)
        return Addresses(
            hub_ip=hub_ip,
            service_port=serving.port,
            load_balancers=(hub_ip,),
            name_server=(hub_ip, serving.name_server.port),
        )
    serving.listen_at([address for address in (network.gateway, network.gateway6) if address])
    return Addresses(
        hub_ip=network.gateway,
        hub_ip6=network.gateway6,
        service_port=serving.port,
        load_balancers=(network.gateway,),
    )
