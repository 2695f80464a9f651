"""Who a machine is: the same for the same seed in virtual time, its lab's own where it shares a hypervisor."""

from __future__ import annotations

from pathlib import Path

from labsim.lab.lab import Lab, LabOptions
from labsim.machines.libvirt.driver import lab_mark
from labsim.model.scenario import load_scenario

SCENARIO = load_scenario(Path(__file__).parents[3] / "scenarios" / "label-selector.yaml")


def identities(folder: Path, identity: str, seed: str = "1") -> set[str]:
    """The UUIDs and MACs of a lab's machines."""
    lab = Lab(SCENARIO.spec.lab, LabOptions(name="one", folder=folder, seed=seed, identity=identity))
    lab.make()
    specs = [machine.spec for machine in lab.driver._machines.values()]  # type: ignore[attr-defined]
    return {spec.uuid for spec in specs} | {nic.mac for spec in specs for nic in spec.nics}


def test_simulated_machines_are_the_same_wherever_they_run(tmp_path: Path) -> None:
    assert identities(tmp_path / "a", "") == identities(tmp_path / "b", "")
    assert not identities(tmp_path / "a", "") & identities(tmp_path / "b", "", seed="2")


def test_machines_of_two_labs_on_one_hypervisor_share_nothing(tmp_path: Path) -> None:
    marks = [lab_mark(name, tmp_path / place) for name, place in (("one", "a"), ("one", "b"), ("two", "a"))]
    found = [identities(tmp_path / str(index), mark) for index, mark in enumerate(marks)]
    assert len(set().union(*found)) == sum(map(len, found))
    assert identities(tmp_path / "again", marks[0]) == found[0], "a lab that is opened again knows its machines"
