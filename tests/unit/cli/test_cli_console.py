"""Following a console: what came since the last look, and nothing twice."""

from __future__ import annotations

import pytest

from labsim.cli.console import added


@pytest.mark.parametrize(
    ("seen", "text", "new"),
    [
        ("", "one\n", "one\n"),
        ("one\n", "one\ntwo\n", "two\n"),
        ("one\n", "one\n", ""),
        ("x" * 5000 + "\nlast\n", "x" * 4200 + "\nlast\nnext\n", "next\n"),
        ("long ago\n", "something else\n", "something else\n"),
    ],
    ids=["first", "more", "nothing", "beginning-lost", "everything-lost"],
)
def test_only_what_is_new_is_printed(seen: str, text: str, new: str) -> None:
    assert added(seen, text) == new
