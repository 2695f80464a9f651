"""Deletes a folder whose mark says whose it is, so that a crash half-way leaves a folder that still says so."""

from __future__ import annotations

import shutil
from pathlib import Path


def delete_marked_folder(folder: Path, mark: str) -> None:
    """Delete a folder; the file named `mark` goes last of what is in it. Raises OSError where something stays."""
    for child in folder.iterdir():
        if child.name == mark:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink(missing_ok=True)
    (folder / mark).unlink(missing_ok=True)
    folder.rmdir()
