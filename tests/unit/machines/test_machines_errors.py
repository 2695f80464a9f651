"""Whatever libvirt or the system says becomes one clear line with a hint, exit code 4."""

from __future__ import annotations

import errno

import pytest

from labsim.errors import ExitCode, LabError
from labsim.machines.libvirt import errors


class FromLibvirt(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


# Messages as libvirt 9 and QEMU 7 give them.
SITUATIONS = [
    (errors.SYSTEM_ERROR, "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
     "connection-refused"),
    (errors.SYSTEM_ERROR, "Failed to connect socket to '/run/libvirt/virtqemud-sock': Connection refused",
     "connection-refused"),
    (errors.SYSTEM_ERROR, "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied", "permission"),
    (errors.SYSTEM_ERROR, "unable to connect to server at 'host:16509': No route to host", "connection-refused"),
    (errors.INTERNAL_ERROR, "client socket is closed", "connection-lost"),
    (errors.SYSTEM_ERROR, "Cannot recv data: Connection reset by peer", "connection-lost"),
    (errors.INVALID_CONN, "invalid connection pointer in virConnectGetVersion", "connection-lost"),
    (errors.INTERNAL_ERROR, "process exited while connecting to monitor: Could not open 'x.raw': Permission denied",
     "permission"),
    (errors.SYSTEM_ERROR, "cannot write data to file '/x/domain.xml': No space left on device", "no-space"),
    (errors.OPERATION_FAILED, "domain 'a' already exists with uuid 5b0c1c52", "name-exists"),
    (errors.OPERATION_FAILED, "domain is already active as 'a'", "name-exists"),
    (errors.NO_DOMAIN, "Domain not found: no domain with matching uuid '5b0c1c52'", "domain-gone"),
    (errors.NO_NETWORK, "Network not found: no network with matching name 'lab'", "no-network"),
    (errors.INTERNAL_ERROR, "internal error: Network is already in use by interface virbr0", "network-taken"),
    (errors.OPERATION_FAILED, "bridge name 'lab0' already in use.", "network-taken"),
    (errors.SYSTEM_ERROR, "Cannot check dnsmasq binary dnsmasq: No such file or directory", "no-dnsmasq"),
    (errors.AUTH_UNAVAILABLE, "authentication unavailable: no polkit agent available", "not-authorised"),
    (errors.NO_CONNECT, "no connection driver available for qemu:///nowhere", "unknown-uri"),
    (errors.INTERNAL_ERROR, "qemu unexpectedly closed the monitor: cannot set up guest memory",
     "no-memory"),
    (errors.INTERNAL_ERROR, "Cannot find suitable emulator for x86_64", "no-hypervisor-program"),
    (errors.CONFIG_UNSUPPORTED, "unsupported configuration: machine type q99", "not-supported"),
    (errors.OPERATION_TIMEOUT, "Timed out during operation: cannot acquire state change lock", "timeout"),
    (errors.INTERNAL_ERROR, "Could not access KVM kernel module: failed to initialize kvm", "no-kvm"),
    (4711, "something new", "anything-else"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message", "rule"), SITUATIONS, ids=[rule for _, _, rule in SITUATIONS])
def test_a_situation_is_known_and_says_what_to_do(code: int, message: str, rule: str) -> None:
    error = errors.from_libvirt(FromLibvirt(code, message))
    assert error.rule.name == rule
    assert message in error.message
    assert error.hint
    assert error.exit_code is ExitCode.LAB_FAILED


def test_every_line_of_the_table_is_reached_by_a_situation() -> None:
    assert {rule for _, _, rule in SITUATIONS} == {rule.name for rule in errors.RULES}
    assert all(rule.hint and rule.summary for rule in errors.RULES)


def test_every_error_number_of_libvirt_becomes_a_lab_error_with_a_hint() -> None:
    libvirt = pytest.importorskip("libvirt", reason="libvirt's Python binding is not installed")
    numbers = {name: value for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_")}
    assert len(numbers) > 90
    for name, code in numbers.items():
        error = errors.from_libvirt(FromLibvirt(code, name))
        assert isinstance(error, LabError)
        assert error.hint
    ours = {name: value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert ours == {name: numbers[f"VIR_ERR_{name}"] for name in ours}


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        (errno.ENOSPC, "no-space"),
        (errno.EDQUOT, "no-space"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.EROFS, "permission"),
        (errno.EIO, "anything-else"),
    ],
)
def test_an_error_of_the_system_is_translated_too(number: int, rule: str) -> None:
    import os

    error = errors.from_os(OSError(number, os.strerror(number), "/labs/x"), "making a disk")
    assert error.rule.name == rule
    assert "/labs/x" in error.message


def test_a_missing_binding_says_how_to_get_it() -> None:
    error = errors.not_installed(ModuleNotFoundError("No module named 'libvirt'"))
    assert "labsim[libvirt]" in error.hint
    assert error.exit_code is ExitCode.LAB_FAILED
