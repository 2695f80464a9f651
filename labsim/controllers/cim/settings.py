"""How CIM is set up: its addresses, images, hardware minimums and time-outs. Defaults are upstream's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol


class BaseImage(Protocol):
    """The stored base ISO that discovery ISOs are overlaid on."""

    @property
    def path(self) -> Path: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OsImage:
    """An entry of OS_IMAGES: `version` is the operating system's build."""

    openshift_version: str
    version: str
    cpu_architecture: str = "x86_64"


DEFAULT_OS_IMAGES = (OsImage(openshift_version="4.18", version="418.94.202501221327-0"),)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RoleMinimum:
    """What a host of a role must have. disk_gb counts 10^9 bytes."""

    cpu_cores: int
    memory_mib: int
    disk_gb: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HardwareMinimums:
    """Host requirements by role (host-lifecycle 2.7)."""

    worker: RoleMinimum = RoleMinimum(cpu_cores=2, memory_mib=8192, disk_gb=100)
    arbiter: RoleMinimum = RoleMinimum(cpu_cores=2, memory_mib=8192, disk_gb=50)
    master: RoleMinimum = RoleMinimum(cpu_cores=4, memory_mib=16384, disk_gb=100)

    @classmethod
    def uniform(cls, *, cpu_cores: int, memory_mib: int, disk_gb: int) -> HardwareMinimums:
        """The same small minimums for every role, as `--profile small` wants them."""
        role = RoleMinimum(cpu_cores=cpu_cores, memory_mib=memory_mib, disk_gb=disk_gb)
        return cls(worker=role, arbiter=role, master=role)

    @property
    def any_cpu_cores(self) -> int:
        return min(self.worker.cpu_cores, self.master.cpu_cores)

    @property
    def any_memory_mib(self) -> int:
        return min(self.worker.memory_mib, self.master.memory_mib)

    @property
    def pool_disk_gb(self) -> int:
        """The smallest disk that any role takes: what counts while a host has no cluster."""
        return min(self.worker.disk_gb, self.arbiter.disk_gb)

    def role(self, role: str) -> RoleMinimum:
        """The minimum of a role; auto-assign counts as worker."""
        if role in ("master", "bootstrap"):
            return self.master
        return self.arbiter if role == "arbiter" else self.worker


STAGE_TIMEOUTS_S: Mapping[str, float] = {
    "Starting installation": 30 * 60.0,
    "Installing": 60 * 60.0,
    "Writing image to disk": 30 * 60.0,
    "Waiting for control plane": 60 * 60.0,
    "Rebooting": 40 * 60.0,
    "Waiting for ignition": 24 * 3600.0,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Every interval of the service, in in-world seconds (host-lifecycle 2.5 and 8)."""

    monitor_interval_s: float = 8.0
    max_disconnection_s: float = 180.0
    installing_s: float = 20 * 60.0
    reclaim_s: float = 60 * 60.0
    stage_s: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(STAGE_TIMEOUTS_S))
    other_stage_s: float = 60 * 60.0
    csr_requeue_s: float = 60.0
    error_requeue_s: float = 10.0
    infra_env_requeue_s: float = 20.0
    poll_s: int = 60
    backed_off_poll_s: int = 120

    def of_stage(self, stage: str) -> float:
        return self.stage_s.get(stage, self.other_stage_s)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CimSettings:
    """One CIM.

    reclaim: "upstream" decides as the service does (on for machines without BareMetalHost); "never" is a hub whose
    agents all have a BareMetalHost or whose reclaim always fails: every unbind of an installed host then waits for
    its user. It does not switch the image service off.
    hosts_entry: lines for /etc/hosts of the discovery system ("" for none): upstream has no such file, machines of a
    lab without DNS need it. name_server: what its resolver asks first, `ADDRESS:PORT` ("" for what DHCP says): a lab's
    own, which no user mode network can point to otherwise. pace_json: content of /etc/labsim/pace.json ("" for none),
    which only our own guest reads.
    base_image: None serves discovery Ignition but answers 503 for images.
    """

    service_base_url: str = "https://assisted-service.labsim.internal"
    image_service_base_url: str = "https://assisted-image-service.labsim.internal"
    namespace: str = "multicluster-engine"
    agent_image: str = "quay.io/edge-infrastructure/assisted-installer-agent:latest"
    installer_image: str = "quay.io/edge-infrastructure/assisted-installer:latest"
    controller_image: str = "quay.io/edge-infrastructure/assisted-installer-controller:latest"
    os_images: tuple[OsImage, ...] = DEFAULT_OS_IMAGES
    image_type: str = "minimal-iso"
    reclaim: Literal["upstream", "never"] = "upstream"
    minimums: HardwareMinimums = HardwareMinimums()
    timeouts: Timeouts = Timeouts()
    check_pull_secret: bool = True
    unauthenticated_registries: tuple[str, ...] = ("quay.io", "registry.ci.openshift.org")
    ca_pem: str = ""
    hosts_entry: str = ""
    name_server: str = ""
    pace_json: str = ""
    base_image: BaseImage | None = None
    agent_workers: int = 10
