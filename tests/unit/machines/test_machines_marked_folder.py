"""A marked folder goes, whoever else deletes in it.

Found when `labsim down` met a lab's own process that was ending: No such file or directory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labsim.machines.marked_folder import delete_marked_folder

MARK = "lab.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "lab"
    for number in range(100):
        below = made / "machines" / f"worker-{number}" / "disks"
        below.mkdir(parents=True)
        for disk in ("vda", "vdb", "vdc"):
            (below / disk).touch()
    (made / MARK).touch()
    return made


def test_two_that_delete_the_same_folder_do_not_stumble_over_each_other(folder: Path) -> None:
    with ThreadPoolExecutor(4) as deleting:
        for done in [deleting.submit(delete_marked_folder, folder, MARK) for _ in range(4)]:
            done.result()
    assert not folder.exists()


def test_what_stays_is_told_and_keeps_its_mark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(PermissionError):
        delete_marked_folder(folder, MARK)
    assert (folder / MARK).exists()
