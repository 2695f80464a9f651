"""What labs have on this host: by their folders, by their ledgers, and by the mark that every domain of ours carries.

Only looks. A thing is a lab's because a ledger names it and it is there, or because it carries a mark; never by a name.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from labsim.errors import LabError
from labsim.lab.folder import LAB_FOLDER, LEDGER, LabFolder, known_labs
from labsim.lab.ledger import Entry, Ledger
from labsim.machines.libvirt.domain_removal import DIRECTORY, DOMAIN
from labsim.machines.libvirt.files import MARK_FILE
from labsim.machines.libvirt.marked import MarkedDomain, marked_domains
from labsim.machines.libvirt.networks import NETWORK, MarkedNetwork, marked_networks
from labsim.machines.libvirt.session import SESSION_URI, has_session

RUNNING, DEAD = "running", "dead"
DISK, ISO = ".raw", ".iso"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One thing of a lab. state: whether the lab's process lives. remove: the shell command that takes it away."""

    kind: str
    identity: str
    lab: str
    state: str
    remove: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was found. problems: where nobody could look, so that nothing is known about it."""

    found: tuple[Leftover, ...]
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Owner:
    lab: str
    state: str
    remove: str

    def has(self, kind: str, identity: object) -> Leftover:
        return Leftover(kind=kind, identity=str(identity), lab=self.lab, state=self.state, remove=self.remove)


def search(root: Path) -> Search:
    """Everything that the labs below `root`, and the marked domains of this user's hypervisors, have on this host."""
    found: list[Leftover] = []
    problems: list[str] = []
    uris = {SESSION_URI} if has_session() else set()
    for folder in known_labs(root):
        try:
            if not folder.is_ours():
                continue
        except LabError as error:
            problems.append(f"{error.message} ({error.hint})")
            continue
        owner = _owner_of(folder)
        found += _in_folder(folder, owner)
        try:
            entries = Ledger(folder.ledger).pending()
        except LabError as error:
            problems.append(f"{error.message} ({error.hint})")
            continue
        uris |= {entry.detail.get("uri", SESSION_URI) for entry in entries if entry.kind in (DOMAIN, NETWORK)}
        for entry in entries:
            try:
                found += _named_by(entry, owner, folder.path)
            except (LabError, OSError) as error:
                problems.append(f"{entry.kind} {entry.identity} of lab {folder.name}: {error}")
    for uri in sorted(uris):
        try:
            domains, networks = marked_domains(uri), marked_networks(uri)
        except LabError as error:
            problems.append(f"{uri} cannot be asked: {error.message} ({error.hint})")
            continue
        for domain in domains:
            found += _of_domain(domain, root)
        found += [_of_network(network, root) for network in networks]
    return Search(found=tuple(dict.fromkeys(found)), problems=tuple(problems))


def _owner_of(folder: LabFolder) -> _Owner:
    return _Owner(folder.name, RUNNING if folder.is_running() else DEAD, f"labsim down {shlex.quote(folder.name)}")


def _in_folder(folder: LabFolder, owner: _Owner) -> Iterator[Leftover]:
    yield owner.has("folder", folder.path)
    if folder.socket.exists():
        yield owner.has("socket", folder.socket)
    if folder.is_running():
        yield owner.has("process", folder.facts()["pid"])
    for path in sorted(folder.path.rglob("*" + ISO)):
        yield owner.has("media", path)
    for path in sorted(folder.path.rglob("*" + DISK)):
        yield owner.has("volume", path)
    for pid in _hypervisor_processes(folder.path):
        yield owner.has("process", pid)


def _named_by(entry: Entry, owner: _Owner, folder: Path) -> Iterator[Leftover]:
    """What an entry of a ledger names, where it is there. Domains are found by their marks instead."""
    from labsim.lab import kind, plain

    if entry.kind == DIRECTORY:
        directory = Path(entry.identity)
        if directory.exists():
            yield owner.has("folder", directory)
        if directory.exists() and not directory.is_relative_to(folder):
            yield from (owner.has("volume", path) for path in sorted(directory.glob("*" + DISK)))
    elif entry.kind == plain.LEDGER_KIND:
        yield from (owner.has("object", text) for text in plain.objects_left(entry))
    elif entry.kind == kind.LEDGER_KIND and kind.is_left(entry):
        yield owner.has("kind cluster", entry.identity)


def _of_domain(domain: MarkedDomain, root: Path) -> Iterator[Leftover]:
    owner = _owner_of_domain(domain, root)
    yield owner.has("domain", domain.uuid)
    if domain.nvram is not None and domain.nvram.exists():
        yield owner.has("nvram", domain.nvram)
    if domain.folder is None or domain.folder.is_relative_to(root):
        return  # what lies in a known lab's folder has been named
    for directory in sorted((domain.folder / "machines").glob(f"*/{MARK_FILE}")):
        yield owner.has("folder", directory.parent)
        yield from (owner.has("volume", path) for path in sorted(directory.parent.glob("*" + DISK)))
    if domain.media is not None and domain.media.is_relative_to(domain.folder) and domain.media.exists():
        yield owner.has("media", domain.media)
    yield from (owner.has("process", pid) for pid in _hypervisor_processes(domain.folder))


def _owner_of_domain(domain: MarkedDomain, root: Path) -> _Owner:
    """A lab of the state folder; a run, by its directory; or a lab whose folder and ledger somebody deleted."""
    virsh = f"virsh -c {shlex.quote(domain.uri)}"
    by_hand = f"{virsh} undefine --nvram --managed-save {domain.uuid}; {virsh} destroy {domain.uuid}"
    return _owner_by_mark(domain, DOMAIN, by_hand, root)


def _of_network(network: MarkedNetwork, root: Path) -> Leftover:
    virsh = f"virsh -c {shlex.quote(network.uri)}"
    by_hand = f"{virsh} net-undefine {network.uuid}; {virsh} net-destroy {network.uuid}"
    return _owner_by_mark(network, NETWORK, by_hand, root).has("network", network.uuid)


def _owner_by_mark(thing: MarkedDomain | MarkedNetwork, kind: str, by_hand: str, root: Path) -> _Owner:
    """The lab that a mark names, if its ledger takes the thing with it; else the commands that do."""
    if thing.folder is None:
        return _Owner(thing.mark, DEAD, by_hand)
    folder = LabFolder(thing.folder)
    run = thing.folder.parent
    if thing.folder.parent == root.resolve() and _names(folder.ledger, kind, thing.uuid):
        return _owner_of(folder)
    if thing.folder.name == LAB_FOLDER and _names(run / LEDGER, kind, thing.uuid):
        return _Owner(thing.mark, RUNNING if folder.is_running() else DEAD, f"labsim down {shlex.quote(str(run))}")
    return _Owner(thing.mark, RUNNING if folder.is_running() else DEAD, by_hand)


def _names(ledger: Path, kind: str, identity: str) -> bool:
    """Whether a removal by this ledger takes the thing."""
    try:
        return any(entry.kind == kind and entry.identity == identity for entry in Ledger(ledger).pending())
    except LabError:
        return False


def _hypervisor_processes(folder: Path) -> list[int]:
    """QEMU processes that have a file of this folder open, by their command lines."""
    needle = os.fsencode(folder.resolve()) + b"/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]).startswith(b"qemu") and any(needle in word for word in words):
            found.append(int(process.name))
    return sorted(found)
