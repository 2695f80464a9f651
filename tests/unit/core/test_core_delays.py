"""The delays of a stream of events."""

from __future__ import annotations

from labsim.entropy import Delays, Entropy


def drawn(seed: str, purpose: str, count: int = 40) -> list[float]:
    delays = Delays(Entropy(seed, "engine"), purpose, 0.001, 0.015)
    return [delays.next_s() for _ in range(count)]


def test_the_nth_delay_depends_on_seed_and_purpose_alone() -> None:
    assert drawn("1", "a") == drawn("1", "a")
    assert not set(drawn("1", "a")) & set(drawn("2", "a"))
    assert not set(drawn("1", "a")) & set(drawn("1", "b"))


def test_delays_stay_in_their_range_and_do_not_repeat_from_block_to_block() -> None:
    found = drawn("1", "a", 400)
    assert all(0.001 <= delay_s < 0.015 for delay_s in found)
    assert len(set(found)) > 390
    assert min(found) < 0.0015
    assert max(found) > 0.0145
