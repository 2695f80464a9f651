"""The shell of a simulated machine, and the port that QEMU forwards to a virtual one's."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.errors import LabError
from labsim.machines.libvirt import login
from labsim.machines.libvirt.login import forwarded_port, ssh_address
from labsim.machines.simulated.shell import SimulatedShell, authorized_keys


class Machine:
    """As much of a machine as a shell needs."""

    hostname = "worker-0"

    def __init__(self) -> None:
        self.files = {"/etc/hosts": b"127.0.0.1 localhost\n", "/home/core/notes": b"mine\n"}
        self.journal = ["guest: started", "agent: one", "agent: two"]
        self.did: list[str] = []

    def file(self, path: str) -> bytes | None:
        return self.files.get(path)

    def names_in(self, path: str) -> tuple[str, ...] | None:
        start = path.rstrip("/") + "/"
        return (
            tuple(sorted({name[len(start) :].split("/")[0] for name in self.files if name.startswith(start)})) or None
        )

    def store(self, path: str, data: bytes | None) -> None:
        if data is None:
            self.files.pop(path, None)
        else:
            self.files[path] = data

    def restart(self, reason: str) -> None:
        self.did.append(f"restart {reason}")

    def stop(self) -> None:
        self.did.append("stop")


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("hostname", 0, "worker-0\n"),
        ("cat /etc/hosts notes", 0, "127.0.0.1 localhost\nmine\n"),
        ("ls /etc /home", 0, "hosts\ncore\n"),
        ("sudo journalctl --no-pager -u agent.service -n 1", 0, "agent: two\n"),
        ("echo 'two words'; hostname", 0, "two words\nworker-0\n"),
        ("false && hostname", 1, ""),
        ("false; hostname", 0, "worker-0\n"),
        ("echo new > /tmp/a && cat /tmp/a && mv /tmp/a /tmp/b; cat /tmp/b; rm /tmp/b; ls /tmp", 1, "new\nnew\n"),
        ("cat /nothing", 1, ""),
        ("gdb", 127, ""),
        ("ls | wc", 2, ""),
        ("echo 'open", 2, ""),
        ("echo >", 2, ""),
        ("", 0, ""),
    ],
)
def test_a_line_prints_and_ends_as_in_a_shell(line: str, code: int, out: str) -> None:
    answer = SimulatedShell(Machine()).run(line)
    assert (answer.code, answer.out.decode()) == (code, out)
    assert bool(answer.err) == (code not in (0, 1) or "/nothing" in line or "ls /tmp" in line)


@pytest.mark.parametrize(
    ("line", "did"),
    [
        ("sudo reboot", ["restart by its user"]),
        ("sudo systemctl reboot", ["restart by its user"]),
        ("poweroff", ["stop"]),
        ("systemctl status", []),
    ],
)
def test_power_is_the_machines_own(line: str, did: list[str]) -> None:
    machine = Machine()
    SimulatedShell(machine).run(line)
    assert machine.did == did


def test_input_is_read_by_what_wants_it() -> None:
    machine = Machine()
    shell = SimulatedShell(machine)
    assert shell.reads_input("cat > /tmp/a")
    assert not shell.reads_input("cat /etc/hosts")
    shell.run("cat > /tmp/a", b"sent")
    assert machine.files["/tmp/a"] == b"sent"


def test_who_may_log_in_stands_in_the_ignitions_file() -> None:
    machine = Machine()
    assert authorized_keys(machine) == ()
    machine.files["/home/core/.ssh/authorized_keys.d/ignition"] = b"ssh-ed25519 AAAA me\n\nssh-rsa BBBB\n"
    assert authorized_keys(machine) == ("ssh-ed25519 AAAA", "ssh-rsa BBBB")


TABLE = """Hub -1 (hostnet0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   31       10.0.2.15 52612        10.0.2.2 22    0     0
  TCP[HOST_FORWARD]  20       127.0.0.1 41235        10.0.2.15 {port}     0     0
  UDP[236 sec]       30       10.0.2.15    68         10.0.2.2    67     0     0
"""


def test_a_forward_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def monitor(domain: Any, line: str) -> str:
        asked.append(line)
        made = any(earlier.startswith("hostfwd_add") for earlier in asked)
        return TABLE.format(port=22 if made else 80) if line == "info usernet" else ""

    monkeypatch.setattr(login, "_monitor", monitor)
    assert forwarded_port(None) == 41235
    assert forwarded_port(None) == 41235
    assert asked.count("hostfwd_add hostnet0 tcp:127.0.0.1:0-:22") == 1


def test_a_machine_without_a_user_mode_card_has_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_monitor", lambda domain, line: "" if line == "info usernet" else "no such net\r\n")
    with pytest.raises(LabError, match="no such net"):
        forwarded_port(None)


class FakeLibvirt:
    VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP = 0, 2
    VIR_IP_ADDR_TYPE_IPV4 = 0


class FakeDomain:
    """A domain in a network, whose addresses this host has from `source`."""

    def __init__(self, source: int, address: str = "192.168.130.21") -> None:
        self.source = source
        addresses = [{"type": 1, "addr": "fe80::1"}, {"type": 0, "addr": address}]
        self.cards = {
            "vnet1": {"hwaddr": "52:54:00:00:00:99", "addrs": [{"type": 0, "addr": "192.168.130.99"}]},
            "vnet0": {"hwaddr": "52:54:00:AA:00:01", "addrs": addresses},
        }

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        return """<domain><devices>
          <interface type="network"><mac address="52:54:00:aa:00:01"/></interface>
          <interface type="user"><mac address="52:54:00:00:00:99"/></interface>
        </devices></domain>"""

    def interfaceAddresses(self, source: int) -> Any:  # noqa: N802
        return self.cards if source == self.source else {}


@pytest.mark.parametrize("source", [0, 2], ids=["lease", "arp"])
def test_a_machine_in_a_network_is_reached_at_its_own_address(source: int) -> None:
    assert ssh_address(FakeLibvirt, FakeDomain(source)) == ("192.168.130.21", 22)


def test_a_machine_whose_address_nobody_knows_is_not_reached() -> None:
    with pytest.raises(LabError, match="knows no address of the machine's card 52:54:00:aa:00:01"):
        ssh_address(FakeLibvirt, FakeDomain(source=1))
