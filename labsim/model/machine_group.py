"""The machines of a lab as a person describes them: a group of equal ones, in as much detail as is wanted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from labsim.model.scenario_parts import Name, Part, Size

DEFAULT_DISK_BYTES = 120 * 2**30
_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_MAC = r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"
Bus = Literal["virtio", "scsi", "sata", "nvme"]
Source = Literal["disk", "discovery-iso"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Uuid = Annotated[str, BeforeValidator(_lower), Field(pattern=_UUID)]
Mac = Annotated[str, BeforeValidator(_lower), Field(pattern=_MAC)]


class Disk(Part):
    size: Size = DEFAULT_DISK_BYTES
    bus: Bus = "virtio"
    """Its name in the guest follows: vda, sda, nvme0n1."""
    serial: str | None = Field(default=None, min_length=1, max_length=20, pattern=r"^[A-Za-z0-9_.:+-]+$")
    """Made of the machine's and the disk's name where it is not given."""
    wwn: Annotated[str, BeforeValidator(_lower), Field(pattern=r"^0x[0-9a-f]{16}$")] | None = None
    """World wide name; of an NVMe disk its EUI-64. A virtio disk has none."""
    rotational: bool | None = None
    """An SSD where false. NVMe disks never rotate; a virtio disk always says that it does."""

    @model_validator(mode="after")
    def _possible(self) -> Disk:
        if self.bus == "virtio" and self.wwn is not None:
            raise ValueError("a virtio disk has no wwn: take bus scsi, sata or nvme")
        if self.bus == "virtio" and self.rotational is False:
            raise ValueError("a virtio disk cannot say that it is an SSD: take bus scsi, sata or nvme")
        if self.bus == "nvme" and self.rotational:
            raise ValueError("an NVMe disk does not rotate")
        return self


class Nic(Part):
    mac: Mac | None = None
    """Derived from the seed where it is not given."""


class MachineGroup(Part):
    """Machines `<name>-0`, `<name>-1` and so on, all the same. An identity that is given (a UUID, serial number, WWN or
    MAC address) is given to each of them: that is how duplicates are made on purpose."""

    name: Name
    count: int = Field(default=1, ge=1, le=5000)
    infra_env: Name = Field(alias="infraEnv")
    cpus: int = Field(default=4, ge=1, le=512)
    memory: Size = 16 * 2**30
    disk: Size | None = None
    """Size of the only disk, on the virtio bus; 120GiB by default. Several or other disks: `disks`."""
    disks: list[Disk] = Field(default_factory=list, max_length=16)
    """The machine starts from the first that holds a system."""
    nics: list[Nic] = Field(default_factory=lambda: [Nic()], min_length=1, max_length=8)
    firmware: Literal["bios", "uefi", "uefi-secure"] = "bios"
    """uefi-secure enforces secure boot: what is not signed is not started."""
    tpm: bool = False
    """A TPM 2.0."""
    cd: Literal["virtio", "sata"] | None = None
    """The bus of the CD drive (virtio is virtio-scsi). By default virtio for virtual machines, because small cloud
    kernels have no driver for SATA, and SATA for simulated ones."""
    product_uuid: Uuid | None = Field(default=None, alias="productUUID")
    """The system UUID that the firmware tells; the machine's own by default. The host id follows from it."""
    board_serial: str | None = Field(default=None, alias="boardSerial", max_length=64, pattern=r"^[ -~]+$")
    """Serial number of the board; none by default. Where there is one, the host id follows from it."""
    boot_order: list[Source] = Field(default=["disk", "discovery-iso"], alias="bootOrder", min_length=2, max_length=2)
    """The machine's own order, for every start that nobody picks. The other way round is wrong on purpose: an installed
    machine then starts the discovery ISO again."""

    @model_validator(mode="after")
    def _consistent(self) -> MachineGroup:
        if self.disk is not None and self.disks:
            raise ValueError("disk and disks are two ways to say the same: give one of them")
        if self.firmware != "bios" and self.all_disks()[0].bus == "nvme":
            raise ValueError(
                "UEFI keeps to no boot order with NVMe disks in it: let a disk of another bus be the first"
            )
        if self.boot_order[0] == self.boot_order[1]:
            raise ValueError("bootOrder names disk and discovery-iso, each once")
        return self

    def all_disks(self) -> list[Disk]:
        """The disks, also where only a size was given."""
        return self.disks or [Disk().model_copy(update={"size": self.disk or DEFAULT_DISK_BYTES})]

    def machine_names(self) -> list[str]:
        """`worker-0`, `worker-1`, ... in order."""
        return [f"{self.name}-{index}" for index in range(self.count)]
