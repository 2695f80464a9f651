"""What the program on a booted machine may ask of its carrier, as data.

A task is a generator: it yields an effect and is sent the answer, or the error is thrown into it. Three carriers run
the same tasks: the simulated machine under the world's clock, a process on host sockets, and PID 1 of a virtual
machine. Effects and answers are made by the thousand, so they are not frozen; nobody changes one.
This module and everything in `labsim.guest` uses the standard library alone and imports nothing else of labsim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Task = Generator[Any, Any, T]  # yields effects, is sent their answers, returns T


class ConnectionFailed(Exception):
    """No HTTP answer: refused, timed out, unknown name, or a certificate that the bundle does not vouch for."""


class TaskCancelled(Exception):
    """Thrown into a task that another one cancelled, or whose machine goes down."""


@dataclasses.dataclass(slots=True)
class Http:
    """One HTTPS or HTTP request. Answered with HttpAnswer; raises ConnectionFailed.

    `follow` is for a body that is made while it is sent (a watch): a good answer comes with its head, without any of
    the body, and NextPart brings what there is of that."""

    method: str
    url: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    ca_pem: str = ""  # "" trusts the system's bundle
    insecure: bool = False
    timeout_s: float = 30.0
    client_cert_pem: str = ""
    client_key_pem: str = ""
    follow: bool = False


@dataclasses.dataclass(slots=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    rest: Any = None  # the body of an answer that is followed, for NextPart


@dataclasses.dataclass(slots=True)
class NextPart:
    """Wait for more of a body. Answered with bytes as soon as there are some, b"" at the end; raises ConnectionFailed.
    `rest` is that of the answer, whose request's time-out is how long there may be nothing."""

    rest: Any


@dataclasses.dataclass(slots=True)
class Sleep:
    """Answered after that many in-world seconds."""

    seconds: float


@dataclasses.dataclass(slots=True)
class Now:
    """Answered with the machine's own clock: in-world epoch seconds, as a float."""


@dataclasses.dataclass(slots=True)
class ReadFile:
    """Answered with bytes; raises FileNotFoundError or OSError. /sys and /proc of a simulated machine are made up."""

    path: str


@dataclasses.dataclass(slots=True)
class ListDir:
    """Answered with a sorted tuple of names; raises FileNotFoundError or NotADirectoryError."""

    path: str


@dataclasses.dataclass(slots=True)
class ReadLink:
    """Answered with the link's target as text; raises OSError where the path is no link."""

    path: str


@dataclasses.dataclass(slots=True)
class WriteFile:
    """Write a file, making its folders. Paths under /var/lib outlive a reboot of an installed machine; others do not.
    WriteDisk takes all of them away: a newly installed system starts with an empty /var/lib."""

    path: str
    data: bytes
    mode: int = 0o644


@dataclasses.dataclass(slots=True)
class SystemVersion:
    """Answered with an int that grows whenever a file that describes the machine (/sys, /proc, /dev, /etc/hostname)
    changes, or with None where the carrier cannot tell: then such files are read again each time."""


@dataclasses.dataclass(slots=True)
class Resolve:
    """Look a name up with the system's resolver. Answered with a tuple of IP addresses, empty where there are none."""

    name: str


@dataclasses.dataclass(slots=True)
class Ping:
    """Send echo requests to all addresses at once. Answered with a tuple of the same length: the average round trip
    in milliseconds, or None where nothing came back."""

    addresses: tuple[str, ...]


@dataclasses.dataclass(slots=True)
class Run:
    """Run a program. Answered with Ran; raises FileNotFoundError where there is no such program."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    timeout_s: float = 60.0


@dataclasses.dataclass(slots=True)
class Ran:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclasses.dataclass(slots=True)
class RandomBytes:
    """Answered with `count` bytes: derived from the seed for `purpose` in a simulation, the kernel's in a VM."""

    purpose: str
    count: int = 16


@dataclasses.dataclass(slots=True)
class MakeCsr:
    """Make an EC P-256 key and a PKCS#10 request. Answered with (key PEM, CSR PEM), both text."""

    purpose: str
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class WriteDisk:
    """Write part `part` (from 0) of `parts` of the operating system to `device`; the last part also stores the
    Ignition configuration that the installed system starts with, and makes the disk bootable.
    Raises OSError where the disk is missing, full or failing."""

    device: str
    part: int
    parts: int
    ignition: bytes


@dataclasses.dataclass(slots=True)
class SetBootEntry:
    """Make the machine's disk boot this kernel and initrd at the next start, once (what reclaim writes to /boot).
    `initrd` carries the discovery Ignition in its last archive, as the service's pxe-initrd does."""

    kernel: bytes
    initrd: bytes
    command_line: str


@dataclasses.dataclass(slots=True)
class Reboot:
    """Restart the machine; every task ends and this is never answered."""

    reason: str = ""


@dataclasses.dataclass(slots=True)
class Spawn:
    """Run a task beside this one. Answered at once with a handle."""

    task: Task[Any]
    name: str


@dataclasses.dataclass(slots=True)
class Join:
    """Wait for a spawned task. Answered with what it returned; raises what it raised."""

    handle: Any


@dataclasses.dataclass(slots=True)
class Cancel:
    """Throw TaskCancelled into a spawned task. Answered at once."""

    handle: Any


@dataclasses.dataclass(slots=True)
class Log:
    """A line of the journal, which also goes to the console."""

    text: str
    unit: str = "guest"


def http(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    ca_pem: str = "",
    insecure: bool = False,
    timeout_s: float = 30.0,
    client_cert_pem: str = "",
    client_key_pem: str = "",
) -> Task[HttpAnswer]:
    answer: HttpAnswer = yield Http(
        method, url, headers or {}, body, ca_pem, insecure, timeout_s, client_cert_pem, client_key_pem
    )
    return answer


def sleep(seconds: float) -> Task[None]:
    yield Sleep(seconds)


def read_text(path: str, default: str | None = None) -> Task[str]:
    """A file's text without surrounding white space; `default` where it cannot be read (None: raise)."""
    try:
        data: bytes = yield ReadFile(path)
    except OSError:
        if default is None:
            raise
        return default
    return data.decode(errors="replace").strip()


@dataclasses.dataclass(slots=True)
class Boot:
    """How this machine started: `source` is discovery-iso, discovery-disk (a reclaim boot entry) or disk;
    `ignition` the configuration that came with it; `command_line` the kernel's."""

    source: str
    ignition: bytes
    command_line: str = ""
