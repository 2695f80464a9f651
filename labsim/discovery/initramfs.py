"""The VM's whole system, an initramfs of this machine's own files: busybox, drivers, Python, an SSH server, the guest.

Python's modules go in compiled, so that nothing is compiled in a machine that is emulated in software. Which ones are
needed is found by importing the guest with the interpreter that goes in, in an isolated process; imports inside
functions are added by name. Programs, libraries and modules keep the paths they have here, so interpreter and dynamic
linker find them with their built-in defaults. Everything is sorted and dated 1970: the same input, the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import labsim.guest
from labsim.discovery.efi import find_efi_loader
from labsim.discovery.init_script import APPLETS, init_script, udhcpc_script
from labsim.discovery.kernel import KernelFiles, driver_files
from labsim.discovery.login import APPLETS as LOGIN_APPLETS
from labsim.discovery.login import START_PATH, USERS, login_files, server_programs
from labsim.discovery.packages import file_of_package, program
from labsim.errors import LabError
from labsim.guest import cpio

BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
DEBIAN_PYTHON = "/usr/bin/python3"
GUEST_FOLDER = "/usr/lib/labsim"
SUBPROCESS_TIMEOUT_S = 60
LATE_IMPORTS = ("encodings.idna", "encodings.utf_8", "encodings.ascii", "encodings.latin_1", "stringprep", "tarfile")
DEFAULT_LIBRARY_FOLDERS = re.compile(r"^(/usr)?/lib(64|/[a-z0-9_]+-linux-gnu)?$")

# Runs in the interpreter that goes into the image: imports the guest, says which files that took, compiles them.
_COLLECT = """
import importlib.util, json, marshal, pkgutil, sys
package_folder, late = sys.argv[1], sys.argv[2].split(",")
sys.path.insert(0, package_folder)
import labsim.guest
names = [m.name for m in pkgutil.walk_packages(labsim.guest.__path__, "labsim.guest.")]
for name in names + late:
    __import__(name)
wanted = set(sys.modules) | {"labsim", "labsim.guest", "encodings"}
found = {"stdlib": __import__("os").__file__.rsplit("/", 1)[0], "modules": {}, "libraries": {}}
for name in sorted(wanted):
    try:
        spec = importlib.util.find_spec(name)
    except (ValueError, ImportError):
        continue
    if spec is None or not spec.origin or name == "__main__":
        continue
    origin = getattr(spec.loader_state, "filename", None) or spec.origin
    if origin.endswith(".so"):
        found["libraries"][name] = origin
    elif origin.endswith(".py"):
        with open(origin, "rb") as file:
            source = file.read()
        code = compile(source, f"<{name}>", "exec", dont_inherit=True)
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
        found["modules"][name] = [origin, bool(spec.submodule_search_locations), (head + marshal.dumps(code)).hex()]
json.dump(found, sys.stdout)
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuestPython:
    """An interpreter and the guest compiled for it. `libraries` are extension modules; all by absolute path."""

    executable: Path
    modules: dict[str, bytes]  # path without suffix -> compiled module
    libraries: tuple[Path, ...]


def choose_python(wanted: Path | None = None) -> Path:
    """The interpreter for the VM: the distribution's own where it is new enough, else the one that runs us."""
    candidates = [wanted] if wanted else [Path(DEBIAN_PYTHON), Path(sys.executable)]
    for candidate in candidates:
        if candidate.exists() and _fits(candidate):
            return Path(_python_says(candidate, "import sys; print(sys._base_executable or sys.executable)")).resolve()
    raise LabError(
        f"no Python 3.11 with ssl for the virtual machine ({', '.join(map(str, candidates))})",
        hint="apt-get install python3, or name one with --python",
    )


def _fits(python: Path) -> bool:
    try:
        return _python_says(python, "import sys, ssl, json; print(sys.version_info >= (3, 11))") == "True"
    except LabError:
        return False


def _python_says(python: Path, code: str) -> str:
    return _run([str(python), "-I", "-c", code]).decode().strip()


def _run(command: list[str]) -> bytes:
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    try:
        ended = subprocess.run(command, check=True, capture_output=True, timeout=SUBPROCESS_TIMEOUT_S, env=environment)
    except subprocess.CalledProcessError as error:
        raise LabError(f"{command[0]} failed: {error.stderr.decode(errors='replace').strip()[-1500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{command[0]} could not be run: {error}") from error
    return ended.stdout


def collect_python(python: Path) -> GuestPython:
    """Compile the guest and every module of the standard library that it takes."""
    package_folder = Path(labsim.guest.__file__).parents[2]
    found = json.loads(
        _run([str(python), "-I", "-S", "-B", "-c", _COLLECT, str(package_folder), ",".join(LATE_IMPORTS)])
    )
    stdlib = str(found["stdlib"])
    modules = {}
    for name, (origin, is_package, code) in found["modules"].items():
        tail = "/".join(name.split(".")) + ("/__init__" if is_package else "")
        root = GUEST_FOLDER if name.split(".")[0] == "labsim" else stdlib
        del origin
        modules[f"{root}/{tail}"] = bytes.fromhex(code)
    libraries = tuple(Path(path) for path in found["libraries"].values())
    return GuestPython(executable=python, modules=modules, libraries=libraries)


def shared_libraries(files: Iterable[Path]) -> dict[str, Path]:
    """Every shared library that the programs need, the dynamic linker included: path in the image -> file here."""
    found: dict[str, Path] = {}
    output = _run([str(program("ldd", "libc-bin")), *map(str, files)]).decode()
    for line in output.splitlines():
        match = re.match(r"\s+(?:\S+ => )?(/\S+) \(0x", line)
        if match:
            found[match.group(1)] = Path(match.group(1)).resolve()
        elif "not found" in line:
            raise LabError(f"a shared library is missing: {line.strip()}")
    return found


def build_initramfs(kernel: KernelFiles, *, python: Path | None = None) -> bytes:
    """The archive, uncompressed. Raises LabError where a package is missing."""
    guest_python = collect_python(choose_python(python))
    openssl = program("openssl", "openssl").resolve()
    busybox = file_of_package(BUSYBOX, "busybox-static")
    drivers = driver_files(kernel)
    login = server_programs()
    binaries = [guest_python.executable, openssl, *login, *guest_python.libraries]
    libraries = shared_libraries(binaries)
    tree = _Tree()
    tree.add_file("/bin/busybox", busybox.read_bytes(), 0o755)
    known = _run([str(busybox), "--list"]).decode().split()
    for applet in (*APPLETS, *(applet for applet in LOGIN_APPLETS if applet in known)):
        tree.add(cpio.symbolic_link(f"/bin/{applet}", "busybox"))
    for path, file in libraries.items():
        tree.add_file(path, file.read_bytes(), 0o755)
    for binary in (guest_python.executable, *guest_python.libraries):
        tree.add_file(str(binary), binary.read_bytes(), 0o755)
    tree.add_file("/usr/bin/openssl", openssl.read_bytes(), 0o755)
    for path, code in guest_python.modules.items():
        tree.add_file(f"{path}.pyc", code)
    for name, data in drivers.items():
        tree.add_file(f"/lib/labsim-drivers/{name}.ko", data)
    for binary in login:
        tree.add_file(str(binary), binary.read_bytes(), 0o755)
    for path, script in login_files().items():
        tree.add_file(path, script, 0o755)
    start = START_PATH if login else ""
    tree.add_file("/init", init_script(guest_python.executable, list(drivers), _library_path(libraries), start), 0o755)
    tree.add_file("/etc/udhcpc.sh", udhcpc_script(), 0o755)
    tree.add_file("/etc/passwd", USERS.encode())
    tree.add_file("/etc/nsswitch.conf", b"hosts: files dns\n")
    for folder in ("/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/var/lib"):  # noqa: S108
        tree.add(cpio.folder(folder))
    tree.add(cpio.character_device("/dev/console", 5, 1))
    tree.add(cpio.character_device("/dev/null", 1, 3, 0o666))
    return tree.archive()


def _library_path(libraries: Iterable[str]) -> str:
    """Folders of libraries that the dynamic linker would not look into by itself (a Python that was not packaged)."""
    folders = {str(Path(path).parent) for path in libraries}
    return ":".join(sorted(folder for folder in folders if not DEFAULT_LIBRARY_FOLDERS.match(folder)))


def inputs_digest(kernel: KernelFiles, python: Path | None = None) -> str:
    """Changes when anything that goes into the archive does: files are told by path, size and time, our own by content.

    Quick, so that a cache can be asked before anything is built.
    """
    digest = hashlib.sha256()
    files = [kernel.kernel, kernel.modules / "modules.dep", choose_python(python)]
    files += [Path(path) for path in (*BUSYBOX, "/usr/bin/openssl") if Path(path).exists()]
    files += server_programs()
    loader = find_efi_loader()
    files += [file for _, file in loader.files] if loader else []
    for file in files:
        status = file.stat()
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    own = [*Path(labsim.guest.__file__).parent.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    for file in sorted(own):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


class _Tree:
    """Entries by path; parents are made where they are missing, and come first."""

    def __init__(self) -> None:
        self._entries: dict[str, cpio.Entry] = {}

    def add(self, entry: cpio.Entry) -> None:
        parts = entry.path.strip("/").split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            self._entries.setdefault(parent, cpio.folder(parent))
        path = "/".join(parts)
        self._entries[path] = dataclasses.replace(entry, path=path)

    def add_file(self, path: str, data: bytes, permissions: int = 0o644) -> None:
        self.add(cpio.plain_file(path, data, permissions))

    def archive(self) -> bytes:
        return cpio.archive(self._entries[path] for path in sorted(self._entries))
