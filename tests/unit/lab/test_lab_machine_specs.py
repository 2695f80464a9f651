"""Machines as the file describes them, and what is made of them."""

from __future__ import annotations

import pytest
import yaml

from labsim.entropy import Entropy
from labsim.errors import InvalidFile
from labsim.lab.machine_specs import host_id_of, machine_spec
from labsim.lab.sizes import Sizes, sizes_of
from labsim.machines.driver import CD_FIRST, DiskSpec, MachineSpec
from labsim.model.scenario import Scenario, parse_scenario

GIB = 1 << 30


def scenario(machines: str) -> Scenario:
    document = {
        "apiVersion": "labsim/v1alpha1",
        "kind": "Scenario",
        "metadata": {"name": "machines"},
        "spec": {
            "lab": {
                "infraEnvs": [{"name": "lab"}],
                "machines": [{"name": "worker", "infraEnv": "lab", **yaml.safe_load(machines)}],
            },
            "steps": [],
        },
    }
    return parse_scenario(yaml.safe_dump(document))


def specs(machines: str, sizes: Sizes = Sizes()) -> list[MachineSpec]:  # noqa: B008  (frozen)
    (group,) = scenario(machines).spec.lab.machines
    return [machine_spec(name, group, sizes, Entropy("lab")) for name in group.machine_names()]


DETAILS = """
disks:
  - {size: 1TiB, bus: sata, serial: SHELF-7, rotational: false}
  - {bus: scsi}
  - {}
  - {size: 120GiB, bus: nvme, wwn: "0x5254000000000001"}
nics: [{mac: "52:54:00:AA:BB:01"}, {}]
firmware: uefi-secure
tpm: true
cd: sata
boardSerial: BOARD 7
productUUID: 3B7A9D62-51D0-4D0E-8E5B-2A7C9B40D002
bootOrder: [discovery-iso, disk]
"""


def test_a_machine_is_what_the_file_says() -> None:
    (spec,) = specs(DETAILS)
    wwn = "0x5254000000000001"
    assert spec.disks == (
        DiskSpec(name="sda", size_bytes=1024 * GIB, serial="SHELF-7", rotational=False, bus="sata"),
        DiskSpec(name="sdb", size_bytes=120 * GIB, serial="worker-0-sdb", bus="scsi"),
        DiskSpec(name="vda", size_bytes=120 * GIB, serial="worker-0-vda"),
        DiskSpec(
            name="nvme0n1", size_bytes=120 * GIB, serial="worker-0-nvme0n1", rotational=False, bus="nvme", wwn=wwn
        ),
    )
    assert spec.nics[0].mac == "52:54:00:aa:bb:01"
    assert spec.nics[1].mac not in ("", spec.nics[0].mac)
    assert (spec.cd_bus, spec.boot_order) == ("sata", CD_FIRST)
    assert (spec.firmware, spec.tpm) == ("uefi-secure", True)
    assert (spec.board_serial, spec.product_uuid) == ("BOARD 7", "3b7a9d62-51d0-4d0e-8e5b-2a7c9b40d002")


def test_a_file_that_says_nothing_means_one_virtio_disk_and_one_card() -> None:
    (spec,) = specs("{}")
    assert spec.disks == (DiskSpec(name="vda", size_bytes=120 * GIB, serial="worker-0-vda"),)
    assert len(spec.nics) == 1
    assert host_id_of(spec) == spec.uuid


def test_a_profile_makes_further_disks_smaller_and_never_larger() -> None:
    (spec,) = specs("disks: [{}, {size: 100MiB}, {size: 2TiB}]", sizes_of("small"))
    assert [disk.size_bytes for disk in spec.disks] == [GIB, 100 << 20, GIB]


@pytest.mark.parametrize("given", ["boardSerial: BOARD 7", "productUUID: 3b7a9d62-51d0-4d0e-8e5b-2a7c9b40d002"])
def test_an_identity_that_is_given_is_every_machines_of_the_group(given: str) -> None:
    one, other = specs(f"{{count: 2, {given}}}")
    assert one.uuid != other.uuid
    assert host_id_of(one) == host_id_of(other) not in (one.uuid, other.uuid)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{disk: 10GiB, disks: [{}]}", "two ways to say the same"),
        ("{bootOrder: [disk, disk]}", "each once"),
        ("{bootOrder: [disk]}", "at least 2"),
        ("{disks: [{wwn: '0x5000c50000000001'}]}", "a virtio disk has no wwn"),
        ("{disks: [{rotational: false}]}", "cannot say that it is an SSD"),
        ("{disks: [{bus: nvme, rotational: true}]}", "does not rotate"),
        ("{disks: [{bus: floppy}]}", "Input should be"),
        ("{firmware: openfirmware}", "Input should be"),
        ("{firmware: uefi, disks: [{bus: nvme}]}", "let a disk of another bus be the first"),
        ("{disks: [{bus: scsi, wwn: '5000'}]}", "should match pattern"),
        ("{disks: [{serial: 'a,b'}]}", "should match pattern"),
        ("{nics: [{mac: '52:54:00'}]}", "should match pattern"),
        ("{nics: []}", "at least 1"),
    ],
)
def test_what_no_machine_can_be_is_said_with_its_place(wrong: str, says: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        scenario(wrong)
    (problem,) = caught.value.problems
    assert problem[0].startswith("spec.lab.machines[0]")
    assert says in problem[1]
