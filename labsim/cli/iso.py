"""`labsim iso`: build a discovery ISO, and show what any discovery ISO holds."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

from labsim.cli.output import Format, print_document
from labsim.errors import ExitCode, UsageError
from labsim.guest.ignition import IgnitionFailed, parse
from labsim.lab.folder import cache_root
from labsim.model.quantities import format_size


def build_iso_file(target: Path, *, kernel: Path | None, modules: Path | None, ignition: Path | None) -> int:
    """Write a bootable ISO, with an Ignition in it where one is given."""
    from labsim.discovery.bootable import build_iso

    embedded = b""
    if ignition is not None:
        try:
            embedded = ignition.read_bytes()
            parse(embedded)
        except OSError as error:
            raise UsageError(f"{ignition} cannot be read: {error.strerror}") from error
        except IgnitionFailed as error:
            raise UsageError(f"{ignition} is no Ignition: {error}", hint="its ignition.version must be 3.x") from error
    image = build_iso(target, cache=cache_root(), kernel=kernel, modules=modules, ignition=embedded)
    sys.stderr.write(f"{format_size(image.size_bytes)}, boots as CD and as disk (BIOS)\n")
    sys.stdout.write(f"{image.path}\n")
    return int(ExitCode.PASSED)


def inspect_iso_file(file: Path, *, output: Format, show_secrets: bool) -> int:
    """Print an ISO's layout and its Ignition; secrets are masked unless they are asked for."""
    from labsim.discovery.inspect import inspect_iso

    view = inspect_iso(file, show_secrets=show_secrets)
    if output in (Format.JSON, Format.YAML):
        print_document(view.as_document(), output)
        return int(ExitCode.PASSED)
    if output is Format.NAME:
        sys.stdout.write(f"{view.volume_id}\n")
        return int(ExitCode.PASSED)
    area = view.ignition_area
    rows = [
        ("volume", view.volume_id),
        ("size", format_size(view.size_bytes)),
        ("kind", f"{view.kind}, {'hybrid: also boots as a disk' if view.hybrid else 'boots as CD only'}"),
        ("boot files", ", ".join(f"{name} {format_size(size)}" for name, size in view.boot_files.items()) or "none"),
        ("kernel arguments", " ".join(view.kernel_arguments)),
        ("embedded arguments", " ".join(view.extra_kernel_arguments) or "none"),
        ("rootfs", view.rootfs_url or "in the image"),
        ("ignition area", "none" if area is None else f"at {area.offset}, {area.used} of {area.length} bytes used"),
    ]
    for name, value in rows:
        sys.stdout.write(f"{name + ':':<20}{value}\n")
    if view.ignition is None:
        sys.stdout.write("ignition:           none is embedded\n")
    else:
        sys.stdout.write("ignition:\n" + orjson.dumps(view.ignition, option=orjson.OPT_INDENT_2).decode() + "\n")
    return int(ExitCode.PASSED)
