"""The table of `labsim bench`: a figure that is missed is shown as missed."""

from __future__ import annotations

from labsim.cli.bench_figures import figure, table


def test_each_figure_stands_beside_its_target() -> None:
    rows = [
        figure("start", 0.4, "s", target=1.0),
        figure("agents", 140.25, "s", target=30.0),
        figure("  polls per agent", 17.0, ""),
    ]
    lines = table(rows).splitlines()
    assert lines[1].split() == ["start", "0.4", "s", "1", "s", "yes"]
    assert lines[2].split() == ["agents", "140.25", "s", "30", "s", "no"]
    assert lines[3].split() == ["polls", "per", "agent", "17"]
    assert [row.get("reached") for row in rows] == [True, False, None]
