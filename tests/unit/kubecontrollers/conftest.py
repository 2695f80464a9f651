"""The garbage collector is tested in the same world as Cluster API, which lives in the directory beside this one."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "capi"))
