"""The `cel` library without its command line program, which its package would load too, with a terminal tool kit."""

from __future__ import annotations

import functools
import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

_EXTENSION = "cel.cel"


@functools.cache
def cel_library() -> ModuleType:
    """The compiled module: compile, Context, OptionalValue. The whole package where it is laid out in another way."""
    loaded = sys.modules.get(_EXTENSION)
    if loaded is not None:
        return loaded
    package = importlib.util.find_spec("cel")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for suffix in EXTENSION_SUFFIXES:
            spec = importlib.util.spec_from_file_location(_EXTENSION, Path(folder) / f"cel{suffix}")
            if spec is not None and spec.loader is not None and Path(str(spec.origin)).exists():
                module = importlib.util.module_from_spec(spec)
                sys.modules[_EXTENSION] = module  # the package, if somebody imports it later, finds it there
                spec.loader.exec_module(module)
                return module
    return importlib.import_module("cel")
