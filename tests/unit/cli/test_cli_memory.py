"""Huge pages are asked for where memory is dense and has grown."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from labsim.cli import memory
from labsim.cli.memory import GROWTH_BYTES, MADV_COLLAPSE, HugePages, dense_mappings

MIB = 1 << 20


def mapping(
    start: int, size_bytes: int, rss_bytes: int, *, name: str = "", rights: str = "rw-p", inode: int = 0
) -> str:
    return (
        f"{start:x}-{start + size_bytes:x} {rights} 00000000 00:00 {inode} {name}\n"
        f"Size: {size_bytes // 1024} kB\nRss: {rss_bytes // 1024} kB\nVmFlags: rd wr mr mw me ac sd\n"
    )


def test_own_writable_memory_that_is_full_is_meant() -> None:
    texts = [
        mapping(0x10000000, 4 * MIB, 4 * MIB, name="[heap]"),
        mapping(0x20000000, 8 * MIB, 8 * MIB - 4096),
        mapping(0x30000000, 8 * MIB, MIB),  # a thread's stack
        mapping(0x40000000, 4 * MIB, 4 * MIB, name="/usr/lib/libc.so", inode=7),
        mapping(0x50000000, 4 * MIB, 4 * MIB, rights="r--p"),
        mapping(0x60000000, 4 * MIB, 4 * MIB, name="[stack]"),
    ]
    assert [start for start, _ in dense_mappings("".join(texts))] == [0x10000000, 0x20000000]


def test_it_is_asked_for_whole_pages_once_the_process_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(used_bytes: int) -> None:
        (tmp_path / "statm").write_text(f"1 {used_bytes // mmap.PAGESIZE} 1 1 0 1 0\n")

    monkeypatch.setattr(memory, "huge_page_bytes", lambda: 2 * MIB)
    small = mapping(0x30100000, 4 * MIB - 4096, 4 * MIB - 4096)  # holds one whole huge page
    smaller = mapping(0x40100000, 2 * MIB, 2 * MIB)  # holds none
    (tmp_path / "smaps").write_text(small + smaller)
    asked: list[tuple[int, int, int]] = []
    use(50 * MIB)
    pages = HugePages(lambda *wanted: asked.append(wanted), tmp_path)
    use(50 * MIB + GROWTH_BYTES - mmap.PAGESIZE)
    pages.collected("stop", {})
    assert asked == []
    use(50 * MIB + GROWTH_BYTES)
    pages.collected("start", {})
    assert asked == []
    pages.collected("stop", {})
    assert asked == [(0x30200000, 2 * MIB, mmap.MADV_HUGEPAGE), (0x30200000, 2 * MIB, MADV_COLLAPSE)]
    pages.collected("stop", {})
    assert len(asked) == 2
