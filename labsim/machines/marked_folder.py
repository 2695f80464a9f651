"""Deletes a folder whose mark says whose it is, so that a crash half-way leaves a folder that still says so."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def delete_marked_folder(folder: Path, mark: str) -> None:
    """Delete a folder; the file named `mark` goes last of what is in it. What somebody else deletes meanwhile, as a
    process that is ending does with its own, is as good as deleted. Raises OSError where something stays."""
    with contextlib.suppress(FileNotFoundError):
        for child in folder.iterdir():
            if child.name == mark:
                continue
            if child.is_dir() and not child.is_symlink():
                _delete_tree(child)
            else:
                child.unlink(missing_ok=True)
        (folder / mark).unlink(missing_ok=True)
        folder.rmdir()


def _delete_tree(folder: Path) -> None:
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
