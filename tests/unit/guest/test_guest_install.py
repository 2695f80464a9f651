"""The installer's road: stages, progress, logs, reboot; what fails and how; reclaim's boot entry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from guest_carrier import UUID, Carrier, answer
from test_guest_agent import HOSTS, INFRA_ENV, Service, poll, started, step

from labsim.guest.effects import ConnectionFailed

CLUSTER = "c1c1c1c1-0000-0000-0000-000000000001"
BASE = "/api/assisted-install/v2"
ORDER = {
    "boot_device": "/dev/disk/by-path/pci-0000:04:00.0",
    "cluster_id": CLUSTER,
    "infra_env_id": INFRA_ENV,
    "host_id": UUID,
    "role": "worker",
    "disks_to_format": [],
    "check_cvo": True,
}


def installing_service() -> Service:
    service = Service()
    service.polls = [poll(step("install", ORDER))]
    service.other = {
        ("PUT", f"{HOSTS}/{UUID}/progress"): answer(200),
        ("PUT", f"{HOSTS}/{UUID}/logs-progress"): answer(204),
        ("POST", f"{BASE}/clusters/{CLUSTER}/logs"): answer(204),
        ("GET", f"{BASE}/infra-env/{INFRA_ENV}/hosts/{UUID}/downloads/ignition"): answer(200, b'{"pointer":1}'),
        ("GET", f"{BASE}/clusters/{CLUSTER}"): answer(200, {"kind": "AddHostsCluster"}),
    }
    return service


def stages(carrier: Carrier) -> list[tuple[str, str]]:
    bodies = [json.loads(request.body) for request in carrier.seen("PUT", "/progress")]
    return [(body["current_stage"], body["progress_info"]) for body in bodies]


def test_the_stages_of_a_day_2_worker_and_the_reboot_a_minute_later() -> None:
    service = installing_service()
    carrier = started(service)
    carrier.run_for(59)
    reported = stages(carrier)
    writing = [info for stage, info in reported if stage == "Writing image to disk"]
    assert reported[:2] == [("Starting installation", "worker"), ("Installing", "worker")]
    assert writing[0] == ""
    percents = [int(info.rstrip("%")) for info in writing[1:]]
    assert percents[-1] == 100
    assert all(later - earlier >= 5 for earlier, later in zip([0, *percents], percents, strict=False))
    assert reported[-2:] == [("Waiting for control plane", ""), ("Rebooting", "")]
    assert {write.device for write in carrier.written} == {"/dev/vda"}
    assert [write.part for write in carrier.written] == list(range(carrier.written[0].parts))
    assert carrier.written[-1].ignition == b'{"pointer":1}'
    assert carrier.reboots == []
    assert "exit_code" not in service.replies[0]
    carrier.run_for(2)
    assert carrier.reboots == [(1_000_060, "installation done")]


def test_the_order_of_the_calls_on_the_way() -> None:
    carrier = started(installing_service())
    carrier.run_for(59)
    calls = [(request.method, request.url.split("/v2/")[1].split("?")[0]) for _, request in carrier.requests]
    wanted = [
        ("GET", f"infra-env/{INFRA_ENV}/hosts/{UUID}/downloads/ignition"),
        ("GET", f"clusters/{CLUSTER}"),
        ("PUT", f"infra-envs/{INFRA_ENV}/hosts/{UUID}/logs-progress"),
        ("POST", f"clusters/{CLUSTER}/logs"),
    ]
    assert sorted(wanted, key=calls.index) == wanted
    logs = [json.loads(request.body)["logs_state"] for request in carrier.seen("PUT", "/logs-progress")]
    assert logs == ["requested", "collecting", "completed"]


def test_the_uploaded_logs_are_an_archive_of_the_journal() -> None:
    carrier = started(installing_service())
    carrier.run_for(59)
    (upload,) = carrier.seen("POST", "/logs?")
    assert f"logs_type=host&host_id={UUID}&infra_env_id={INFRA_ENV}" in upload.url
    boundary = upload.headers["Content-Type"].partition("boundary=")[2].encode()
    head, _, rest = upload.body.partition(b"\r\n\r\n")
    assert b'name="upfile"' in head
    packed = rest.removesuffix(b"\r\n--" + boundary + b"--\r\n")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        member = archive.extractfile(archive.getmembers()[0])
        assert member is not None
        assert b"stage Starting installation worker" in member.read()


def test_a_second_install_step_is_refused_as_podman_does() -> None:
    service = installing_service()
    service.polls = [poll(step("install", ORDER, 1), step("install", ORDER, 2))]
    carrier = started(service)
    carrier.run_for(30)
    refused = next(reply for reply in service.replies if reply["step_id"] == "install-00000002")
    assert refused["exit_code"] == 125
    assert 'the container name "assisted-installer" is already in use' in refused["error"]
    assert [info for stage, info in stages(carrier) if stage == "Installing"] == ["worker"]


def test_a_failing_disk_is_tried_three_times_and_then_reported() -> None:
    service = installing_service()
    carrier = started(service)
    carrier.disk_errors = [OSError("Input/output error")] * 3
    carrier.run_for(30)
    assert stages(carrier)[-1][0] == "Failed"
    assert "Input/output error" in stages(carrier)[-1][1]
    assert service.replies[-1]["exit_code"] == 1
    carrier.run_for(300)
    assert carrier.reboots == []


def test_a_disk_that_fails_once_is_written_again() -> None:
    carrier = started(installing_service())
    carrier.disk_errors = [OSError("Input/output error")]
    carrier.run_for(59)
    assert stages(carrier)[-1] == ("Rebooting", "")


def test_an_ignition_that_does_not_come_is_asked_for_ten_times_more() -> None:
    service = installing_service()
    path = f"{BASE}/infra-env/{INFRA_ENV}/hosts/{UUID}/downloads/ignition"
    service.other["GET", path] = answer(404, {"reason": "host is unbound"})
    carrier = started(service)
    carrier.run_for(200)
    assert len(carrier.seen("GET", "/downloads/ignition")) == 11
    assert stages(carrier)[-1] == ("Failed", "failed to download the host ignition: status 404")


def test_a_conflict_on_progress_does_not_stop_the_installer() -> None:
    service = installing_service()
    service.other["PUT", f"{HOSTS}/{UUID}/progress"] = answer(409, {"reason": "Can't set progress"})
    carrier = started(service)
    carrier.run_for(59)
    assert stages(carrier)[-1] == ("Rebooting", "")


def test_a_stopped_installation_ends_and_does_not_reboot() -> None:
    service = installing_service()
    service.polls = [poll(step("install", ORDER)), poll(step("stop-installation"))]
    service.other["GET", f"{BASE}/clusters/{CLUSTER}"] = ConnectionFailed("down")
    carrier = started(service)
    carrier.run_for(65)
    assert {reply["step_type"]: reply.get("exit_code", 0) for reply in service.replies} == {
        "stop-installation": 0,
        "install": 137,
    }
    carrier.run_for(4000)
    assert carrier.reboots == []
    assert len(carrier.seen("GET", f"/clusters/{CLUSTER}")) < 40


def test_logs_gather() -> None:
    service = installing_service()
    argument = {"cluster_id": CLUSTER, "infra_env_id": INFRA_ENV, "host_id": UUID, "bootstrap": False}
    service.polls = [poll(step("logs-gather", argument))]
    carrier = started(service)
    carrier.run_for(5)
    assert carrier.seen("POST", "/logs?")
    assert "exit_code" not in service.replies[0]


ARTIFACTS = {
    "kernel_url": "https://img.example.com/boot-artifacts/kernel?arch=x86_64",
    "initrd_url": "https://img.example.com/images/x/pxe-initrd?api_key=secret",
    "rootfs_url": "https://img.example.com/boot-artifacts/rootfs?arch=x86_64",
    "host_fs_mount_dir": "/host",
}


def reclaiming_service() -> Service:
    service = Service()
    service.polls = [poll(step("download-boot-artifacts", ARTIFACTS))]
    service.other = {
        ("GET", "/boot-artifacts/kernel"): answer(200, b"KERNEL"),
        ("GET", "/images/x/pxe-initrd"): answer(200, b"INITRD"),
    }
    return service


def test_boot_artifacts_become_the_next_boot() -> None:
    service = reclaiming_service()
    carrier = started(service)
    carrier.files["/proc/cmdline"] = b"root=/dev/vda console=ttyS0\n"
    carrier.run_for(5)
    (entry,) = carrier.boot_entries
    assert (entry.kernel, entry.initrd) == (b"KERNEL", b"INITRD")
    assert f"coreos.live.rootfs_url={ARTIFACTS['rootfs_url']}" in entry.command_line
    assert entry.command_line.endswith("console=ttyS0")
    assert "exit_code" not in service.replies[0]


def test_boot_artifacts_are_tried_five_times_a_minute_apart() -> None:
    service = reclaiming_service()
    service.other["GET", "/images/x/pxe-initrd"] = answer(503)
    carrier = started(service)
    carrier.run_for(300)
    times = carrier.seen_at("GET", "pxe-initrd")
    assert times == [1_000_000 + 60 * number for number in range(5)]
    failed = service.replies[0]
    assert failed["exit_code"] == -1
    assert "secret" not in failed["error"]
    assert carrier.boot_entries == []


def test_reboot_for_reclaim_restarts_without_a_reply() -> None:
    service = reclaiming_service()
    service.polls = [poll(step("reboot-for-reclaim", {"host_fs_mount_dir": "/host"}), wait_s=120, action="exit")]
    carrier = started(service)
    carrier.run_for(5)
    assert [reason for _, reason in carrier.reboots] == ["reclaim"]
    assert service.replies == []


def test_only_day_2_workers_are_installed() -> None:
    service = installing_service()
    service.other["GET", f"{BASE}/clusters/{CLUSTER}"] = answer(200, {"kind": "Cluster"})
    carrier = started(service)
    carrier.run_for(59)
    assert stages(carrier)[-1][0] == "Failed"
