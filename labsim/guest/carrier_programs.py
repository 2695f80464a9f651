"""What a guest asks of the system around it, on a real one: programs, keys, names, echo requests. All of it blocks."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from labsim.guest.effects import MakeCsr, Ran, Run

OPENSSL_TIMEOUT_S = 60.0
PING_TIMEOUT_S = 2.0
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


def run_program(effect: Run, timeout_s: float) -> Ran:
    """Run a program. Raises FileNotFoundError; a program that outlives its time is killed and has exit code 124."""
    try:
        ended = subprocess.run(effect.argv, input=effect.stdin, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        return Ran(124, error.stdout or b"", (error.stderr or b"") + b"timed out")
    return Ran(ended.returncode, ended.stdout, ended.stderr)


def make_csr(request: MakeCsr) -> tuple[str, str]:
    """Key and request by the openssl program. Raises OSError where it is missing or fails."""
    with tempfile.TemporaryDirectory(prefix="labsim-csr-") as folder:
        key, config = Path(folder, "key.pem"), Path(folder, "request.cnf")
        config.write_text(csr_config(request))
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        made = _openssl("req", "-new", "-sha256", "-key", str(key), "-config", str(config))
        return key.read_text(), made.decode()


def csr_config(request: MakeCsr) -> str:
    """The openssl configuration of a request: its subject (O before CN, as kubelet has it) and alternative names."""
    names = [f"DNS:{name}" for name in request.dns_names] + [f"IP:{address}" for address in request.ip_addresses]
    subject = [f"{i}.O = {_escaped(name)}" for i, name in enumerate(request.organizations)]
    lines = ["[req]", "prompt = no", "distinguished_name = subject", "string_mask = utf8only", "utf8 = yes"]
    if names:
        lines.append("req_extensions = extensions")
    lines += ["[subject]", *subject, f"CN = {_escaped(request.common_name)}"]
    if names:
        lines += ["[extensions]", f"subjectAltName = {','.join(names)}"]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("$", "\\$").replace("#", "\\#")


def _openssl(*arguments: str) -> bytes:
    environment = {**os.environ, "OPENSSL_CONF": os.devnull}
    try:
        ended = subprocess.run(
            ("openssl", *arguments), capture_output=True, timeout=OPENSSL_TIMEOUT_S, check=True, env=environment
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        text = (error.stderr or b"").decode(errors="replace").strip()
        raise OSError(f"openssl {arguments[0]} failed: {text or error}") from error
    return ended.stdout


def resolve(name: str) -> tuple[str, ...]:
    """The addresses of a name, without doubles, in the resolver's order; empty where there are none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def ping(addresses: tuple[str, ...]) -> tuple[float | None, ...]:
    """One echo request to each IPv4 address at once; milliseconds, or None (IPv6 too: lab networks are IPv4)."""
    try:
        echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except OSError:  # not root
        return (None,) * len(addresses)
    with echo:
        return _ping(echo, addresses)


def _ping(echo: socket.socket, addresses: tuple[str, ...]) -> tuple[float | None, ...]:
    identity = os.getpid() & 0xFFFF
    sent_s: dict[int, float] = {}
    trips: list[float | None] = [None] * len(addresses)
    for number, address in enumerate(addresses):
        if _is_ipv4(address):
            try:
                echo.sendto(echo_request(identity, number), (address, 0))
            except OSError:
                continue
            sent_s[number] = _monotonic_s()
    deadline_s = _monotonic_s() + PING_TIMEOUT_S
    while any(trips[number] is None for number in sent_s):
        ready, _, _ = select.select([echo], [], [], max(0.0, deadline_s - _monotonic_s()))
        if not ready:
            break
        packet = echo.recv(2048)
        message = packet[(packet[0] & 0x0F) * 4 :]
        kind, _, _, its_identity, number = struct.unpack_from("!BBHHH", message)
        if kind == _ECHO_REPLY and its_identity == identity and number in sent_s:
            trips[number] = (_monotonic_s() - sent_s[number]) * 1000
    return tuple(trips)


def echo_request(identity: int, number: int) -> bytes:
    """An ICMP echo request with its checksum (RFC 792)."""
    payload = b"labsim__" * 4
    header = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identity, number)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, _checksum(header + payload), identity, number) + payload


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _is_ipv4(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 4
    except ValueError:
        return False


def _monotonic_s() -> float:
    return time.monotonic()  # noqa: TID251  (a carrier on real sockets is an edge)
