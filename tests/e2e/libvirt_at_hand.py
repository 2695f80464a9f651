"""Whether machines can be made with libvirt here."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

PROGRAMS = ("libvirtd", "qemu-system-x86_64", "xorriso")


def missing_for_libvirt() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    found = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    return found if importlib.util.find_spec("libvirt") else [*found, "the libvirt binding"]


NEEDS_LIBVIRT = [
    pytest.mark.vm,
    pytest.mark.skipif(
        bool(missing_for_libvirt()),
        reason=f"libvirt machines cannot be made, missing: {', '.join(missing_for_libvirt())}",
    ),
]
