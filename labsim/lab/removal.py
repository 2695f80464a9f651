"""Removes what a dead lab left, by its ledger: only what stands there, and only where it carries the lab's mark."""

from __future__ import annotations

from pathlib import Path

from labsim.lab.ledger import Ledger, remove_all


def remove_leftovers(path: Path) -> None:
    """Remove everything that a ledger says was made and not removed. Quiet where nothing is left."""
    ledger = Ledger(path)
    if not ledger.pending():
        return
    from labsim.lab import kind, plain
    from labsim.machines.libvirt import domain_removal as libvirt

    remove_all(ledger, {**libvirt.removers(), **plain.removers(), **kind.removers()})
