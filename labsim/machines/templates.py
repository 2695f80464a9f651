"""Finds the files of vm-templates/: in a checkout beside the package, in an installed wheel inside it."""

from __future__ import annotations

from pathlib import Path

import labsim
from labsim.errors import LabError

TEMPLATES = "vm-templates"


def template_directory() -> Path:
    """The directory that holds the templates; a LabError when the installation is incomplete."""
    package = Path(labsim.__file__).resolve().parent
    for candidate in (package / "shipped" / TEMPLATES, package.parent / TEMPLATES):
        if (candidate / "profiles.yaml").is_file():
            return candidate
    raise LabError(f"{TEMPLATES}/ is missing from this installation", hint="install labsim again: pip install labsim")
