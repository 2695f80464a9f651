"""What a person meets when something is wrong: one line with a hint, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STORY = SCENARIOS / "scale-down-and-reuse.yaml"
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    """Whether a file system can be mounted in a namespace of our own."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="this user may not mount in a namespace of its own")


def labsim(
    *arguments: object, cwd: Path, before: str = "true", after: str = "true", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a mount namespace, between two pieces of shell."""
    script = f'{before} || exit 99; "$@"; code=$?; {after} >&2; exit $code'
    command = [*NAMESPACE, "sh", "-c", script, "sh", sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
    known = {**os.environ, "XDG_STATE_HOME": str(cwd / "state"), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=known, timeout=120, check=False, cwd=cwd)


def assert_refused(done: subprocess.CompletedProcess[str], text: str, code: int = 4) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    assert text in done.stderr
    assert "hint: " in done.stderr
    assert done.stderr.count("labsim: ") == 1, "one line says what happened"


@pytest.fixture
def full(tmp_path: Path) -> Path:
    (tmp_path / "full").mkdir()
    return tmp_path


def disk_of(kib: int) -> str:
    return f"mount -t tmpfs -o size={kib}k none full"


@needs_mounts
@pytest.mark.parametrize(
    ("kib", "written"),
    [
        (4, "run.json"),
        (200, "base-plain"),  # the image that simulated machines boot
        (1500, "history.jsonl"),  # in the middle of the run
    ],
)
def test_a_disk_that_fills_up_during_a_run_ends_it_and_leaves_nothing(kib: int, written: str, full: Path) -> None:
    done = labsim("run", STORY, "--run-dir", "full/runs/one", cwd=full, before=disk_of(kib), after="find full")
    assert_refused(done, "No space left on device")
    assert written in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "full", "the run directory and the folder above it are gone"


@needs_mounts
@pytest.mark.parametrize("kib", [8, 100])
@pytest.mark.parametrize("flags", [(), ("--foreground",)], ids=["background", "foreground"])
def test_a_lab_on_a_full_disk_does_not_come_up_and_leaves_nothing(kib: int, flags: tuple[str, ...], full: Path) -> None:
    state = str(full / "full")
    done = labsim(
        "up", STORY, *flags, cwd=full, before=disk_of(kib), after="find full/labsim/labs", XDG_STATE_HOME=state
    )
    assert_refused(done, "No space left on device")
    assert done.stderr.strip().splitlines()[-1] == "full/labsim/labs"


@needs_mounts
def test_a_kubeconfig_that_cannot_be_written_ends_the_hub(full: Path) -> None:
    filled = f"{disk_of(4)} && dd if=/dev/zero of=full/other bs=4096 count=1 2>/dev/null"
    done = labsim(
        "hub", "serve", "--kubeconfig", "full/kubeconfig", cwd=full, before=filled, after="find full -name '*kube*'"
    )
    assert_refused(done, "cannot write full/kubeconfig: No space left on device")
    assert "\nfull" not in done.stderr


def test_a_used_port_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for arguments in (("hub", "serve"), ("up", STORY), ("up", STORY, "--foreground")):
            command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments), "--port", str(port)]
            environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=60, check=False, cwd=tmp_path
            )
            assert_refused(done, f"port {port} on 127.0.0.1 is in use")
    assert list(tmp_path.glob("state/labsim/labs/*")) == []
    assert not (tmp_path / "kubeconfig").exists()


@pytest.fixture
def without_binding(tmp_path: Path) -> str:
    """A PYTHONPATH on which libvirt's binding is not installed."""
    (tmp_path / "nothing" / "libvirt").mkdir(parents=True)
    (tmp_path / "nothing" / "libvirt" / "__init__.py").write_text("raise ImportError('No module named libvirt')\n")
    return os.pathsep.join([str(tmp_path / "nothing"), os.environ.get("PYTHONPATH", "")])


def run_on_vms(cwd: Path, *flags: str, **environment: str) -> Iterator[subprocess.CompletedProcess[str]]:
    for arguments in (("run", STORY, "--run-dir", "run"), ("up", STORY)):
        command = [sys.executable, "-m", "labsim.cli.main", *map(str, arguments)]
        command += ["--machines", "libvirt", "--profile", "small", *flags]
        known = {**os.environ, "XDG_STATE_HOME": str(cwd / "state"), **environment}
        yield subprocess.run(command, capture_output=True, text=True, env=known, timeout=60, check=False, cwd=cwd)
    assert not (cwd / "run").exists()
    assert list(cwd.glob("state/labsim/labs/*")) == []


def test_a_missing_binding_names_what_to_install(without_binding: str, tmp_path: Path) -> None:
    for done in run_on_vms(tmp_path, PYTHONPATH=without_binding):
        assert_refused(done, "the libvirt driver is not installed")
        assert "labsim[libvirt]" in done.stderr


@pytest.mark.vm
@pytest.mark.parametrize(
    ("uri", "text", "code"),
    [
        ("qemu:///session?socket=/nowhere/libvirt-sock", "libvirt does not answer", 4),
        ("test:///default", "the hypervisor is TEST, not QEMU", 2),
        ("qemu+ssh://elsewhere/system", "is on another host", 2),
    ],
)
def test_a_hypervisor_that_cannot_be_used_is_told_before_anything_is_made(
    uri: str, text: str, code: int, tmp_path: Path
) -> None:
    pytest.importorskip("libvirt", reason="libvirt's Python binding is not installed")
    for done in run_on_vms(tmp_path, "--connect", uri):
        assert_refused(done, text, code)


@needs_mounts
@pytest.mark.vm
def test_virtual_machines_on_a_disk_without_room_are_not_begun(full: Path) -> None:
    pytest.importorskip("libvirt", reason="libvirt's Python binding is not installed")
    if not shutil.which("xorriso") or not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU or xorriso is not installed")
    flags = ("--machines", "libvirt", "--profile", "small", "--run-dir", "full/run")
    done = labsim("run", STORY, *flags, cwd=full, before=disk_of(20_000), after="find full")
    assert_refused(done, "is too full")
    assert done.stderr.strip().splitlines()[-1] == "full"


@needs_mounts
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    boot_loader = next((place for place in ("/usr/lib/ISOLINUX", "/usr/share/syslinux") if Path(place).is_dir()), "")
    if not boot_loader or not shutil.which("xorriso"):
        pytest.skip("no ISO can be built here: isolinux or xorriso is not installed")
    (tmp_path / "empty").mkdir()
    hidden = f"mount --bind empty {boot_loader}"
    done = labsim("iso", "build", "x.iso", cwd=tmp_path, before=hidden, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert_refused(done, "is missing")
    assert "apt-get install isolinux" in done.stderr
    assert not (tmp_path / "x.iso").exists()
    assert not list((tmp_path / "cache").rglob("*.iso"))


@needs_mounts
def test_an_iso_that_does_not_fit_leaves_no_half_file(full: Path) -> None:
    if not shutil.which("xorriso"):
        pytest.skip("no ISO can be built here: xorriso is not installed")
    done = labsim("iso", "build", "full/x.iso", cwd=full, before=disk_of(1000), after="find full")
    assert_refused(done, "No space left on device")
    assert done.stderr.strip().splitlines()[-1] == "full"
    done = labsim(
        "iso", "build", "x.iso", cwd=full, before=disk_of(1000), after="find full -name '*.iso*' ! -name '*.lock'",
        XDG_CACHE_HOME=str(full / "full"),
    )  # fmt: skip
    assert_refused(done, "space left")


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(STORY.read_text().replace("boot:", "boots:", 1))
    (tmp_path / "two.yaml").write_bytes(b"\xff\xfe\x00")
    command = [sys.executable, "-m", "labsim.cli.main", "run", "one.yaml", "two.yaml", "three.yaml", str(STORY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "3 of 4 files are wrong" in done.stderr
    assert "one.yaml spec.steps[0].boots: unknown field 'boots' (did you mean boot?)" in done.stderr
    assert "two.yaml byte 0: is not text in UTF-8" in done.stderr
    assert "three.yaml: cannot be read: No such file or directory" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    command = f"{sys.executable} -m labsim.cli.main schema | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.stdout
    assert done.stderr == ""


def test_a_name_that_selects_nothing_is_exit_5(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "labsim.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    assert ask("up", str(STORY), "--speed", "100").returncode == 0
    try:
        for arguments in (("boot", "x*"), ("stop", "x"), ("scale", "no", "--replicas", "1"), ("get", "agents", "no")):
            assert_refused(ask(*arguments), "", code=5)
        assert_refused(ask("boot", "worker-0", "--from", "tape"), "cannot boot from 'tape'", code=2)
        assert_refused(ask("get", "agnets"), "did you mean agents?", code=2)
    finally:
        assert ask("down").returncode == 0
    assert "no lab is up" in ask("down").stderr
