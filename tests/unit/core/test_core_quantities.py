import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.model.quantities import format_duration, format_size, parse_duration_s, parse_size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800)]
)
def test_durations_are_read_with_their_units(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["15", "", "m", "15 parsecs", "-5m", "5m and a bit"])
def test_a_duration_without_a_unit_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and a unit"):
        parse_duration_s(text)


@pytest.mark.parametrize(("text", "size"), [("16GiB", 16 * 2**30), ("120GB", 120 * 10**9), ("512 MiB", 512 * 2**20)])
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@given(st.integers(1, 10**6))
def test_whole_seconds_are_written_so_that_they_can_be_read_back(seconds: int) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds


def test_sizes_are_written_in_the_largest_unit() -> None:
    assert [format_size(size) for size in (16 * 2**30, 1536 * 2**20, 900)] == ["16 GiB", "1.5 GiB", "900 B"]
