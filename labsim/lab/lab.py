"""A lab on the embedded hub: a world with its components, machines of one driver, and what people ask of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labsim.clock import VIRTUAL_EPOCH_S
from labsim.entropy import Entropy
from labsim.errors import LabError, UsageError
from labsim.history import History
from labsim.hub.client import DirectClient, HubClient, OutsideHub
from labsim.hub.embedded.clients import HubClients
from labsim.kube.store import Revision
from labsim.lab import objects
from labsim.lab.assembly import add_components, hosted_cluster_objects
from labsim.lab.images import DiscoveryImages
from labsim.lab.lab_names import LabNames
from labsim.lab.lab_request import LabRequest, silent
from labsim.lab.logins import Logins
from labsim.lab.machine_faults import MachineFaults
from labsim.lab.machine_specs import host_id_of, machine_spec, new_disk, new_nic
from labsim.lab.machine_traffic import MachineTraffic
from labsim.lab.names import VIRTUAL, Addresses
from labsim.lab.sizes import Sizes
from labsim.machines.driver import USER_NETWORK, HasConsole, MachineDriver, MachineSpec, Power
from labsim.machines.simulated.driver import SimulatedDriver
from labsim.model.http import Response, request_for_url
from labsim.model.kinds import (
    AGENT,
    AGENT_SERVICE_CONFIG,
    HOSTED_CLUSTER,
    INFRA_ENV,
    NAMESPACE,
    SECRET,
    STORAGE_CLASS,
    kind_of,
)
from labsim.model.machine_fault import MachineFault
from labsim.model.machine_group import Disk, MachineGroup, Nic
from labsim.model.objects import Object, name_of
from labsim.model.scenario import CreateHostedClusterStep, InfraEnvSpec, LabSpec
from labsim.world.durability import Durability, KeptState
from labsim.world.pace import Pace
from labsim.world.world import World

if TYPE_CHECKING:
    from labsim.lab.serving import Serving

ISO_WITHIN_S = 300.0
ISO_REAL_FLOOR_S = 20.0  # a fast world still has to wait for slow disks, hubs and hypervisors


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """What is chosen beside the lab's specification.

    folder: for ISOs, volumes and consoles; history: where its lines go; base_iso: what CIM makes its ISOs from, a plain
    one without a kernel by default; ca_pem: what vouches for the hub's certificates in the machines; talk: told what is
    being done.
    """

    name: str
    folder: Path
    seed: str = "1"
    sizes: Sizes = Sizes()  # noqa: RUF009  (frozen)
    pace: Pace | None = None
    start_s: float = VIRTUAL_EPOCH_S
    addresses: Addresses = VIRTUAL
    history: IO[bytes] | None = None
    history_contents: bool = True
    port_is_free: Callable[[int], bool] = lambda port: True
    base_iso: Path | None = None
    ca_pem: str = ""
    pace_file: str = ""  # content of /etc/labsim/pace.json in the machines; "" where their clock is the world's own
    driver: Callable[[Lab], MachineDriver] | None = None
    hub: OutsideHub | None = None  # a cluster that is the hub, instead of the world's own
    network: str = USER_NETWORK  # what the machines' cards are in
    identity: str = ""  # what tells this lab's machines from those of every other lab on their hypervisor
    talk: Callable[[str], None] = silent
    began_s: float = VIRTUAL_EPOCH_S  # when in-world time and this host's were the same
    durability: Durability | None = None  # keeps the state on a disk
    kept: KeptState | None = None  # of an earlier process, to go on from

    @classmethod
    def of(cls, request: LabRequest) -> LabOptions:
        """What a request asks for, in virtual time."""
        return cls(
            name=request.name,
            folder=request.folder,
            seed=request.seed,
            sizes=request.sizes,
            history=request.history,
            history_contents=request.history_contents,
            talk=request.talk,
        )


class Lab:
    """One lab. Methods are called on the world's thread."""

    def __init__(self, spec: LabSpec, options: LabOptions) -> None:
        self.spec = spec
        self.options = options
        self.seed = options.seed
        self.world = World(
            seed=options.seed,
            pace=options.pace,
            start_s=options.start_s,
            history=lambda now: History(now, options.history, contents=options.history_contents),
            port_is_free=options.port_is_free,
            durability=options.durability,
            kept=options.kept,
            remote=options.hub.connect if options.hub else None,
        )
        self.entropy: Entropy = self.world.entropy.child("lab")
        self.hub: HubClient = options.hub.client() if options.hub else DirectClient(self.world.hub)
        self.clients = _clients_of(self.world)
        self.started_s = self.world.now()
        self._specs: dict[str, MachineSpec] = {}
        self._infra_env_of: dict[str, InfraEnvSpec] = {}
        self._machine_by_host_id: dict[str, str] = {}
        self.options.folder.mkdir(parents=True, exist_ok=True)
        self._images = DiscoveryImages(self, options.talk)
        self.names = LabNames(self)
        self.serving: Serving | None = None  # its sockets, once it has some
        self.logins = Logins(self)
        add_components(self)
        self.driver: MachineDriver = options.driver(self) if options.driver else self._simulated_driver()
        self.faults = MachineFaults(self)
        self.machines_kind: str = getattr(self.driver, "name", type(self.driver).__name__)

    # -- making and removing ------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Create what the specification names: namespaces, pull secrets, InfraEnvs, machines (off)."""
        self._make_objects()
        self._make_machines()

    def resume(self) -> None:
        """Go on with what an earlier process has kept: the objects are there, and machines are what they were."""
        self._make_machines()
        if self.options.kept is not None and isinstance(self.driver, SimulatedDriver):
            self.driver.resume_from(self.options.kept.machines)
            self.options.kept.machines.clear()
        self.faults.forget()

    def _make_objects(self) -> None:
        name = self.options.name
        with self.acting("lab"):
            if not any(objects.is_default_class(present) for present in self.hub.list(STORAGE_CLASS)):
                self.hub.ensure(objects.default_storage_class(), STORAGE_CLASS)
            self.hub.ensure(objects.agent_service_config(), AGENT_SERVICE_CONFIG)
            secret = objects.pull_secret_text(self.entropy)
            for infra_env in self.spec.infra_envs:
                namespace = self.namespace_of(infra_env)
                self.hub.ensure(objects.namespace(namespace, name), NAMESPACE)
                self.hub.ensure(objects.pull_secret(namespace, secret, name), SECRET)
                self.hub.ensure(objects.infra_env(infra_env, namespace, name, self.ssh_public_key()), INFRA_ENV)

    def _make_machines(self) -> None:
        for group in self.spec.machines:
            infra_env = next(entry for entry in self.spec.infra_envs if entry.name == group.infra_env)
            for machine in group.machine_names():
                spec = self._machine_spec(machine, group)
                self._specs[machine] = spec
                self._infra_env_of[machine] = infra_env
                self._machine_by_host_id.setdefault(host_id_of(spec), machine)  # of several with one id, the first
                self.driver.ensure(spec)

    def remove(self) -> None:
        """Remove the machines; the hub's objects go with the world."""
        self.logins.close()
        for machine in sorted(self.driver.names()):
            self.driver.remove(machine)
        self.driver.close()

    def leave(self) -> None:
        """Let go of the machines, which stay as they are but for their faults."""
        self.faults.mend(self.faults.present())
        if not isinstance(self.driver, SimulatedDriver):  # those live in the log
            self.driver.close()

    def acting(self, who: str) -> Any:
        """A block whose writes are written down as `who`'s."""
        return _Acting(self.world, who)

    def _machine_spec(self, name: str, group: MachineGroup) -> MachineSpec:
        spec = machine_spec(name, group, self.options.sizes, self._machine_entropy())
        nics = tuple(dataclasses.replace(nic, network=self.options.network) for nic in spec.nics)
        return dataclasses.replace(spec, nics=nics)

    def _machine_entropy(self) -> Entropy:
        return self.entropy.child(f"machines/{self.options.identity}") if self.options.identity else self.entropy

    # -- what scenarios and commands ask -------------------------------------------------------------------------------

    def now(self) -> float:
        return self.world.now()

    def run_until(self, done: Callable[[], bool], deadline_s: float) -> bool:
        return self.world.run_until(done, deadline_s)

    def machine_names(self) -> list[str]:
        return list(self._specs)

    def namespace_of(self, infra_env: InfraEnvSpec) -> str:
        return infra_env.namespace or self.spec.namespace

    def agents(self) -> list[Object]:
        """The Agents of this lab's machines, by host id, in the order of the machines."""
        agents = []
        for host_id, machine in self._machine_by_host_id.items():
            namespace = self.namespace_of(self._infra_env_of[machine])
            agent = self.hub.get(AGENT, namespace, host_id)
            if agent is not None:
                agents.append(agent)
        return agents

    def agent_named(self, name: str) -> Object | None:
        """The Agent of one of this lab's machines, by host id; None while there is none."""
        machine = self._machine_by_host_id.get(name)
        if machine is None:
            return None
        return self.hub.get(AGENT, self.namespace_of(self._infra_env_of[machine]), name)

    def machine_of(self, agent: Object) -> str:
        """The machine that an Agent stands for, by its host id."""
        return self._machine_by_host_id.get(name_of(agent), name_of(agent))

    def power_of(self, machine: str) -> str:
        return self.driver.observe(machine).power.value

    def is_machine_stopped(self, agent: str) -> bool:
        """Whether the machine of an Agent (by name) is off, or kept by a fault from going on."""
        machine = self._machine_by_host_id.get(agent)
        if machine is None:
            return False
        return self.driver.observe(machine).power is not Power.ON or self.faults.meets(machine)

    def console_of(self, machine: str) -> bytes:
        return self.driver.console(machine) if isinstance(self.driver, HasConsole) else b""

    def hosted_client(self, cluster: str) -> HubClient | None:
        """The API of a hosted cluster, by the HostedCluster's name; None while nothing answers."""
        for owner, api in self.world.hosted.items():
            if owner.partition("/")[2] == cluster:
                return DirectClient(api.server)
        return None

    def create_hosted_cluster(self, step: CreateHostedClusterStep) -> None:
        """Create the objects that `hcp create cluster agent` makes."""
        if step.publish != "NodePort" and not isinstance(self.driver, SimulatedDriver):
            raise UsageError(
                f"hosted cluster {step.name!r} has Routes with {step.publish}; simulated machines alone reach those",
                hint="publish: NodePort, or --machines simulated",
            )
        agent_namespace = step.agent_namespace or self.namespace_of(self.spec.infra_envs[0])
        with self.acting("scenario"):
            for obj in hosted_cluster_objects(self, step, agent_namespace):
                kind = kind_of(obj)
                if kind == HOSTED_CLUSTER:
                    self.hub.create(obj, kind)
                else:
                    self.hub.ensure(obj, kind)

    def check_power(self, machine: str) -> None:
        """Raises NoPower where a fault keeps a machine from starting."""
        self.faults.check_power(machine)

    def insert_discovery_iso(self, machine: str) -> None:
        """Put the current discovery ISO of the machine's InfraEnv into its drive, downloading it if it is new. A drive
        whose media a fault keeps out stays empty."""
        if not self.faults.meets(machine, MachineFault.MEDIA_OUT):
            self.driver.insert_media(machine, self.discovery_iso(self._infra_env_of[machine]))

    def plug(self, machine: str, device: Disk | Nic) -> str:
        """Plug a disk or card into a machine; its name or MAC address."""
        view = self.driver.observe(machine)
        if isinstance(device, Disk):
            disk = new_disk(machine, device, view.disks)
            self.driver.plug(machine, disk)
            return disk.name
        nic = dataclasses.replace(
            new_nic(machine, device, view.nics, self._machine_entropy()), network=self.options.network
        )
        self.driver.plug(machine, nic)
        return nic.mac

    def discovery_iso(self, infra_env: InfraEnvSpec) -> Path:
        """The InfraEnv's discovery ISO as a file, from `status.isoDownloadURL` like any client has it."""
        return self._images.file_of(infra_env, self._iso_within_s())

    def _iso_within_s(self) -> float:
        return self.world.pace.floor_s(ISO_WITHIN_S, ISO_REAL_FLOOR_S)

    def has_changed(self) -> None:
        """Whoever waits looks again: something that is no object and no machine is other than it was."""
        self.world.changes += 1

    def fetch(self, url: str) -> Response:
        """GET a URL of this world, as its user would."""
        request = request_for_url("GET", url, client="lab")
        endpoint = self.world.fabric.find(request.host, request.scheme)
        if endpoint is None:
            raise LabError(f"nothing answers at {request.host}", hint="the lab's hub is not complete")
        answers: list[tuple[Any, BaseException | None]] = []

        def answered(value: Any, error: BaseException | None) -> None:
            answers.append((value, error))
            self.has_changed()

        self.world.answer(endpoint, request, answered)
        self.run_until(lambda: bool(answers), self.now() + self._iso_within_s())
        if not answers:
            raise LabError(f"{request.host} did not answer within {ISO_WITHIN_S:.0f} s")
        value, error = answers[0]
        if error is not None:
            raise error
        found: Response = value
        return found

    def ssh_public_key(self) -> str:
        """The lab's public key, which its InfraEnvs and hosted clusters carry."""
        from labsim.lab.ssh_key import public_key

        return public_key(self.entropy)

    def on_revision(self, listener: Callable[[Revision], None]) -> None:
        """Hear every write of the hub."""
        self.world.hub_server.subscribe(listener)

    # -- machines in the process -------------------------------------------------------------------------------------

    def _simulated_driver(self) -> SimulatedDriver:
        durability = self.options.durability
        driver = SimulatedDriver(
            scheduler=self.world.queue,
            entropy=self.world.entropy,
            transport=MachineTraffic(self.world, self.options.addresses.all_of_hub).carry,
            resolve=self.world.fabric.resolve,
            observe=self._machine_event,
            tell=None if durability is None else durability.add,
        )
        if durability is not None:
            durability.keep("machines", driver.everything)
        return driver

    def _machine_event(self, machine: str, what: str, fields: dict[str, Any]) -> None:
        self.world.changes += 1
        self.world.history.record("guest", machine=machine, what=what, **fields)


def _clients_of(world: World) -> HubClients | None:
    """Who uses the world's own hub; of a hub outside the process nobody here can know."""
    if world.hub_in_process is None:
        return None
    return HubClients(
        server=world.hub_in_process,
        scheduler=world.queue,
        entropy=world.entropy,
        history=world.history,
        act=world.act,
        informers=world.engine.hub_informers,
    )


class _Acting:
    def __init__(self, world: World, who: str) -> None:
        self._world = world
        self._who = who
        self._before = ""

    def __enter__(self) -> None:
        self._before, self._world.engine.acting = self._world.engine.acting, self._who

    def __exit__(self, *_: object) -> None:
        self._world.engine.acting = self._before
