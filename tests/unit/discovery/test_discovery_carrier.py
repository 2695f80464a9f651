"""The carrier on host sockets: real requests, programs, keys and time."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from labsim import edge_time
from labsim.clock import VIRTUAL_EPOCH_S
from labsim.guest import effects, init
from labsim.guest.carrier_host import Files, HostCarrier, Pace
from labsim.guest.carrier_http import HttpClient, next_part
from labsim.guest.carrier_programs import echo_request
from labsim.guest.record_store import STORE_BYTES, RecordStore


class Hands:
    """A machine that notes what it is told to do."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []
        self.entries: list[str] = []
        self.reboots: list[str] = []

    def write_part(self, device: str, part: int, parts: int, ignition: bytes) -> None:
        if device == "/dev/broken":
            raise OSError(5, "the disk is failing")
        self.written.append((device, part))

    def set_boot_entry(self, kernel: bytes, initrd: bytes, command_line: str) -> None:
        self.entries.append(command_line)

    def reboot(self, reason: str) -> None:
        self.reboots.append(reason)


class Rig:
    """A carrier over a folder; `run` gives what the task returned."""

    def __init__(self, folder: Path, pace: Pace | None = None) -> None:
        self.lines: list[str] = []
        self.hands = Hands()
        self.carrier = HostCarrier(files=Files(str(folder)), hands=self.hands, print_line=self.lines.append, pace=pace)

    def run(self, task: effects.Task[Any]) -> Any:
        results: list[Any] = []

        def main() -> effects.Task[None]:
            results.append((yield from task))

        self.carrier.run(main())
        return results[0] if results else None


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


class Server:
    """An HTTPS server of the test; answers the path, and keeps the peers it was asked by."""

    def __init__(self, folder: Path) -> None:
        certificate, key = folder / "server.crt", folder / "server.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        self.ca_pem = certificate.read_text()
        self.peers: list[tuple[str, int]] = []
        self.go_on = threading.Event()  # what a watch waits for before its second event
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

            def watch(self) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"4\r\none\n\r\n")
                server.go_on.wait(10)
                self.wfile.write(b"4\r\ntwo\n\r\n0\r\n\r\n")

            def do_POST(self) -> None:
                server.peers.append(self.client_address)
                if self.path == "/watch":
                    self.watch()
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/slow":
                    edge_time.wait_s(0.4)
                self.send_response(404 if self.path == "/missing" else 200)
                self.send_header("X-Seen", self.headers.get("X-Sent", ""))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def one(effect: Any) -> effects.Task[Any]:
    return (yield effect)


def failed(effect: Any) -> effects.Task[str]:
    try:
        yield effect
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_a_request_over_tls(rig: Rig, server: Server) -> None:
    answer = rig.run(one(effects.Http("POST", f"{server.url}/x?y=1", {"X-Sent": "a"}, b"body", server.ca_pem)))
    assert (answer.status, answer.body, answer.headers["x-seen"]) == (200, b"body", "a")
    assert rig.run(one(effects.Http("GET", f"{server.url}/missing", {}, b"", server.ca_pem))).status == 404


def test_what_gives_no_answer_is_connection_failed(rig: Rig, server: Server) -> None:
    port = server.server.server_port
    cases = {
        f"{server.url}/untrusted": "CERTIFICATE_VERIFY_FAILED",
        f"https://localhost:{port}/": "Hostname mismatch|match|CERTIFICATE|refused",
        "https://127.0.0.1:1/": "refused",
        "https://no-such-name.invalid/": "",
        "ftp://127.0.0.1/": "not an http or https URL",
        "https://[::bad/": "",
    }
    for url, text in cases.items():
        message = rig.run(failed(effects.Http("GET", url, {}, b"", "" if "untrusted" in url else server.ca_pem)))
        assert message.startswith("ConnectionFailed: GET "), message
        assert not text or any(part in message for part in text.split("|")), message
    assert rig.run(one(effects.Http("GET", f"{server.url}/x", insecure=True))).status == 200


def test_a_connection_is_used_again(server: Server) -> None:
    client = HttpClient()
    server.peers.clear()
    for _ in range(3):
        client.send(effects.Http("GET", f"{server.url}/x", ca_pem=server.ca_pem), 5.0)
    assert len(server.peers) == 3
    assert len(set(server.peers)) == 1
    client.close()


def test_a_body_that_is_followed_comes_part_by_part(rig: Rig, server: Server) -> None:
    def follow() -> effects.Task[list[bytes]]:
        answer = yield effects.Http("GET", f"{server.url}/watch", ca_pem=server.ca_pem, follow=True)
        parts = [answer.body, (yield effects.NextPart(answer.rest))]
        server.go_on.set()
        return [*parts, (yield effects.NextPart(answer.rest)), (yield effects.NextPart(answer.rest))]

    server.go_on.clear()
    assert rig.run(follow()) == [b"", b"one\n", b"two\n", b""]


def test_a_followed_body_that_stays_away_is_connection_failed(server: Server) -> None:
    server.go_on.clear()
    answer = HttpClient().send(effects.Http("GET", f"{server.url}/watch", ca_pem=server.ca_pem, follow=True), 0.2)
    assert next_part(effects.NextPart(answer.rest)) == b"one\n"
    with pytest.raises(effects.ConnectionFailed, match="timed out"):
        next_part(effects.NextPart(answer.rest))
    server.go_on.set()


def test_an_answer_that_is_no_good_is_not_followed(rig: Rig, server: Server) -> None:
    answer = rig.run(one(effects.Http("GET", f"{server.url}/missing", {}, b"no", server.ca_pem, follow=True)))
    assert (answer.status, answer.body, answer.rest) == (404, b"no", None)


def test_polling_goes_on_beside_slow_work(rig: Rig, server: Server) -> None:
    order: list[str] = []

    def slow() -> effects.Task[None]:
        yield effects.Http("GET", f"{server.url}/slow", ca_pem=server.ca_pem)
        order.append("slow")

    def main() -> effects.Task[None]:
        handle = yield effects.Spawn(slow(), "slow")
        for _ in range(3):
            yield effects.Sleep(0.02)
            order.append("poll")
        yield effects.Join(handle)

    rig.run(main())
    assert order == ["poll", "poll", "poll", "slow"]


def test_pace_is_real_time_multiplied(tmp_path: Path) -> None:
    real_s = edge_time.real_s()
    text = f'{{"real_epoch_s": {real_s}, "world_epoch_s": {VIRTUAL_EPOCH_S}, "speed": 600}}'
    rig = Rig(tmp_path, Pace.parse(text))

    def measured() -> effects.Task[tuple[float, float]]:
        first = yield effects.Now()
        yield effects.Sleep(60.0)
        return first, (yield effects.Now())

    started_s = edge_time.monotonic_s()
    first, second = rig.run(measured())
    assert 60.0 <= second - first < 600.0
    assert edge_time.monotonic_s() - started_s < 1.0
    assert first - VIRTUAL_EPOCH_S < 600.0
    pace = rig.carrier.pace
    assert (pace.timeout_s(30.0), pace.timeout_s(5.0), pace.timeout_s(60_000.0)) == (30.0, 5.0, 100.0)


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"real_epoch_s":0,"world_epoch_s":0,"speed":0}'])
def test_a_wrong_pace_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Pace.parse(text)


def test_files_programs_and_disks(rig: Rig, tmp_path: Path) -> None:
    rig.run(one(effects.WriteFile("/etc/x/y", b"data", 0o600)))
    assert (tmp_path / "etc/x/y").stat().st_mode & 0o777 == 0o600
    (tmp_path / "etc/link").symlink_to("x")
    assert rig.run(one(effects.ReadFile("/etc/x/y"))) == b"data"
    assert rig.run(one(effects.ListDir("/etc"))) == ("link", "x")
    assert rig.run(one(effects.ReadLink("/etc/link"))) == "x"
    assert rig.run(failed(effects.ReadFile("/none"))).startswith("FileNotFoundError")
    assert rig.run(one(effects.Run(("cat",), b"in"))) == effects.Ran(0, b"in", b"")
    assert rig.run(one(effects.Run(("sleep", "9"), timeout_s=0.1))).exit_code == 124
    assert rig.run(failed(effects.Run(("no-such-program",)))).startswith("FileNotFoundError")
    assert rig.run(failed(effects.WriteDisk("/dev/broken", 0, 1, b""))) == "OSError: [Errno 5] the disk is failing"
    rig.run(one(effects.WriteDisk("/dev/vda", 0, 1, b"")))
    rig.run(one(effects.SetBootEntry(b"", b"", "a=b")))
    assert (rig.hands.written, rig.hands.entries) == ([("/dev/vda", 0)], ["a=b"])
    assert len(rig.run(one(effects.RandomBytes("x", 9)))) == 9
    assert "127.0.0.1" in rig.run(one(effects.Resolve("localhost")))
    assert rig.run(one(effects.Resolve("no-such-name.invalid"))) == ()
    rig.run(one(effects.Log("hello", "agent")))
    assert rig.lines[-1] == "agent: hello"


def test_reboot_ends_every_task(rig: Rig) -> None:
    ended: list[str] = []

    def other() -> effects.Task[None]:
        try:
            yield effects.Sleep(1000.0)
        except effects.TaskCancelled:
            ended.append("cancelled")
            raise

    def main() -> effects.Task[None]:
        yield effects.Spawn(other(), "other")
        yield effects.Sleep(0.01)
        yield effects.Reboot("test")
        ended.append("never")

    rig.run(main())
    assert (ended, rig.hands.reboots) == (["cancelled"], ["test"])


def test_a_task_that_fails_is_told_and_the_others_go_on(rig: Rig) -> None:
    def wrong() -> effects.Task[None]:
        yield effects.Sleep(0)
        raise RuntimeError("broken")

    def main() -> effects.Task[str]:
        yield effects.Spawn(wrong(), "wrong")
        yield effects.Sleep(0.02)
        return "on"

    assert rig.run(main()) == "on"
    assert rig.lines == ["wrong: ended with RuntimeError: broken"]


def test_a_certificate_request(rig: Rig) -> None:
    wanted = effects.MakeCsr("x", "system:node:worker-7", ("system:nodes", "more"), ("worker-7",), ("10.0.2.15",))
    key_pem, csr_pem = rig.run(one(wanted))
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    assert csr.is_signature_valid
    assert [(a.oid, a.value) for a in csr.subject] == [
        (NameOID.ORGANIZATION_NAME, "system:nodes"),
        (NameOID.ORGANIZATION_NAME, "more"),
        (NameOID.COMMON_NAME, "system:node:worker-7"),
    ]
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["worker-7"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.2.15"]
    assert "PRIVATE KEY" in key_pem
    _, bare = rig.run(one(effects.MakeCsr("x", "system:node:$a", ("system:nodes",))))
    assert list(x509.load_pem_x509_csr(bare.encode()).extensions) == []


def test_var_lib_is_on_the_disk_before_the_task_goes_on(tmp_path: Path) -> None:
    with (tmp_path / "store").open("w+b") as file:
        file.truncate(STORE_BYTES)
        files = Files(str(tmp_path / "root"), RecordStore.create(file.fileno(), 0))
        files.write("/var/lib/kubelet/key", b"k", 0o600)
        files.write("/etc/motd", b"m", 0o644)
        restored = Files(str(tmp_path / "after"), RecordStore.open(file.fileno(), 0))
        restored.restore()
    assert restored.read("/var/lib/kubelet/key") == b"k"
    assert restored.names("/") == ("var",)
    assert (tmp_path / "after/var/lib/kubelet/key").stat().st_mode & 0o777 == 0o600


def test_an_echo_request_adds_up() -> None:
    packet = echo_request(0x1234, 7)
    total = sum(int.from_bytes(packet[i : i + 2], "big") for i in range(0, len(packet), 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_early_files_are_the_inline_ones_only() -> None:
    ignition = (
        b'{"storage":{"files":[{"path":"/etc/hosts","contents":{"source":"data:,10.0.2.2%20hub"}},'
        b'{"path":"/etc/remote","contents":{"source":"https://x/"}},{"path":"/etc/none"}]}}'
    )
    assert init._inline_files(ignition) == {"/etc/hosts": b"10.0.2.2 hub"}
    for rubbish in (b"", b"[]", b'{"storage":3}', b"{"):
        assert init._inline_files(rubbish) == {}
